"""Batches in a fixed order, whoever loads them."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import Dataset, default_collate

from misc.errors import InputError
from misc.train.loading import batches_of, epoch_batches, load_batches, load_each, sample_rng
from tests.conftest import PROJECT


class Noise(Dataset):
    """A sample is random numbers that belong to it, and its index."""

    def __getitem__(self, key):
        epoch, index = key if isinstance(key, tuple) else (0, key)
        return sample_rng(5, epoch, index).random((2, 3)).astype(np.float32), np.int64(index)


class Fails(Noise):
    def __init__(self, action) -> None:
        self.action = action

    def __getitem__(self, key):
        if key == 3:
            self.action()
        return super().__getitem__(key)


def refuse() -> None:
    raise InputError("c.jpg: cannot be read as an image")


def break_down() -> None:
    raise RuntimeError("a defect of the data set")


@given(n=st.integers(0, 40), batch_size=st.integers(1, 12), seed=st.integers(0, 2**32 - 1), epoch=st.integers(0, 9))
def test_an_epoch_is_whole_batches_of_different_samples(n, batch_size, seed, epoch):
    batches = epoch_batches(n, batch_size=batch_size, seed=seed, epoch=epoch)
    assert len(batches) == n // batch_size
    assert all(len(batch) == batch_size for batch in batches)
    samples = [sample for batch in batches for sample in batch]
    assert len(set(samples)) == len(samples)
    assert {e for e, _ in samples} <= {epoch} and {i for _, i in samples} <= set(range(n))


def test_the_order_depends_on_seed_and_epoch_only():
    def order(seed: int, epoch: int) -> list[int]:
        return [i for batch in epoch_batches(50, batch_size=5, seed=seed, epoch=epoch) for _, i in batch]

    first = order(5, 0)
    np.random.seed(1)
    torch.manual_seed(1)
    assert order(5, 0) == first
    assert len({tuple(order(*key)) for key in [(5, 0), (5, 1), (6, 0), (0, 5)]}) == 4
    assert first != sorted(first)


def test_random_numbers_belong_to_the_sample():
    keys = [(5, 0, 0), (5, 0, 1), (5, 1, 0), (6, 0, 0), (0, 5, 0)]
    numbers = [sample_rng(*key).random(4).tolist() for key in keys]
    assert numbers == [sample_rng(*key).random(4).tolist() for key in keys]
    assert len({tuple(n) for n in numbers}) == len(keys)


@pytest.mark.parametrize(
    ("n", "batch_size", "expected"),
    [(5, 2, [[0, 1], [2, 3], [4]]), (4, 2, [[0, 1], [2, 3]]), (1, 16, [[0]]), (0, 3, [])],
)
def test_batches_of_everything(n, batch_size, expected):
    assert batches_of(n, batch_size) == expected


def test_workers_change_nothing():
    batches = [b for epoch in range(2) for b in epoch_batches(7, batch_size=3, seed=5, epoch=epoch)]
    loaded = {workers: list(load_batches(Noise(), batches, workers=workers)) for workers in (0, 2)}
    assert [index.tolist() for _, index in loaded[0]] == [[i for _, i in batch] for batch in batches]
    for alone, together in zip(loaded[0], loaded[2], strict=True):
        assert alone[0].dtype == torch.float32 and alone[0].shape == (3, 2, 3)
        assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))
    np.testing.assert_array_equal(loaded[0][0][0][1], Noise()[batches[0][1]][0])


class Arrays(Noise):
    """The kinds of arrays that the networks are fed, mirrored ones among them."""

    def __getitem__(self, key):
        noise = sample_rng(5, 0, key).random((3, 4, 5)).astype(np.float32)
        return noise[:, :, ::-1], (9 * noise[0]).astype(np.uint8), noise[1] > 0.5, np.float32(key), np.int64(key)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_batch_is_what_torch_makes_of_the_samples(workers):
    dataset = Arrays()
    for batch, loaded in zip(batches_of(5, 2), load_batches(dataset, batches_of(5, 2), workers=workers), strict=True):
        expected = default_collate([tuple(part.copy() for part in dataset[index]) for index in batch])
        assert [part.dtype for part in loaded] == [part.dtype for part in expected]
        assert all(torch.equal(a, b) and a.stride() == b.stride() for a, b in zip(loaded, expected, strict=True))


@pytest.mark.parametrize("workers", [0, 2])
def test_one_by_one(workers):
    samples = list(load_each(Noise(), 5, workers=workers))
    assert [int(index) for _, index in samples] == list(range(5))
    for i, (noise, _) in enumerate(samples):
        assert isinstance(noise, torch.Tensor)
        np.testing.assert_array_equal(noise, Noise()[i][0])


def load(way: str, workers: int, action) -> list:
    dataset = Fails(action)
    if way == "batches":
        return list(load_batches(dataset, batches_of(6, 2), workers=workers))
    return list(load_each(dataset, 6, workers=workers))


@pytest.mark.parametrize("way", ["batches", "each"])
@pytest.mark.parametrize("workers", [0, 2])
def test_an_input_error_comes_through_as_it_is(way, workers):
    with pytest.raises(InputError) as error:
        load(way, workers, refuse)
    assert str(error.value) == "c.jpg: cannot be read as an image"


@pytest.mark.parametrize("way", ["batches", "each"])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_defect_is_not_taken_for_bad_input(way, workers):
    with pytest.raises(RuntimeError, match="a defect of the data set"):
        load(way, workers, break_down)


class Asked(Noise):
    """Notes what it is asked for; from `shut` on it answers when `gate` is set."""

    def __init__(self, shut: int = 10**9) -> None:
        self.asked: list[int] = []
        self.shut, self.gate = shut, threading.Event()

    def __getitem__(self, key):
        self.asked.append(key)
        if key >= self.shut:
            assert self.gate.wait(60)
        return super().__getitem__(key)

    def wait_for(self, samples: int) -> None:
        """Until it was asked so often, and a moment longer for what should not come."""
        for _ in range(1000):
            if len(self.asked) >= samples:
                break
            time.sleep(0.01)
        time.sleep(0.03)


BATCH_SIZE = {"batches": 3, "each": 1}


def start(way: str, dataset: Dataset) -> Iterator:
    if way == "batches":
        return load_batches(dataset, batches_of(60, BATCH_SIZE[way]), workers=2)
    return load_each(dataset, 20, workers=2)


@pytest.mark.parametrize("way", BATCH_SIZE)
def test_as_much_is_loaded_ahead_as_promised_however_slow_the_network_is(way):
    dataset, before = Asked(), set(threading.enumerate())
    loaded = start(way, dataset)
    for step, _ in enumerate(loaded, start=1):
        expected = BATCH_SIZE[way] * min(step + 2 * 2, 20)
        dataset.wait_for(expected)
        assert len(dataset.asked) == expected
        assert step == 20 or 0 < len(set(threading.enumerate()) - before) <= 2
    assert step == 20


@pytest.mark.parametrize("way", BATCH_SIZE)
def test_nothing_more_is_loaded_when_nobody_wants_it(way):
    dataset, before = Asked(shut=2 * BATCH_SIZE[way]), set(threading.enumerate())
    loaded = start(way, dataset)
    next(loaded)
    next(loaded)
    dataset.wait_for(2 * BATCH_SIZE[way] + 2)  # both threads have begun the next one
    threading.Timer(0.5, dataset.gate.set).start()
    loaded.close()
    assert len(dataset.asked) == 4 * BATCH_SIZE[way]
    assert not [thread for thread in set(threading.enumerate()) - before if not isinstance(thread, threading.Timer)]


@pytest.mark.parametrize("way", BATCH_SIZE)
def test_batches_ahead_are_bounded_in_bytes_however_many_threads_load(way, monkeypatch):
    """A sample of Noise is 24 bytes and the 8 of its index."""
    monkeypatch.setattr("misc.train.loading.MOST_BYTES", 10 * 32 * BATCH_SIZE[way])
    dataset, n = Asked(), 40
    if way == "batches":
        loaded = load_batches(dataset, batches_of(n * 3, 3), workers=64)
    else:
        loaded = load_each(dataset, n, workers=64)
    for step, parts in enumerate(loaded, start=1):
        assert int(parts[1].ravel()[0]) == (step - 1) * BATCH_SIZE[way]
        if step < 12:
            expected = BATCH_SIZE[way] * (step + 10)
            dataset.wait_for(expected)
            assert len(dataset.asked) == expected
    assert step == n


COUNTS_THREADS = """
import os
import numpy as np
import torch
from misc.train.loading import load_batches
from tests.conftest import PROJECT

class Large:
    def __getitem__(self, key):
        started.add(len(os.listdir("/proc/self/task")) - before)
        return np.zeros((3, 400, 400), np.float32), np.int64(0)

torch.set_num_threads(4)  # also on a machine with one core
started, before = set(), len(os.listdir("/proc/self/task"))
batches = [[(0, index) for index in range(start, start + 4)] for start in range(0, 24, 4)]
assert len(list(load_batches(Large(), batches, workers=2))) == 6
print(max(started))
"""


def test_loading_threads_start_no_threads_of_their_own():
    """torch would, to stack large arrays: workers times cores of them. In a process without other tests' threads."""
    run = subprocess.run([sys.executable, "-c", COUNTS_THREADS], capture_output=True, text=True, cwd=PROJECT)
    assert run.returncode == 0, run.stderr
    assert 1 <= int(run.stdout) <= 2
