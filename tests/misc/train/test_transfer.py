"""What the network gets of a batch: on a CPU by hand, on a card that records what is asked of it."""

from contextlib import contextmanager

import numpy as np
import pytest
import torch

from misc.pixels import normalise, normalised
from misc.train import transfer
from misc.train.transfer import Crop, batches_on

CPU = torch.device("cpu")


class Crops:
    """Three crops of 6 × 6, of which an image of 2 to 4 rows is a part; and their index."""

    def __getitem__(self, index: int):
        rng = np.random.default_rng(index)
        image = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
        return Crop(image, np.array([index, 2 * index + 2, 1, 6], np.int32)), np.float32(index)


def by_hand(index: int) -> np.ndarray:
    crop, _ = Crops()[index]
    seen = np.zeros((3, 6, 6), np.float32)
    for y in range(index, 2 * index + 2):
        for x in range(1, 6):
            seen[:, y, x] = normalise(crop.image[y : y + 1, x : x + 1])[:, 0, 0]
    return seen


def test_every_byte_is_normalised_alike_by_numpy_and_torch():
    bytes_ = np.arange(256, dtype=np.uint8)[:, None, None].repeat(3, axis=2)
    np.testing.assert_array_equal(normalised(torch.from_numpy(bytes_)).permute(2, 0, 1).numpy(), normalise(bytes_))


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_on_a_cpu(workers):
    for numbers, (images, index) in zip(
        [[0, 1], [2]], batches_on(CPU, Crops(), [[0, 1], [2]], workers=workers), strict=True
    ):
        np.testing.assert_array_equal(images, np.stack([by_hand(number) for number in numbers]))
        assert images.is_contiguous(memory_format=torch.channels_last) and index.tolist() == numbers


def test_a_card_normalises_as_a_cpu_does():
    samples = [Crops()[number][0] for number in range(3)]
    batch = Crop(*(torch.from_numpy(np.stack(part)) for part in zip(*samples, strict=True)))
    images = batch.pixels_on(CPU)
    np.testing.assert_array_equal(images, np.stack([by_hand(number) for number in range(3)]))
    assert images.is_contiguous(memory_format=torch.channels_last)


@pytest.fixture
def card(monkeypatch):
    """A card that is a CPU: notes what its streams are asked."""
    seen: list[str] = []

    class Stream:
        def __init__(self, name="copies"):
            self.name = name

        def record_event(self):
            seen.append("sent")

        def wait_event(self, event):
            seen.append(f"{self.name} waits")

    @contextmanager
    def stream(which):
        yield seen.append(f"on {which.name}")

    monkeypatch.setattr(torch.cuda, "Stream", lambda device: Stream())
    monkeypatch.setattr(torch.cuda, "stream", stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Stream("computing"))
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda part, which: seen.append(f"kept for {which.name}"))
    return seen


def test_the_next_batch_is_sent_before_one_is_handed_out(card):
    batches = [[torch.zeros(1), torch.zeros(2, 3, 4, 4)], [torch.ones(1), torch.ones(2, 3, 4, 4)]]
    ahead = transfer._ahead(batches, CPU)
    number, images = next(ahead)
    assert number.item() == 0 and images.is_contiguous(memory_format=torch.channels_last)
    received = ["computing waits", *["kept for computing"] * 2]
    assert card == ["on copies", "sent"] * 2 + received
    assert [number.item() for number, _ in ahead] == [1] and card[-3:] == received
    assert not list(transfer._ahead([], CPU))
