"""Reading the JSON that the evaluations write (misc.evaluation.tables)."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from misc.errors import InputError, reason
from misc.evaluation.confusion import Scores
from misc.evaluation.tables import Evaluated
from misc.files import strict_json


class Curve(NamedTuple):
    """mIoU over background thresholds: two (T,) float64, shares; NaN where nothing was counted."""

    thresholds: np.ndarray
    miou: np.ndarray


class Best(NamedTuple):
    """The threshold that a sweep chose.

    chosen_on   name of the list of images where its mIoU is the highest
    miou_there  the mIoU on that list, a share
    miou        on the evaluated images, None where nothing was counted
    """

    threshold: float
    chosen_on: str
    miou_there: float
    miou: float | None


class Evaluation(NamedTuple):
    """One kind of prediction, as scored.

    names      "background" and the C classes
    scores     from their confusion matrix
    evaluated  the images that were counted, if the file says
    threshold  the background score that was set, if the file says
    sweep      by name of the list of images, the curve over other thresholds; empty if none were tried
    best       the threshold chosen by it, if there is one
    """

    names: list[str]
    scores: Scores
    evaluated: Evaluated | None
    threshold: float | None
    sweep: dict[str, Curve]
    best: Best | None = None

    @property
    def iou_by_name(self) -> dict[str, float]:
        """IoU of the labels that occur."""
        return {n: float(v) for n, v in zip(self.names, self.scores.iou, strict=True) if not np.isnan(v)}


def read_evaluation(path: Path) -> dict[str, Evaluation]:
    """The evaluations in eval_cam.json or eval_sem_seg.json by kind of prediction; InputError if it is no such file."""
    try:
        content = strict_json(path.read_bytes())
        return {kind: _evaluation(result) for kind, result in content.items()}
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such evaluation: run {path.stem}") from error
    except (OSError, ArithmeticError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{path}: not an evaluation ({reason(error)}): run {path.stem} again") from error


def _evaluation(result: dict[str, Any]) -> Evaluation:
    names = list(result["classes"])
    confusion = np.array(result["confusion"])
    if confusion.shape != (len(names), len(names)) or confusion.dtype != np.int64 or confusion.min() < 0:
        raise ValueError(f"the confusion matrix is not one of counts of {len(names)} labels")
    threshold = result.get("threshold")
    sweep = result.get("sweep") or {"curves": {}}
    curves = {name: _curve(sweep["thresholds"], curve["miou"]) for name, curve in sweep["curves"].items()}
    best = _best(sweep["best"], curves) if sweep.get("best") else None
    evaluated = Evaluated(str(result["list"]), int(result["images"])) if "list" in result else None
    threshold = None if threshold is None else float(threshold)
    return Evaluation(names, Scores(confusion), evaluated, threshold, curves, best)


def _best(best: dict[str, Any], curves: dict[str, Curve]) -> Best:
    if best["chosen_on"] not in curves:
        raise ValueError(f"the best threshold was chosen on {best['chosen_on']!r}, of which there is no curve")
    miou = None if best["miou"] is None else float(best["miou"])
    return Best(float(best["threshold"]), best["chosen_on"], float(best["miou_there"]), miou)


def _curve(thresholds: list[float], miou: list[float | None]) -> Curve:
    curve = Curve(np.array(thresholds, np.float64), np.array(miou, np.float64))  # None becomes NaN
    if curve.miou.shape != curve.thresholds.shape or curve.miou.ndim != 1:
        raise ValueError(f"{curve.miou.size} mIoU for {curve.thresholds.size} thresholds")
    return curve
