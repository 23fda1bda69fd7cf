"""Several processes through torchrun: which one this is, and what they tell each other.

Without torchrun there is one process, and these functions return what they are given.
"""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist

from misc.cores import available_cores
from misc.errors import InputError

# One process may work for hours while the others wait. torchrun notices when one of them dies.
TIMEOUT = timedelta(days=7)
CARDS_TIMEOUT = timedelta(minutes=30)  # of what cards exchange, which they do while all of them train

# how an exception says that another process is gone: gloo, the system, NCCL
LOST = ("closed by peer", "reset by peer", "Broken pipe", "remote process exit", "failed to recv, got 0 bytes")

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Within, the processes that torchrun started know each other.

    What lies on a CPU goes through gloo, what lies on a card through NCCL.
    """
    if launched() == 1:
        yield
        return
    if device.type == "cpu":
        torch.set_num_threads(available_cores())  # torchrun would give each process one
    dist.init_process_group("gloo", timeout=TIMEOUT)
    yield
    # not after an exception: the others may never come here
    cards_group.cache_clear()
    dist.destroy_process_group()


@cache
def cards_group() -> dist.ProcessGroup:
    """The processes as NCCL knows them, for what lies on their cards; all of them come here for the first time at once.

    A group of its own, since its processes wait for each other for a shorter time.
    """
    group = dist.new_group(backend="nccl", timeout=CARDS_TIMEOUT)
    assert isinstance(group, dist.ProcessGroup)  # a number where this process is not in it
    return group


def launched() -> int:
    """How many processes torchrun started."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first() -> bool:
    """Whether this is the process that prepares, and writes logs, tables and checkpoints."""
    return launched() == 1 or os.environ.get("RANK", "0") == "0"


def processes() -> int:
    """How many processes share the work: 1 outside of `process_group`."""
    return dist.get_world_size() if dist.is_initialized() else 1


def own_part(items: list[Item]) -> list[Item]:
    """This process's part of `items`: every item is in the part of exactly one process."""
    return items[dist.get_rank() :: dist.get_world_size()] if dist.is_initialized() else items


def on_first(function: Callable[[], Result]) -> Result:
    """What `function` returns in the first process, in all of them.

    Raises    in the first process what the function raises; where that is an InputError, the others end
              without a word, since it has been said.
    """
    if processes() == 1:
        return function()
    message: list[Any] = [None, False]  # the result, whether there is none
    if is_first():
        try:
            message = [function(), False]
        except InputError:
            dist.broadcast_object_list([None, True], src=0)
            raise
    dist.broadcast_object_list(message, src=0)
    if message[1]:
        raise SystemExit(2)
    return message[0]


def all_sum(values: torch.Tensor) -> torch.Tensor:
    """The sum of a tensor over all processes, without gradient."""
    if processes() == 1:
        return values
    total = values.detach().clone()
    dist.all_reduce(total, group=cards_group() if total.device.type == "cuda" else None)
    return total


def all_sum_counts(counts: np.ndarray) -> np.ndarray:
    """The sum of an int64 array over all processes."""
    return all_sum(torch.from_numpy(counts)).numpy()


def all_gather(item: Item) -> list[Item]:
    """What every process has to say, in the order of their ranks."""
    if processes() == 1:
        return [item]
    everyone: list[Any] = [None] * processes()
    dist.all_gather_object(everyone, item)
    return everyone


def wait_for_all() -> None:
    """Return when all processes have come here."""
    all_sum(torch.zeros(1))


def is_of_exchange(error: BaseException) -> bool:
    """Whether an exception comes from what the processes tell each other."""
    if isinstance(error, dist.DistError):
        return True
    return dist.is_initialized() and isinstance(error, RuntimeError) and bool(re.search("gloo|nccl", str(error), re.I))


def lost_another(error: BaseException) -> bool:
    """Whether an exception that `is_of_exchange` says that another process is gone."""
    return any(words in str(error) for words in LOST)
