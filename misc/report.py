"""Evaluation results as a table on the terminal and as JSON."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np

from misc.evaluation import Scores
from misc.files import replacing

log = logging.getLogger(__name__)


def write_report(results: dict[str, Scores], class_names: list[str], path: Path) -> None:
    """Log a per-class table and save everything, confusion matrices included.

    results   for each kind of prediction its scores over background and the C classes
    """
    names = ["background", *class_names]
    log.info("%s", table(results, names))
    content = {kind: as_dict(scores, names) for kind, scores in results.items()}
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    log.info("written to %s", path)


def table(results: dict[str, Scores], names: list[str]) -> str:
    """Per-class IoU in percent, a column for each kind of prediction; then the summary rows."""
    width = max(map(len, names))
    rows = [" " * width + "".join(f"{kind:>14}" for kind in results)]
    columns = [100 * scores.iou for scores in results.values()]
    for index, name in enumerate(names):
        if not all(np.isnan(column[index]) for column in columns):
            rows.append(f"{name:<{width}}" + "".join(f"{column[index]:14.2f}" for column in columns))
    for label, key in (("mIoU", "miou"), ("fp bg", "fp_background"), ("fp classes", "fp_classes"),
                       ("fn bg", "fn_background"), ("fn classes", "fn_classes")):  # fmt: skip
        values = [100 * summary(scores)[key] for scores in results.values()]
        rows.append(f"{label:<{width}}" + "".join(f"{value:14.2f}" for value in values))
    return "IoU in percent, classes that occur\n" + "\n".join(rows)


def summary(scores: Scores) -> dict[str, float]:
    """The single figures of a result, as shares in [0, 1]; NaN where nothing was counted."""
    return {
        "miou": scores.miou,
        "fp_background": float(scores.fp[0]),
        "fp_classes": _mean(scores.fp[1:]),
        "fn_background": float(scores.fn[0]),
        "fn_classes": _mean(scores.fn[1:]),
        "pixel_accuracy": scores.pixel_accuracy,
        "mean_class_accuracy": scores.mean_class_accuracy,
    }


def as_dict(scores: Scores, names: list[str]) -> dict[str, Any]:
    """Everything a result says, for JSON: null where a class never occurred."""
    per_class = {
        name: {"iou": _null(scores.iou[i]), "fp": _null(scores.fp[i]), "fn": _null(scores.fn[i])}
        for i, name in enumerate(names)
    }
    totals = {key: _null(value) for key, value in summary(scores).items()}
    return {**totals, "classes": per_class, "confusion": scores.confusion.tolist()}


def _mean(values: np.ndarray) -> float:
    seen = values[~np.isnan(values)]
    return float(seen.mean()) if seen.size else float("nan")


def _null(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
