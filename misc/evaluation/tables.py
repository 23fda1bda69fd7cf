"""Evaluation results on the terminal, as JSON and as CSV.

docs/evaluation.md says what the files hold. fp and fn are the published figures, shares of the union of truth and
prediction: IoU + fp + fn = 1. fp_rate is the share of the pixels not of the class that were taken for it, fn_rate
the share of its pixels that were missed.
"""

import csv
import json
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from misc.evaluation.confusion import Scores, mean
from misc.evaluation.sweep import THRESHOLDS, Sweep, SweepResult
from misc.files import remove_abandoned, replacing

MEASURES = ("iou", "precision", "recall", "fp", "fn", "fp_rate", "fn_rate")  # per class
COLUMNS = {"IoU": "iou", "precision": "precision", "recall": "recall", "FP rate": "fp_rate", "FN rate": "fn_rate"}
CURVES = ("miou", "mean_precision", "mean_recall", "mean_fp_rate", "mean_fn_rate")
UNION_SHARES = {
    "fp_background": "fp bg",
    "fp_classes": "fp classes",
    "fn_background": "fn bg",
    "fn_classes": "fn classes",
}
MEAN, CELL = "mean (mIoU)", 10  # a row and the width of the table's columns
COARSE = range(0, len(THRESHOLDS), 5)  # the thresholds shown on the terminal: every .05

log = logging.getLogger(__name__)


class Evaluated(NamedTuple):
    """The images that were counted: the name of their list, and how many there are."""

    list: str
    images: int


class Result(NamedTuple):
    """One kind of prediction: its scores at the set threshold, if it has one, and its sweep if it has one."""

    scores: Scores
    evaluated: Evaluated
    threshold: float | None = None
    sweep: SweepResult | None = None


def table_paths(path: Path) -> list[Path]:
    """The files `write_tables` writes for `path` (.json)."""
    return [path, *(path.with_name(f"{path.stem}_{table}.csv") for table in ("classes", "curve"))]


