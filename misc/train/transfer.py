"""From the loading threads to the network: what a card computes while the next batch is on its way to it.

A batch for a CUDA device is stacked in pinned memory, which the card reads by itself, and goes there on a stream of its
own, one batch ahead. Images go as bytes, a quarter of their normalised floats, and are normalised there. On a CPU the
loading threads normalise them.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset

from misc.pixels import normalise, normalised
from misc.run.pinned import pinned
from misc.train.loading import load_batches


class Crop(NamedTuple):
    """A training image, or a batch of them, as it travels.

    image   (side, side, 3) uint8 RGB
    inside  (4,) int32, where the image lies in the crop: top, bottom, left, right. Outside, the network sees 0, the
            mean colour, which no byte normalises to.
    """

    image: Any
    inside: Any

    def pixels(self) -> np.ndarray:
        """(3, side, side) float32, normalised."""
        top, bottom, left, right = self.inside
        pixels = np.zeros(self.image.shape, np.float32)
        pixels[top:bottom, left:right] = normalise(self.image[top:bottom, left:right]).transpose(1, 2, 0)
        return pixels.transpose(2, 0, 1)

    def pixels_on(self, device: torch.device) -> torch.Tensor:
        """The same of a batch, (N, 3, side, side) channels last, on the device."""
        images, inside = (part.to(device, non_blocking=True) for part in self)
        places = torch.arange(images.shape[1], device=device)
        top, bottom, left, right = inside.T[..., None]
        rows, columns = (top <= places) & (places < bottom), (left <= places) & (places < right)
        within = rows[:, :, None, None] & columns[:, None, :, None]
        return torch.where(within, normalised(images), 0).permute(0, 3, 1, 2)


def batches_on(
    device: torch.device, dataset: Dataset, batches: Sequence[list[Any]], *, workers: int
) -> Iterator[list[torch.Tensor]]:
    """Yield each batch of samples on the device: a tensor for each part, of `Crop`s their normalised images; images
    (N, 3, H, W) are channels last.

    workers   threads that load beside this one
    """
    if device.type == "cuda":
        return _ahead(load_batches(dataset, batches, workers=workers, stack=_pinned), device)
    return (
        [_to(device, part) for part in batch]
        for batch in load_batches(dataset, batches, workers=workers, stack=_stacked)
    )


def _stacked(samples: Sequence[Any]) -> torch.Tensor:
    if not isinstance(samples[0], Crop):
        return torch.from_numpy(np.stack(samples))
    # channels last, as the network will have it
    return torch.from_numpy(np.stack([crop.pixels().transpose(1, 2, 0) for crop in samples])).permute(0, 3, 1, 2)


def _pinned(samples: Sequence[Any]) -> "torch.Tensor | Crop":
    if isinstance(samples[0], Crop):
        return Crop(*map(pinned, zip(*samples, strict=True)))
    return pinned(samples)


def _ahead(batches: Iterable[list[Any]], device: torch.device) -> Iterator[list[torch.Tensor]]:
    """Each batch on the card. Before one is handed out, the next one has been sent."""
    stream = torch.cuda.Stream(device)
    sent = None
    for batch in batches:
        with torch.cuda.stream(stream):
            following = [_to(device, part) for part in batch], stream.record_event()
        if sent is not None:
            yield _received(*sent, device)
        sent = following
    if sent is not None:
        yield _received(*sent, device)


def _received(parts: list[torch.Tensor], arrival: torch.cuda.Event, device: torch.device) -> list[torch.Tensor]:
    """The parts, for the stream that computes: it waits for them, and their memory is kept until it is done."""
    computing = torch.cuda.current_stream(device)
    computing.wait_event(arrival)
    for part in parts:
        part.record_stream(computing)
    return parts


def _to(device: torch.device, part: "torch.Tensor | Crop") -> torch.Tensor:
    if isinstance(part, Crop):
        return part.pixels_on(device)
    if part.ndim == 4:
        return part.to(device, memory_format=torch.channels_last, non_blocking=True)
    return part.to(device, non_blocking=True)
