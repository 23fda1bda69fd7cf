"""Where memory runs out: telling that from other errors, and trying again with less."""

import re
from collections.abc import Callable, Iterable
from typing import TypeVar

from misc.errors import InputError

NO_MEMORY = ("out of memory", "can't allocate memory", "STATUS_ALLOC_FAILED")  # CUDA, torch on a CPU, cuBLAS and cuDNN
SENTENCES = 3  # of CUDA's account; the rest is about PyTorch's allocator

Result = TypeVar("Result")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether Python, NumPy, C code of ours or torch got no memory, on a CPU or on a card."""
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in NO_MEMORY)  # all of torch's are


def shortage(error: BaseException) -> str:
    """What an error that `is_out_of_memory` says, on one line."""
    first = (str(error).splitlines() or ["Python asked for it"])[0]
    return ". ".join(re.split(r"\. ", first.removesuffix("."))[:SENTENCES])


def first_that_fits(ways: Iterable[Callable[[], Result]], *, what: str, remedy: str) -> Result:
    """The result of the first of `ways` that finds enough memory. Each is to need less than the one before.

    what      they are about, for the error: an image
    remedy    what to do where the last one finds too little as well
    Raises    InputError then; and what the ways raise otherwise
    """
    said = ""
    for way in ways:
        try:
            return way()
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            said = shortage(error)
        # only here is the error gone, and with it the tensors that its traceback holds
        release_memory()
    raise InputError(f"{what}: not enough memory ({said}): {remedy}")


def release_memory() -> None:
    """Give back what PyTorch keeps of a card's memory for later and does not use."""
    import torch  # not above: a command ends well before it imports anything (misc/run/process.py)

    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
