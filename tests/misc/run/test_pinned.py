"""What is copied to a card and from it, on one whose memory is this machine's."""

import numpy as np
import pytest
import torch

from misc.run import pinned as module
from misc.run.pinned import CPU, Download, Packed, all_on, packed_for, parted, pinned


@pytest.fixture
def unpinned(monkeypatch):
    """Memory for a card, where there is none; notes the sizes."""
    sizes: list[int] = []

    def room(size: int, dtype: torch.dtype) -> torch.Tensor:
        sizes.append(size)
        return torch.full((size,), 7, dtype=dtype)

    monkeypatch.setattr(module, "_room", room)
    return sizes


def test_arrays_go_up_in_one_piece_and_are_themselves_again(unpinned):
    images = [np.arange(24, dtype=np.uint8).reshape(2, 4, 3), np.full((1, 2, 3), 200, np.uint8)[:, ::-1]]
    packed = packed_for(torch.device("cuda"), images)
    assert isinstance(packed, Packed) and unpinned == [30] and packed.whole.dtype == torch.uint8
    for found, expected in zip(all_on(CPU, packed), images, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_nothing_is_copied_on_a_cpu():
    image = np.zeros((2, 3, 3), np.uint8)
    (tensor,) = all_on(CPU, packed_for(CPU, [image]))
    maps = torch.rand(2, 3)
    assert np.shares_memory(tensor.numpy(), image) and np.shares_memory(Download(maps).arrays()[0], maps.numpy())
    assert Download().arrays() == [] and Download(maps).nbytes == 24


@pytest.mark.parametrize("kind", [np.float32, np.int64, np.uint8, np.bool_])
def test_a_stack_in_pinned_memory_is_numpys(kind, unpinned):
    arrays = [np.arange(6).reshape(2, 3).astype(kind)[:, ::-1], np.ones((2, 3), kind)]
    stacked = pinned(arrays)
    np.testing.assert_array_equal(stacked, np.stack(arrays))
    assert stacked.numpy().dtype == kind
    np.testing.assert_array_equal(pinned([kind(1), kind(0)]), np.array([1, 0], kind))


def test_parts_of_a_whole():
    first, nothing, last = parted(torch.arange(10), [(2, 3), (0, 5), (4,)])
    assert first.tolist() == [[0, 1, 2], [3, 4, 5]] and nothing.shape == (0, 5) and last.tolist() == [6, 7, 8, 9]
