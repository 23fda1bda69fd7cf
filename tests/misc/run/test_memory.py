"""Trying again with less where memory runs out."""

import weakref

import numpy as np
import pytest
import torch

from misc.errors import InputError
from misc.run import memory
from misc.run.memory import first_that_fits, is_out_of_memory, shortage

CUDA = (
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 23.64 GiB of which 1.50 GiB is "
    "free. Including non-PyTorch memory, this process has 22.1 GiB memory in use. If reserved but unallocated memory "
    "is large try setting PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True to avoid fragmentation."
)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError(CUDA), True),
        (RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
            True,
        ),
        (np._core._exceptions._ArrayMemoryError((9,), np.dtype("f4")), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_which_errors_are_of_memory(error, expected):
    assert is_out_of_memory(error) is expected


def test_a_shortage_in_one_line():
    said = shortage(torch.OutOfMemoryError(CUDA))
    assert said.endswith("23.64 GiB of which 1.50 GiB is free") and "2.00 GiB" in said
    assert shortage(RuntimeError("CUDA error: out of memory\nmore")) == "CUDA error: out of memory"
    assert shortage(MemoryError())


def test_less_is_tried_once_all_of_the_failure_is_gone(monkeypatch):
    seen, held = [], []
    monkeypatch.setattr(memory, "release_memory", lambda: seen.append("released"))

    def large():
        tensor = torch.zeros(3)
        held.append(weakref.ref(tensor))
        raise torch.OutOfMemoryError(CUDA)

    def small():
        seen.append("alive" if held[0]() is not None else "gone")
        return 7

    assert first_that_fits([large, small, large], what="an image", remedy="") == 7
    assert seen == ["released", "gone"] and len(held) == 1


def test_where_nothing_fits_and_where_something_else_fails():
    def fails(error):
        raise error

    with pytest.raises(InputError, match=r"^2007_000032: not enough memory \(CUDA out of memory.*\): say --amp$"):
        first_that_fits([lambda: fails(torch.OutOfMemoryError(CUDA))] * 2, what="2007_000032", remedy="say --amp")
    with pytest.raises(RuntimeError, match="illegal"):
        first_that_fits([lambda: fails(RuntimeError("illegal")), lambda: 7], what="", remedy="")
