"""The boundary network's loss: SBE, and its baseline BES. docs/method.md, section 5."""

from typing import NamedTuple

import torch
import torch.nn.functional as F

from misc.method.boundary_labels import BoundaryLabel
from misc.run.distributed import all_sum

PROBABILITY_FLOOR = 1e-4  # published: P is kept in [1e-4, 1 - 1e-4] before its logarithm


class BoundaryLoss(NamedTuple):
    """The terms of the loss, each a scalar tensor; their sum is what is minimised."""

    ground: torch.Tensor
    boundary_salient: torch.Tensor  # BES: all of the boundary term
    boundary_nonsalient: torch.Tensor  # BES: zero

    @property
    def boundary(self) -> torch.Tensor:
        return self.boundary_salient + self.boundary_nonsalient

    @property
    def total(self) -> torch.Tensor:
        return self.ground + self.boundary


def boundary_loss(prediction: torch.Tensor, label: torch.Tensor, saliency: torch.Tensor | None) -> BoundaryLoss:
    """The loss of predicted boundaries against boundary labels: each kind of pixel has a mean of its own.

    prediction  (N, 1, h, w) float, boundary probability in [0, 1]
    label       (N, h, w) integer, values of BoundaryLabel
    saliency    (N, H, W) float ≥ 0, any size, resized to h×w here; None for the loss of BES.
                A blank map counts as not salient.
    Returns     the terms, means over the whole batch. Where several processes hold a part of the batch each,
                every process gets its summand of each mean.
    Source: SBE section II-B; BES section 3.3.
    """
    p = prediction[:, 0].clamp(PROBABILITY_FLOOR, 1 - PROBABILITY_FLOOR)
    no_boundary = -torch.log(1 - p)
    boundary = -torch.log(p) * p.detach().sqrt()  # pixels already taken for boundary weigh more
    ground = masked_mean(no_boundary, label == BoundaryLabel.BACKGROUND) + masked_mean(
        no_boundary, label == BoundaryLabel.FOREGROUND
    )
    on_boundary = (
        (label == BoundaryLabel.BOUNDARY_FG_FG)
        | (label == BoundaryLabel.BOUNDARY_FG_BG)
        | (label == BoundaryLabel.BOUNDARY_SALIENT)
    )
    if saliency is None:
        return BoundaryLoss(ground / 2, masked_mean(boundary, on_boundary), torch.zeros_like(ground))
    on_grid = F.interpolate(saliency[:, None], p.shape[1:], mode="bilinear", align_corners=False)[:, 0]
    return BoundaryLoss(
        ground,
        masked_mean(boundary, on_boundary & (on_grid > 0)),
        masked_mean(boundary, on_boundary & (on_grid == 0)),
    )


def masked_mean(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Σ(values·mask) / (Σmask + 1) over the whole batch: an empty mask gives zero, not NaN.

    Where several processes hold a part of the batch each, the divisor counts the masks of all of them, the
    numerator this one's: the results add up to the mean, their gradients to its gradient.
    """
    return (values * mask).sum() / (all_sum(mask.sum()) + 1)
