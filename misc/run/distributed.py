"""Several processes through torchrun: which one this is, and what they tell each other.

Without torchrun there is one process, and these functions return what they are given.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist

from misc.config import available_cores
from misc.errors import InputError

# One process may work for hours while the others wait. torchrun notices when one of them dies.
TIMEOUT = timedelta(days=7)

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Within, the processes that torchrun started know each other.

    Objects and counts go through gloo; gradients on CUDA through NCCL.
    """
    if launched() == 1:
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    else:
        torch.set_num_threads(available_cores())  # torchrun would give each process one
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", timeout=TIMEOUT)
    yield
    dist.destroy_process_group()  # not after an exception: the others may never come here


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
    dist.all_reduce(total)
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


def lost_another(error: BaseException) -> bool:
    """Whether an exception says that another process is gone."""
    return dist.is_initialized() and (
        isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error))
    )
