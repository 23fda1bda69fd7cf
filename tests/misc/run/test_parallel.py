"""Results in order, whoever computes them."""

import subprocess
import sys
import threading
import time
from functools import partial
from typing import NamedTuple

import numpy as np
import pytest
import torch

from misc.errors import InputError
from misc.run import parallel as module
from misc.run.parallel import bytes_of, ordered_map, parallel_map
from tests.conftest import PROJECT


def square(x: int) -> int:
    return x * x


def square_early_ones_late(x: int) -> int:
    time.sleep(0.02 * (x < 3))
    return x * x


def own_thread(_: int) -> int:
    time.sleep(0.02)
    return threading.get_ident()


def fail_at(x: int, *, when: int, error: type[Exception]) -> int:
    if x == when:
        raise error(f"no {x}")
    return x


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("items", [[], [3], list(range(12))])
def test_order_is_kept(items, workers):
    found = list(parallel_map(square_early_ones_late, items, workers=workers, desc="test"))
    assert found == [x * x for x in items]


def test_workers_are_other_threads():
    found = set(parallel_map(own_thread, range(6), workers=2, desc="test"))
    assert threading.get_ident() not in found and len(found) == 2
    assert set(parallel_map(own_thread, range(6), workers=0, desc="test")) == {threading.get_ident()}


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("error", [InputError, ValueError])
def test_an_exception_of_the_function_comes_when_its_turn_comes(workers, error):
    results = parallel_map(partial(fail_at, when=2, error=error), range(8), workers=workers, desc="test")
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(error, match=r"^no 2$"):
        next(results)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_generator_is_not_run_ahead_of_the_work(workers):
    made = []

    def items():
        for i in range(100):
            made.append(i)
            yield i

    results = parallel_map(square, items(), workers=workers, desc="test", total=100)
    assert made == []
    assert next(results) == 0
    assert len(made) <= 2 * workers + 2
    for done in range(1, 20):
        next(results)
        assert len(made) <= done + 2 * workers + 2
    results.close()
    assert len(made) < 100


def test_a_result_that_is_ready_does_not_wait_for_items_that_take_long():
    made, squared = [], []

    def items():
        for i in range(20):
            while len(squared) < i:
                time.sleep(0.001)
            time.sleep(0.05)  # the item takes longer than what is done with it
            made.append(i)
            yield i

    def note(x: int) -> int:
        squared.append(x)
        return x

    results = parallel_map(note, items(), workers=2, desc="test", total=20)
    for done in range(1, 10):
        next(results)
        assert len(made) <= done + 2
    results.close()


@pytest.mark.parametrize("workers", [0, 2])
def test_an_exception_of_the_generator_comes_through(workers):
    def items():
        yield 1
        raise InputError("no CAM")

    with pytest.raises(InputError, match="no CAM"):
        list(parallel_map(square, items(), workers=workers, desc="test"))


class Tray(NamedTuple):
    name: str
    arrays: list[object]


def test_bytes_of_what_lies_within():
    grey, map_ = np.zeros((3, 5), np.uint8), torch.zeros(2, 7)
    assert [bytes_of(value) for value in (None, "ID", 5, [], np.float32(1))] == [0, 0, 0, 0, 4]
    assert bytes_of(grey) == 15 and bytes_of(map_) == 56
    assert bytes_of(("ID", (3, 5), [grey, map_])) == bytes_of(Tray("ID", [grey, {"map": map_}])) == 71


class Kitchen:
    """Makes arrays of so many bytes; knows how many bytes were made or begun at most before they were handed out."""

    def __init__(self, sizes: list[int]) -> None:
        self.sizes = sizes
        self.begun = self.done = self.handed_out = self.most = 0
        self._lock = threading.Lock()

    def make(self, number: int) -> np.ndarray:
        with self._lock:
            self.begun += 1
            self.most = max(self.most, self.ahead())
        array = np.full(self.sizes[number], number, np.uint8)
        with self._lock:
            self.done += 1
        return array

    def ahead(self) -> int:
        return sum(self.sizes[self.handed_out : self.begun])

    def settled(self) -> int:
        """How many are done, once no more come."""
        before, since = -1, time.monotonic()
        while before != self.done or time.monotonic() - since < 0.03:
            if before != self.done:
                before, since = self.done, time.monotonic()
            time.sleep(0.002)
        return self.done


