"""The loss of DeepLab-v2: a cross entropy for each scale of the image (docs/method.md, section 10)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from misc.evaluation.confusion import VOID
from misc.run.distributed import all_sum


def segmentation_losses(maps: Sequence[torch.Tensor], labels: torch.Tensor, *, balanced: bool) -> torch.Tensor:
    """The mean cross entropy of each map of logits; the loss is their sum.

    maps      (N, C+1, h, w) logits, float32, of any sizes
    labels    (N, H, W) uint8, 0 background, 255 void, which is left out
    balanced  half the mean over the background plus half the mean over the classes (AdvCAM, RIB, CLIMS)
    Returns   one value a map, this process's summand: the sum over the processes is the mean over the pixels of all
              their images. A mean over no pixel is 0.
    """
    return torch.stack([_balanced(*at) if balanced else _mean(*at) for at in _pixelwise(maps, labels)])


def labels_at(size: Sequence[int], labels: torch.Tensor) -> torch.Tensor:
    """(N, H, W) → (N, h, w): the label at the middle of each cell, as Pillow's nearest neighbour takes it."""
    resized = F.interpolate(labels[:, None].float(), tuple(size), mode="nearest-exact")
    return resized[:, 0].to(labels.dtype)


def _pixelwise(maps: Sequence[torch.Tensor], labels: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """For each map its labels and the cross entropy of each pixel, 0 where it is void."""
    at_size = [labels_at(logits.shape[2:], labels).long() for logits in maps]
    losses = [
        F.cross_entropy(logits, target, ignore_index=VOID, reduction="none")
        for logits, target in zip(maps, at_size, strict=True)
    ]
    return list(zip(at_size, losses, strict=True))


def _mean(target: torch.Tensor, losses: torch.Tensor) -> torch.Tensor:
    return losses.sum() / all_sum((target != VOID).sum()).clamp(min=1)


def _balanced(target: torch.Tensor, losses: torch.Tensor) -> torch.Tensor:
    background = target == 0
    counts = all_sum(torch.stack([background.sum(), (~background & (target != VOID)).sum()])).clamp(min=1)
    sums = losses.where(background, 0).sum(), losses.where(~background, 0).sum()
    return (sums[0] / counts[0] + sums[1] / counts[1]) / 2
