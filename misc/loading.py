"""Feeding the networks: batches in a fixed order, random numbers that belong to the sample."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, Dataset, default_collate, default_convert

from misc.errors import InputError

Sample = tuple[int, int]  # epoch, index
AHEAD = 2  # samples loaded ahead by each worker


def sample_rng(seed: int, epoch: int, index: int) -> np.random.Generator:
    """The random numbers of one sample in one epoch, whoever asks and whatever came before."""
    return np.random.default_rng([seed, epoch, index])


def epoch_batches(n: int, *, batch_size: int, seed: int, epoch: int) -> list[list[Sample]]:
    """One epoch over `n` samples: shuffled, cut into batches, the last partial one dropped."""
    order = sample_rng(seed, epoch, n).permutation(n)  # no sample has the index n
    return [
        [(epoch, int(index)) for index in order[start : start + batch_size]]
        for start in range(0, n - batch_size + 1, batch_size)
    ]


def batches_of(n: int, batch_size: int) -> list[list[int]]:
    """All of `n` samples in order; the last batch may be smaller."""
    return [list(range(start, min(start + batch_size, n))) for start in range(0, n, batch_size)]


def load_batches(dataset: Dataset, batches: Sequence[list[Any]], *, workers: int) -> Iterator[Any]:
    """Yield the collated samples of each batch, loaded by `workers` processes beside this one."""
    loader = DataLoader(_Guarded(dataset), batch_sampler=batches, num_workers=workers, collate_fn=_collate)
    return _unguarded(loader)


def load_each(dataset: Dataset, n: int, *, workers: int) -> Iterator[Any]:
    """Yield samples 0 to n - 1 one by one, arrays as tensors, loaded by `workers` threads beside this one.

    Pillow reads and rescales outside the interpreter's lock. A process forked here would have every page that the
    network writes to copied first.
    """
    if workers == 0:
        yield from (default_convert(dataset[index]) for index in range(n))
        return
    pool = ThreadPoolExecutor(workers, "load")
    try:
        waiting = deque(pool.submit(dataset.__getitem__, index) for index in range(min(n, AHEAD * workers)))
        for index in range(n):
            sample = waiting.popleft().result()
            if index + AHEAD * workers < n:
                waiting.append(pool.submit(dataset.__getitem__, index + AHEAD * workers))
            yield default_convert(sample)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _unguarded(loader: DataLoader) -> Iterator[Any]:
    try:
        for batch in loader:
            if isinstance(batch, InputError):
                raise batch
            yield batch
    except RuntimeError as error:
        if "shared memory" in str(error):  # in a container it is 64 MB unless said otherwise
            raise InputError(
                "the loading processes found too little shared memory (/dev/shm): give the container more "
                "(docker run --shm-size=8g), or say --num_workers 0"
            ) from error
        if "DataLoader worker (pid" not in str(error):  # an exception of the data set's own
            raise
        raise InputError("a loading process died, perhaps for want of memory: try a smaller --num_workers") from error


class _Guarded(Dataset):
    """Hands an InputError on as a sample; DataLoader would bury its text in a worker's traceback."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __getitem__(self, key: Any) -> Any:
        try:
            return self.dataset[key]
        except InputError as error:
            return error


def _collate(samples: list[Any]) -> Any:
    errors = [sample for sample in samples if isinstance(sample, InputError)]
    return errors[0] if errors else default_collate(samples)