@pytest.mark.parametrize("workers", [1, 3, 64])
def test_no_more_is_made_ahead_than_there_is_room_for(workers):
    """However many workers; and a caller that is slow finds as much as fits."""
    kitchen = Kitchen([1000] * 60)
    results = ordered_map(kitchen.make, range(60), workers=workers, most_bytes=10_500)
    for number, result in enumerate(results):
        assert result[0] == number and len(result) == 1000
        kitchen.handed_out += 1
        if number < 30:
            assert kitchen.settled() == number + 1 + min(10, 2 * workers)
    assert kitchen.done == 60
    assert kitchen.most <= 11_000  # one is in the caller's hands before it is counted as handed out


def test_room_is_for_the_largest_until_now_while_it_is_not_known():
    sizes = [100] * 5 + [4000] + [100] * 30
    kitchen = Kitchen(sizes)
    results = ordered_map(kitchen.make, range(len(sizes)), workers=64, most_bytes=9000)
    for number, result in enumerate(results):
        kitchen.handed_out += 1
        assert result[0] == number and len(result) == sizes[number]
        if number > 5:  # 9000 = done ones of 100 + what runs, taken to be of 4000
            assert kitchen.settled() == len(sizes)
    assert kitchen.done == len(sizes)


def test_what_is_larger_than_the_room_is_made_one_at_a_time_and_still_beside_the_caller():
    kitchen = Kitchen([1000] * 8)
    for number, _ in enumerate(ordered_map(kitchen.make, range(8), workers=64, most_bytes=10), start=1):
        kitchen.handed_out += 1
        assert kitchen.settled() == min(number + 1, 8)


def test_the_first_is_made_alone_since_nothing_is_known_of_its_size():
    kitchen, gate = Kitchen([1000] * 9), threading.Event()

    def make(number: int) -> np.ndarray:
        array = kitchen.make(number)
        assert gate.wait(60)
        return array

    results = ordered_map(make, range(9), workers=64, most_bytes=2500)
    threading.Timer(0.1, gate.set).start()
    begun = []
    threading.Timer(0.05, lambda: begun.append(kitchen.begun)).start()
    next(results)
    assert begun == [1]
    results.close()


@pytest.mark.parametrize("error", [InputError, ValueError])
def test_an_exception_comes_in_its_turn_also_where_room_is_short(error):
    def make(number: int) -> np.ndarray:
        if number == 2:
            raise error("no 2")
        return np.zeros(1000)

    results = ordered_map(make, range(20), workers=64, most_bytes=100)
    next(results), next(results)
    with pytest.raises(error, match=r"^no 2$"):
        next(results)


def test_a_program_that_fails_while_results_wait_for_room_ends():
    """Its traceback holds them to the end."""
    program = """
import numpy as np
from misc.run.parallel import ordered_map
def consume():
    for _ in ordered_map(lambda _: np.zeros(1000), range(200), workers=8, most_bytes=100):
        raise ValueError("of the caller")
consume()
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and done.stderr.rstrip().endswith("ValueError: of the caller")


def test_workers_that_wait_for_room_end_when_nobody_wants_more():
    before = set(threading.enumerate())
    results = ordered_map(lambda _: np.zeros(1000), range(200), workers=64, most_bytes=100)
    next(results)
    results.close()
    assert set(threading.enumerate()) == before


def test_items_that_hold_arrays_are_not_run_ahead_of_the_room(monkeypatch):
    """As the network's maps, which wait for a thread that works on them."""
    monkeypatch.setattr(module, "MOST_BYTES", 3500)
    made, gate = [], threading.Event()

    def items():
        for number in range(40):
            made.append(number)
            yield Tray(str(number), [np.zeros(1000, np.uint8)])

    def finish(tray: Tray) -> str:
        assert gate.wait(60)
        return tray.name

    results = ordered_map(finish, items(), workers=64)
    threading.Timer(0.1, gate.set).start()
    counted = []
    threading.Timer(0.05, lambda: counted.append(len(made))).start()
    assert next(results) == "0"
    assert counted == [4]  # the fourth is made before it is known that it does not fit
    assert list(results) == [str(number) for number in range(1, 40)]
