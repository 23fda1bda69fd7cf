"""From the scores of an image's classes to class numbers."""

import numpy as np
import torch


def strongest(scores: np.ndarray, background: float) -> np.ndarray:
    """Argmax over a constant background score and K classes.

    scores    (K, H, W) float32
    Returns   (H, W) uint8 in [0, K], K ≤ 254, 0 where the background wins or ties.
    """
    best = np.full(scores.shape[1:], background, np.float32)
    winner = np.zeros(scores.shape[1:], np.uint8)
    for number, score in enumerate(scores, start=1):
        higher = score > best
        best[higher] = score[higher]
        winner[higher] = number
    return winner


def strongest_by_torch(scores: torch.Tensor, background: float) -> torch.Tensor:
    """`strongest` on the device of the scores; of equal ones, argmax takes the first as well."""
    floor = scores.new_full((1, *scores.shape[1:]), background)
    return torch.cat([floor, scores]).argmax(dim=0).to(torch.uint8)


def class_numbers(keys: np.ndarray) -> np.ndarray:
    """(K+1,) uint8 table from the index in [background, classes…] to the number used in masks."""
    return np.concatenate([[0], keys + 1]).astype(np.uint8)


def classes_of(scores: np.ndarray, keys: np.ndarray, background: float) -> np.ndarray:
    """(H, W) uint8 class numbers of the strongest scores."""
    return class_numbers(keys)[strongest(scores, background)]
