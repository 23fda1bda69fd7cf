"""Batches in a fixed order, whoever loads them."""

import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import Dataset

from misc.errors import InputError
from misc.loading import batches_of, epoch_batches, load_batches, load_each, sample_rng


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
    """Notes what it is asked for."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def __getitem__(self, key):
        self.asked.append(key)
        return super().__getitem__(key)


@pytest.mark.parametrize("way", ["batches", "each"])
def test_a_bounded_number_is_loaded_ahead_and_no_more_when_nobody_wants_them(way):
    dataset, before = Asked(), set(threading.enumerate())
    if way == "batches":
        loaded, batch_size = load_batches(dataset, batches_of(100, 3), workers=2), 3
    else:
        loaded, batch_size = load_each(dataset, 100, workers=2), 1
    next(loaded)
    next(loaded)
    assert 0 < len(set(threading.enumerate()) - before) <= 2
    loaded.close()
    assert len(dataset.asked) <= (2 + 2 * 2) * batch_size
    assert set(threading.enumerate()) <= before


class LeavesThreads(Noise):
    """Notes how many of this process's threads there were when it was last asked."""

    def __init__(self) -> None:
        self.threads = 0

    def __getitem__(self, key):
        self.threads = max(self.threads, len(list(Path("/proc/self/task").iterdir())))
        return np.zeros((3, 400, 400), np.float32)


def test_loading_threads_start_no_threads_of_their_own():
    """torch would, to stack large arrays: workers times cores of them."""
    before = len(list(Path("/proc/self/task").iterdir()))
    dataset = LeavesThreads()
    assert len(list(load_batches(dataset, batches_of(24, 4), workers=2))) == 6
    assert dataset.threads <= before + 2
