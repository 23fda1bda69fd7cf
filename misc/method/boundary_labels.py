"""Boundary labels: where CAM and saliency say object, background, or the line between.

docs/method.md, section 4.
"""

from enum import IntEnum

import numpy as np
import torch
import torch.nn.functional as F

NOT_CONFIDENT = 255  # in a confidence map: neither threshold decides


class BoundaryLabel(IntEnum):
    """Values of a boundary label PNG."""

    BACKGROUND = 0
    FOREGROUND = 50
    BOUNDARY_FG_FG = 100
    BOUNDARY_FG_BG = 150
    IGNORE = 200
    BOUNDARY_SALIENT = 250


def confidence_map(foreground: np.ndarray, background: np.ndarray) -> np.ndarray:
    """Merge the label maps of two background thresholds: a class where the high one leaves it, background where both
    say background, else not confident.

    foreground  (H, W) integer class numbers, 0 background, from the high threshold
    background  (H, W) the same from the low threshold
    Returns     (H, W) uint8: class number, 0 background, 255 not confident.
    """
    confident = np.where(foreground == 0, NOT_CONFIDENT, foreground)
    return np.where((foreground == 0) & (background == 0), 0, confident).astype(np.uint8)


def boundary_label(
    conf: np.ndarray,
    saliency: np.ndarray | None,
    *,
    window: int,
    theta_scale: float,
    theta_diff: float,
    salient_threshold: float,
) -> np.ndarray:
    """Label each pixel background, foreground, one of three boundaries, or IGNORE.

    conf      (H, W) uint8, class number, 0 background, 255 not confident
    saliency  (H, W) real, any range ≥ 0, or None for the BES rules; a map that is zero everywhere
              says nothing, so it gets the BES rules too
    window    side of the neighbourhood, odd, in pixels
    theta_scale, theta_diff, salient_threshold  shares in [0, 1]
    Returns   (H, W) uint8 of BoundaryLabel.
    Raises    ValueError if the shapes differ.
    Source: BES section 3.2 for the shares, SBE section II-A for the two saliency rules.
    """
    if saliency is not None and saliency.shape != conf.shape:
        raise ValueError(f"confidence map {conf.shape} and saliency map {saliency.shape} differ in size")
    if saliency is not None and not saliency.any():
        saliency = None
    p0, p1, p2 = neighbourhood_shares(conf, window)

    # the order counts: later rules override earlier ones
    label = np.full(conf.shape, BoundaryLabel.IGNORE, np.uint8)
    if saliency is not None:
        label[saliency == 0] = BoundaryLabel.BACKGROUND
    label[(p0 > 2 * theta_scale) & (p0 - p1 >= 2 * theta_diff)] = BoundaryLabel.BACKGROUND
    label[(p1 > 2 * theta_scale) & (p1 - p0 >= 2 * theta_diff)] = BoundaryLabel.FOREGROUND
    label[(np.minimum(p0, p1) > theta_scale) & (np.abs(p0 - p1) < theta_diff)] = BoundaryLabel.BOUNDARY_FG_BG
    label[(p2 > theta_scale) & (p1 - p2 < theta_diff)] = BoundaryLabel.BOUNDARY_FG_FG
    if saliency is not None:
        label[salient_edges(saliency) > salient_threshold] = BoundaryLabel.BOUNDARY_SALIENT
    return label


def neighbourhood_shares(conf: np.ndarray, window: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Share of background, of the most frequent and of the second most frequent class around each pixel.

    conf      (H, W) uint8, class number, 0 background, 255 not confident
    Returns   three (H, W) float32 in [0, 1]; pixels outside the image are not counted.
    """
    area = box_sums(np.ones(conf.shape, bool), window)
    p0 = window_mean(conf == 0, area, window)
    p1 = p2 = np.zeros(conf.shape, np.float32)
    for number in np.unique(conf):
        if number not in (0, NOT_CONFIDENT):
            p = window_mean(conf == number, area, window)
            p1, p2 = np.maximum(p1, p), np.maximum(p2, np.minimum(p1, p))
    return p0, p1, p2


def window_mean(mask: np.ndarray, area: np.ndarray, window: int) -> np.ndarray:
    """(H, W) float32: the mean of `mask` in the window around each pixel; `area` counts the pixels of each window."""
    # float32, as published: with another precision, shares that equal a threshold would fall on its other side
    return box_sums(mask, window).astype(np.float32) / area.astype(np.float32)


def box_sums(mask: np.ndarray, window: int) -> np.ndarray:
    """(H, W) int32: how many pixels of the boolean `mask` lie in the window around each pixel."""
    sums = mask.astype(np.int32)
    before, after = window // 2 + 1, window // 2
    for axis in (0, 1):
        size = sums.shape[axis]
        running = np.cumsum(sums, axis=axis, dtype=np.int32)
        running = np.insert(running, 0, 0, axis=axis)  # running[i]: the sum of the first i
        centre = np.arange(1, size + 1)
        upper, lower = np.minimum(centre + after, size), np.maximum(centre - before, 0)
        sums = np.take(running, upper, axis=axis) - np.take(running, lower, axis=axis)
    return sums


def salient_edges(saliency: np.ndarray) -> np.ndarray:
    """Gradient magnitude of a saliency map: 3×3 Sobel without padding, resized back.

    saliency  (H, W) real ≥ 0, not zero everywhere; divided by its maximum first
    Returns   (H, W) float64 ≥ 0; zeros where H or W is below 3.
    """
    if min(saliency.shape) < 3:
        return np.zeros(saliency.shape)
    s = saliency.astype(np.float64) / saliency.max()
    rows = s[:-2] + 2 * s[1:-1] + s[2:]  # smoothed along y
    columns = s[:, :-2] + 2 * s[:, 1:-1] + s[:, 2:]
    dx = rows[:, 2:] - rows[:, :-2]
    dy = columns[2:] - columns[:-2]
    magnitude = torch.from_numpy(np.hypot(dx, dy))[None, None]
    return F.interpolate(magnitude, saliency.shape, mode="bilinear", align_corners=False)[0, 0].numpy()
