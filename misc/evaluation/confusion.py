"""Segmentation measures from one confusion matrix, equal to chainercv's. docs/method.md, section 7."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from misc.errors import InputError
from misc.formats.images import size_remark

VOID = 255  # ground truth pixels that are not evaluated


def confusion_matrix(truth: np.ndarray, prediction: np.ndarray, n_labels: int) -> np.ndarray:
    """Count how often each true label was predicted as each label.

    truth       (H, W) uint8 in [0, n_labels) or 255 void, which is left out
    prediction  (H, W) integer in [0, n_labels)
    Returns     (n_labels, n_labels) int64, rows true, columns predicted.
    Raises      ValueError if the sizes differ or a label is out of range.
    """
    if truth.shape != prediction.shape:
        remark = size_remark(truth.shape, prediction.shape)
        raise ValueError(f"ground truth {truth.shape} and prediction {prediction.shape} differ in size{remark}")
    known = truth != VOID
    true, predicted = truth[known].astype(np.int64), prediction[known].astype(np.int64)
    check_range("ground truth", true, n_labels)
    check_range("prediction", predicted, n_labels)
    return np.bincount(n_labels * true + predicted, minlength=n_labels**2).reshape(n_labels, n_labels)


def check_range(name: str, labels: np.ndarray, n_labels: int) -> None:
    """ValueError, naming the worst, if a label lies outside [0, n_labels)."""
    if labels.size and not 0 <= labels.min() <= labels.max() < n_labels:
        worst = labels.max() if labels.max() >= n_labels else labels.min()
        raise ValueError(f"{name} holds label {worst}, but there are {n_labels} (0 is background)")


def confusion_counter(backend: str) -> Callable[[np.ndarray, np.ndarray, int], np.ndarray]:
    """The function that counts a confusion matrix: ours for `own`, the installed chainercv's for `chainercv`."""
    if backend == "own":
        return confusion_matrix
    try:
        from chainercv.evaluations import calc_semantic_segmentation_confusion
    except ImportError as error:
        raise InputError("eval_backend: chainercv is not installed, see requirements-chainercv.txt") from error

    def chainercv_confusion(truth: np.ndarray, prediction: np.ndarray, n_labels: int) -> np.ndarray:
        known = truth != VOID
        if truth.shape == prediction.shape:  # chainercv itself refuses sizes that differ
            check_range("ground truth", truth[known], n_labels)
            check_range("prediction", prediction[known], n_labels)
        signed = np.where(truth == VOID, -1, truth.astype(np.int32))
        counted = calc_semantic_segmentation_confusion(iter([prediction.astype(np.int32)]), iter([signed]))
        missing = n_labels - len(counted)  # it stops at the largest label that occurs
        return np.pad(counted, (0, missing))

    return chainercv_confusion


@dataclass(frozen=True)
class Scores:
    """What a confusion matrix says; every array is (C+1,) float64, NaN for a label never seen.

    confusion   (C+1, C+1) int64, rows true, columns predicted
    """

    confusion: np.ndarray

    @cached_property
    def truth(self) -> np.ndarray:
        return self.confusion.sum(axis=1)

    @cached_property
    def predicted(self) -> np.ndarray:
        return self.confusion.sum(axis=0)

    @cached_property
    def union(self) -> np.ndarray:
        return self.truth + self.predicted - np.diag(self.confusion)

    @property
    def iou(self) -> np.ndarray:
        return _ratio(np.diag(self.confusion), self.union)

    @property
    def fp(self) -> np.ndarray:
        """1 - truth/union: the share of the union that only the prediction claims (published name)."""
        return 1 - _ratio(self.truth, self.union)

    @property
    def fn(self) -> np.ndarray:
        """1 - predicted/union: the share of the union that only the ground truth holds (published name)."""
        return 1 - _ratio(self.predicted, self.union)

    @property
    def precision(self) -> np.ndarray:
        """Right pixels of those predicted as the class; NaN for a class never predicted."""
        return _ratio(np.diag(self.confusion), self.predicted)

    @property
    def recall(self) -> np.ndarray:
        """Right pixels of those of the class; NaN for a class without a true pixel."""
        return _ratio(np.diag(self.confusion), self.truth)

    @property
    def fp_rate(self) -> np.ndarray:
        """Share of the pixels that are not of the class that were predicted as it."""
        return _ratio(self.predicted - np.diag(self.confusion), self.confusion.sum() - self.truth)

    @property
    def fn_rate(self) -> np.ndarray:
        """Share of the class's pixels that were predicted as something else: 1 - recall."""
        return _ratio(self.truth - np.diag(self.confusion), self.truth)

    @property
    def class_accuracy(self) -> np.ndarray:
        """The recall, under chainercv's name."""
        return self.recall

    @property
    def pixel_accuracy(self) -> float:
        total = self.confusion.sum()
        return float(np.trace(self.confusion) / total) if total else float("nan")

    @property
    def miou(self) -> float:
        """Mean IoU over the labels that occur in truth or prediction; NaN if none does."""
        return mean(self.iou)

    @property
    def miou_of_true_labels(self) -> float:
        """Mean IoU over the labels that occur in truth, as DeepLab's evaluations count; on VOC's lists the same."""
        return mean(self.iou[self.truth > 0])

    @property
    def frequency_weighted_iou(self) -> float:
        """The IoU of each label weighted by its share of the true pixels."""
        total = self.truth.sum()
        return float(np.nansum(self.truth * self.iou) / total) if total else float("nan")

    @property
    def mean_class_accuracy(self) -> float:
        return mean(self.class_accuracy)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)


def mean(values: np.ndarray) -> float:
    """The mean of the values that are not NaN; NaN if all are."""
    seen = values[~np.isnan(values)]
    return float(seen.mean()) if seen.size else float("nan")
