"""Feeding the networks: batches in a fixed order, random numbers that belong to the sample."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, default_convert

from misc.run.parallel import MOST_BYTES, ordered_map
from misc.run.pinned import CPU, packed_for

Sample = tuple[int, int]  # epoch, index


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


def stacked(samples: Sequence[np.ndarray]) -> torch.Tensor:
    # by NumPy: torch would start as many threads of its own in each of the loading ones
    return torch.from_numpy(np.stack(samples))


def load_batches(
    dataset: Dataset, batches: Sequence[list[Any]], *, workers: int, stack: Callable[[Sequence[Any]], Any] = stacked
) -> Iterator[list[Any]]:
    """Yield each batch of samples, a tensor for each part of a sample, loaded by `workers` threads beside this one.

    Pillow and NumPy read, rescale and copy outside the interpreter's lock. Processes would have every page that the
    network writes to copied first, hand their batches over in shared memory, of which containers have little, and be
    what the system kills when memory is short. Two batches a thread are loaded ahead, in no more than MOST_BYTES.

    stack     makes that tensor of the samples' parts, in a loading thread
    """
    return ordered_map(partial(_load_batch, dataset, stack), batches, workers=workers, most_bytes=MOST_BYTES)


def load_each(dataset: Dataset, n: int, *, workers: int, device: torch.device = CPU) -> Iterator[Any]:
    """Yield samples 0 to n - 1 one by one, arrays as tensors, loaded by `workers` threads beside this one.

    device    where the lists of arrays in a sample go: `all_on` brings them there
    """
    return ordered_map(partial(_load_one, dataset, device), range(n), workers=workers, most_bytes=MOST_BYTES)


def _load_batch(dataset: Dataset, stack: Callable[[Sequence[Any]], Any], batch: list[Any]) -> list[Any]:
    return [stack(part) for part in zip(*map(dataset.__getitem__, batch), strict=True)]


def _load_one(dataset: Dataset, device: torch.device, index: int) -> Any:
    sample = dataset[index]
    if device.type == "cpu":
        return default_convert(sample)
    return tuple(packed_for(device, part) if isinstance(part, list) else default_convert(part) for part in sample)