def write_tables(results: dict[str, Result], class_names: list[str], path: Path) -> None:
    """Log the tables and save everything, confusion matrices included; the module says in which files.

    results   for each kind of prediction its result over background and the C classes
    """
    names = ["background", *class_names]
    log.info("%s", table({kind: result.scores for kind, result in results.items()}, names))
    for kind, result in results.items():
        if result.sweep is not None and result.threshold is not None:
            log.info("%s", curve_table(kind, result.threshold, result.scores.miou, result.sweep))
    json_path, classes_path, curve_path = table_paths(path)
    content = {kind: as_dict(result, names) for kind, result in results.items()}
    remove_abandoned(json_path.parent)
    with replacing(json_path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    _write_csv(classes_path, ["kind", "threshold", "chosen", "number", "class", *MEASURES], class_rows(results, names))
    curve_path.unlink(missing_ok=True)  # an earlier run may have left one, and this one may have swept nothing
    if any(result.sweep for result in results.values()):
        header = ["kind", "list", "threshold", "images", *CURVES, *(f"IoU {name}" for name in names)]
        _write_csv(curve_path, header, curve_rows(results))
    log.info("written to %s and, as CSV, beside it", json_path)


def table(results: dict[str, Scores], names: list[str]) -> str:
    """Per class IoU, precision, recall and error rates in percent for each kind of prediction; then their means
    and the published summary."""
    width = max(map(len, (*names, MEAN)))
    kinds = "".join(kind.rjust(CELL * len(COLUMNS)) for kind in results)
    titles = "".join(title.rjust(CELL) for title in COLUMNS) * len(results)
    rows = [" " * width + kinds, " " * width + titles]

    def row(label: str, values: Iterable[float]) -> str:
        return label.ljust(width) + "".join(("-" if np.isnan(v) else f"{100 * v:.2f}").rjust(CELL) for v in values)

    columns = [getattr(scores, key) for scores in results.values() for key in COLUMNS.values()]
    for index, name in enumerate(names):
        if any(scores.union[index] for scores in results.values()):
            rows.append(row(name, (column[index] for column in columns)))
    rows.append(row(MEAN, map(mean, columns)))
    for kind, scores in results.items():
        totals = {key: value for key, value in summary(scores).items() if key in UNION_SHARES}
        parts = (f"{UNION_SHARES[key]} {100 * value:.2f}" for key, value in totals.items())
        rows.append(f"{kind}, shares of the union: {', '.join(parts)}")
    return "in percent, classes that occur\n" + "\n".join(rows)


def curve_table(kind: str, threshold: float, miou: float, sweep: SweepResult) -> str:
    """mIoU in percent at every fifth threshold, the best one, and on which images it was chosen."""
    rows = [f"{kind}: mIoU over background thresholds", "threshold".ljust(12)]
    rows[1] += "".join(f"{index / 100:6.2f}" for index in COARSE)
    for name, curve in sweep.curves.items():
        rows.append(name.ljust(12) + "".join(f"{100 * curve.miou[index]:6.1f}" for index in COARSE))
    best = sweep.best
    if best is None:
        return "\n".join([*rows, f"no pixel of {sweep.chosen_on} has a known label: there is no best threshold"])
    there = 100 * sweep.evaluation.miou[best]
    line = f"best: {there:.2f} at {best / 100:.2f} (set: {100 * miou:.2f} at {threshold:g}), "
    if sweep.sweep_list is None:
        line += "chosen on the very images it is measured on"
    else:
        line += f"chosen on sweep_list, where it gives {100 * sweep.sweep_list.miou[best]:.2f}"
    if best == len(THRESHOLDS) - 1:
        line += "; the last of the range, the best may lie beyond"
    return "\n".join([*rows, line])


def summary(scores: Scores) -> dict[str, float]:
    """The single figures of a result, as shares in [0, 1]; NaN where nothing was counted."""
    return {
        "miou": scores.miou,
        **{f"mean_{key}": mean(getattr(scores, key)) for key in ("precision", "recall", "fp_rate", "fn_rate")},
        "fp_background": float(scores.fp[0]),
        "fp_classes": mean(scores.fp[1:]),
        "fn_background": float(scores.fn[0]),
        "fn_classes": mean(scores.fn[1:]),
        "pixel_accuracy": scores.pixel_accuracy,
        "mean_class_accuracy": scores.mean_class_accuracy,
        "miou_of_true_labels": scores.miou_of_true_labels,
        "frequency_weighted_iou": scores.frequency_weighted_iou,
    }


def as_dict(result: Result, names: list[str]) -> dict[str, Any]:
    """Everything a result says, for JSON: null where nothing was counted."""
    totals = {key: _null(value) for key, value in summary(result.scores).items()}
    content = {
        **result.evaluated._asdict(),
        "threshold": result.threshold,
        **totals,
        "classes": _classes(result.scores, names),
    }
    content["confusion"] = result.scores.confusion.tolist()
    if result.sweep is not None:
        content["sweep"] = _sweep(result.sweep, names)
    return content


def _classes(scores: Scores, names: list[str]) -> dict[str, dict[str, float | None]]:
    columns = {key: getattr(scores, key) for key in MEASURES}
    return {name: {key: _null(column[i]) for key, column in columns.items()} for i, name in enumerate(names)}


def _sweep(sweep: SweepResult, names: list[str]) -> dict[str, Any]:
    best = sweep.best
    chosen = None
    if best is not None:
        chosen = {
            "threshold": best / 100,
            "chosen_on": sweep.chosen_on,
            "miou_there": _null(sweep.curves[sweep.chosen_on].miou[best]),
            "miou": _null(sweep.evaluation.miou[best]),
            "classes": _classes(sweep.evaluation.scores[best], names),
        }
    curves = {name: _curve(curve, names) for name, curve in sweep.curves.items()}
    return {"thresholds": [k / 100 for k in range(len(THRESHOLDS))], "curves": curves, "best": chosen}


def _curve(sweep: Sweep, names: list[str]) -> dict[str, Any]:
    totals = [summary(scores) for scores in sweep.scores]
    curves = {key: [_null(total[key]) for total in totals] for key in CURVES}
    iou = np.array([scores.iou for scores in sweep.scores])
    return {"images": sweep.images, **curves, "iou": {n: list(map(_null, iou[:, i])) for i, n in enumerate(names)}}


def class_rows(results: dict[str, Result], names: list[str]) -> Iterable[list[Any]]:
    """The rows of the CSV of classes: each kind at its set threshold and at its best one."""
    for kind, result in results.items():
        threshold_set = "" if result.threshold is None else f"{result.threshold:g}"
        tables = [(threshold_set, "set", result.scores)]
        best = result.sweep.best if result.sweep else None
        if result.sweep is not None and best is not None:
            chosen = f"best on {result.sweep.chosen_on}"
            tables.append((f"{best / 100:.2f}", chosen, result.sweep.evaluation.scores[best]))
        for threshold, chosen, scores in tables:
            columns = [getattr(scores, key) for key in MEASURES]
            for number, name in enumerate(names):
                yield [kind, threshold, chosen, number, name, *(_null(column[number]) for column in columns)]


def curve_rows(results: dict[str, Result]) -> Iterable[list[Any]]:
    """The rows of the CSV of the curves."""
    for kind, result in results.items():
        for name, sweep in result.sweep.curves.items() if result.sweep else ():
            for index, scores in enumerate(sweep.scores):
                totals = summary(scores)
                figures = [_null(value) for value in (*(totals[key] for key in CURVES), *scores.iou)]
                yield [kind, name, f"{index / 100:.2f}", sweep.images, *figures]


def _write_csv(path: Path, header: list[str], rows: Iterable[list[Any]]) -> None:
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def _null(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
