"""Results in order, whoever computes them."""

import threading
import time
from functools import partial

import pytest

from misc.errors import InputError
from misc.run.parallel import parallel_map


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
