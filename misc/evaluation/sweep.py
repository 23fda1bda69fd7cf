"""The confusion at every background threshold from one pass over the scores.

A pixel belongs to its strongest class where that class's score exceeds the threshold, to background elsewhere.
So it is enough to count, for each pair of true label and strongest class, how many thresholds the score exceeds:
the 61 confusion matrices are sums of those counts, the very ones that 61 passes would give.
"""

import logging
from functools import cached_property
from typing import NamedTuple

import numpy as np

from misc.evaluation.confusion import VOID, Scores, check_range
from misc.run.distributed import all_sum_counts

# float32, as in the comparison that makes a mask: .21 means the float32 next to .21 there too
THRESHOLDS = (np.arange(61) / 100).astype(np.float32)

log = logging.getLogger(__name__)


class ImageCounts(NamedTuple):
    """What one image adds to a sweep; small, since an image shows few classes.

    labels    (T,) int64, true labels that occur
    winners   (K,) int64, its classes as numbers in masks; [0] if it has none
    pixels    (T, K, 62) int64 by true label, strongest class, number of thresholds below its score
    """

    labels: np.ndarray
    winners: np.ndarray
    pixels: np.ndarray


def count_image(truth: np.ndarray, scores: np.ndarray, keys: np.ndarray, n_labels: int) -> ImageCounts:
    """Count the pixels of one image for all thresholds at once.

    truth     (H, W) uint8 in [0, n_labels) or 255 void, which is left out
    scores    (K, H, W) float32, finite; K may be 0; of equal scores the first wins
    keys      (K,) int64, their classes, from 0, each once
    Raises    ValueError if the sizes differ or a label is out of range.
    """
    if truth.shape != scores.shape[1:]:
        raise ValueError(f"ground truth {truth.shape} and scores {scores.shape[1:]} differ in size")
    known = truth != VOID
    true = truth[known]
    check_range("ground truth", true, n_labels)
    labels = np.flatnonzero(np.bincount(true, minlength=n_labels))
    row_of = np.zeros(n_labels, np.int64)
    row_of[labels] = np.arange(len(labels))
    if len(scores) == 0:  # one class of score 0, which exceeds no threshold
        scores, winners = np.zeros((1, *truth.shape), np.float32), np.zeros(1, np.int64)
    else:
        winners = keys.astype(np.int64) + 1
    scores = scores[:, known]
    # how many thresholds are smaller than the score: ties are background
    exceeded = np.searchsorted(THRESHOLDS, scores.max(axis=0), side="left")
    shape = len(labels), len(winners), len(THRESHOLDS) + 1
    cell = (row_of[true] * shape[1] + scores.argmax(axis=0)) * shape[2] + exceeded
    return ImageCounts(labels, winners, np.bincount(cell, minlength=np.prod(shape)).reshape(shape))


class Sweep:
    """The counts of many images, and the scores at each threshold, which must be read only after the last `add`.

    pixels    (C+1, C+1, 62) int64: true label, strongest class, thresholds exceeded; the sum over sweeps is a sweep's
    """

    def __init__(self, n_labels: int) -> None:
        self.images = 0
        self.pixels = np.zeros((n_labels, n_labels, len(THRESHOLDS) + 1), np.int64)

    def add(self, counts: ImageCounts) -> None:
        self.images += 1
        self.pixels[np.ix_(counts.labels, counts.winners)] += counts.pixels

    def confusion(self, index: int) -> np.ndarray:
        """(C+1, C+1) int64 at THRESHOLDS[index], rows true, columns predicted."""
        confusion = self.pixels[:, :, index + 1 :].sum(axis=2)
        confusion[:, 0] += self.pixels[:, :, : index + 1].sum(axis=(1, 2))
        return confusion

    @cached_property
    def scores(self) -> list[Scores]:
        """The scores at each threshold."""
        return [Scores(self.confusion(index)) for index in range(len(THRESHOLDS))]

    @cached_property
    def miou(self) -> np.ndarray:
        """(61,) float64, NaN if no pixel was counted."""
        return np.array([scores.miou for scores in self.scores])

    @property
    def best(self) -> int | None:
        """Index of the threshold of the highest mIoU, the lowest of equals; None if no pixel was counted."""
        return None if np.isnan(self.miou).all() else int(np.nanargmax(self.miou))


class SweepResult(NamedTuple):
    """The sweep over the evaluation list and, if there is one, over the list the threshold is chosen on."""

    evaluation: Sweep
    sweep_list: Sweep | None = None

    @property
    def curves(self) -> dict[str, Sweep]:
        named = {"evaluation": self.evaluation, "sweep_list": self.sweep_list}
        return {name: sweep for name, sweep in named.items() if sweep is not None}

    @property
    def chosen_on(self) -> str:
        return list(self.curves)[-1]

    @property
    def best(self) -> int | None:
        """Index of the chosen threshold."""
        return self.curves[self.chosen_on].best


class Sweeps:
    """Adds up the counts of each image for the lists it is on.

    evaluated   IDs of the evaluation list
    sweep_ids   IDs of sweep_list, empty if the threshold is chosen on the evaluation list itself
    """

    def __init__(self, evaluated: list[str], sweep_ids: list[str], n_labels: int) -> None:
        self._lists = [(frozenset(ids), Sweep(n_labels)) for ids in (evaluated, sweep_ids) if ids]
        both = len(set(evaluated) & set(sweep_ids))
        if both:
            log.warning(
                "%d of %d images of sweep_list are evaluated as well: its figure is too good", both, len(sweep_ids)
            )

    def add(self, image_id: str, counts: ImageCounts) -> None:
        for ids, sweep in self._lists:
            if image_id in ids:
                sweep.add(counts)

    def result(self) -> SweepResult:
        """The counts of all processes. Every process must call it, since it all-reduces."""
        for _, sweep in self._lists:
            sweep.pixels = all_sum_counts(sweep.pixels)
            sweep.images = int(all_sum_counts(np.array([sweep.images]))[0])
        return SweepResult(*(sweep for _, sweep in self._lists))
