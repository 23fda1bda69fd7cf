"""The evaluation's tables, its JSON and its CSV."""

import csv
import json
import logging

import numpy as np
import pytest

from misc.evaluation.confusion import Scores
from misc.evaluation.sweep import Sweep, SweepResult, count_image
from misc.evaluation.tables import Evaluated, Result, curve_table, table, table_paths, write_tables

CLASSES = ["cat", "dog", "emu"]
# truth in rows: 6 background and 2 cat pixels; no dog anywhere; emu is only predicted
CONFUSION = np.array([[5, 0, 0, 1], [1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
NOTHING = np.zeros((4, 4), int)
TRAIN = Evaluated("train", 7)


def refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")


def written(folder, results):
    path = folder / "new" / "eval.json"
    write_tables(results, CLASSES, path)
    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


def test_what_a_killed_evaluation_left_goes(tmp_path, abandoned):
    left = abandoned(tmp_path / "new" / "eval.json")
    written(tmp_path, {"mask": Result(Scores(CONFUSION), TRAIN, 0.21)})
    assert not left.exists()


def rows_of(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def content(tmp_path):
    return written(
        tmp_path, {"mask": Result(Scores(CONFUSION), TRAIN, 0.21), "mask + CRF": Result(Scores(NOTHING), TRAIN, 0.21)}
    )


def swept(*pixels: tuple[int, float]) -> Sweep:
    """A sweep over one image whose only class is cat: true label and score of each of its pixels."""
    truth, scores = zip(*pixels, strict=True)
    sweep = Sweep(4)
    sweep.add(count_image(np.array([truth], np.uint8), np.array([[scores]], np.float32), np.array([0]), 4))
    return sweep


EVALUATION = swept((0, 0.1), (1, 0.3), (1, 0.5))  # perfect from .10 to .29
ELSEWHERE = swept((0, 0.35), (1, 0.4))  # perfect from .35 to .39


def test_json_holds_every_figure(content):
    mask = content["mask"]
    assert mask["miou"] == pytest.approx((5 / 7 + 1 / 2 + 0) / 3)
    assert (mask["list"], mask["images"], mask["threshold"]) == ("train", 7, 0.21)
    assert mask["pixel_accuracy"] == pytest.approx(6 / 8)
    assert mask["mean_class_accuracy"] == pytest.approx((5 / 6 + 1 / 2) / 2)
    assert mask["fp_background"] == pytest.approx(1 - 6 / 7)
    assert mask["fn_background"] == pytest.approx(1 - 6 / 7)
    assert mask["fp_classes"] == pytest.approx((0 + 1) / 2)  # cat 1 - 2/2, emu 1 - 0/1; no dog
    assert mask["fn_classes"] == pytest.approx((1 / 2 + 0) / 2)
    assert mask["mean_precision"] == pytest.approx((5 / 6 + 1 + 0) / 3)
    assert mask["mean_fp_rate"] == pytest.approx((1 / 2 + 0 + 0 + 1 / 8) / 4)  # even dog: 0 of 8
    assert mask["confusion"] == CONFUSION.tolist()
    assert list(mask["classes"]) == ["background", *CLASSES]
    cat = {"iou": 0.5, "precision": 1.0, "recall": 0.5, "fp": 0.0, "fn": 0.5, "fp_rate": 0.0, "fn_rate": 0.5}
    assert mask["classes"]["cat"] == cat
    assert "sweep" not in mask


def test_json_says_null_where_nothing_was_counted(content):
    assert content["mask"]["classes"]["dog"]["iou"] is None
    assert content["mask"]["classes"]["dog"]["precision"] is None
    assert content["mask"]["classes"]["emu"]["recall"] is None
    assert content["mask + CRF"]["miou"] is None
    assert content["mask + CRF"]["pixel_accuracy"] is None


def test_table_names_kinds_and_classes_that_occur():
    rows = table({"mask": Scores(CONFUSION), "mask + CRF": Scores(NOTHING)}, ["background", *CLASSES]).splitlines()
    figures = {row.split()[0]: row.split()[1:] for row in rows}
    assert rows[1].split() == ["mask", "mask", "+", "CRF"]
    assert rows[2].split() == ["IoU", "precision", "recall", "FP", "rate", "FN", "rate"] * 2
    assert figures["background"] == ["71.43", "83.33", "83.33", "50.00", "16.67"] + ["-"] * 5
    assert figures["cat"] == ["50.00", "100.00", "50.00", "0.00", "50.00"] + ["-"] * 5
    assert figures["emu"] == ["0.00", "0.00", "-", "12.50", "-"] + ["-"] * 5
    assert "dog" not in figures
    assert figures["mean"][:2] == ["(mIoU)", "40.48"]
    assert "mask, shares of the union: fp bg 14.29, fp classes 50.00, fn bg 14.29, fn classes 25.00" in rows


def test_the_curve_of_one_list(tmp_path):
    result = Result(EVALUATION.scores[30], TRAIN, 0.3, SweepResult(EVALUATION))
    sweep = written(tmp_path, {"CAM": result})["CAM"]["sweep"]
    assert sweep["thresholds"][::20] == [0, 0.2, 0.4, 0.6] and len(sweep["thresholds"]) == 61
    curve = sweep["curves"]["evaluation"]
    assert list(sweep["curves"]) == ["evaluation"] and curve["images"] == 1
    assert [curve["miou"][k] for k in (0, 9, 10, 29)] == pytest.approx([1 / 3, 1 / 3, 1, 1])
    assert curve["miou"][30] == pytest.approx((1 / 2 + 1 / 2) / 2)
    assert curve["mean_recall"][0] == pytest.approx((0 + 1) / 2)
    assert curve["iou"]["cat"][0] == pytest.approx(2 / 3) and curve["iou"]["dog"] == [None] * 61
    best = sweep["best"]
    assert (best["threshold"], best["chosen_on"], best["miou"], best["miou_there"]) == (0.1, "evaluation", 1, 1)
    assert best["classes"]["cat"]["recall"] == 1
    text = curve_table("CAM", 0.3, result.scores.miou, result.sweep)
    assert "best: 100.00 at 0.10 (set: 50.00 at 0.3)" in text


def test_a_threshold_chosen_elsewhere_is_measured_here(tmp_path):
    result = Result(EVALUATION.scores[21], TRAIN, 0.21, SweepResult(EVALUATION, ELSEWHERE))
    sweep = written(tmp_path, {"CAM": result})["CAM"]["sweep"]
    assert list(sweep["curves"]) == ["evaluation", "sweep_list"]
    best = sweep["best"]
    assert (best["threshold"], best["chosen_on"], best["miou_there"]) == (0.35, "sweep_list", 1)
    assert best["miou"] == pytest.approx((1 / 2 + 1 / 2) / 2)  # one of the two cat pixels is missed here
    text = curve_table("CAM", 0.21, 1.0, result.sweep)
    assert "best: 50.00 at 0.35 (set: 100.00 at 0.21), chosen on sweep_list" in text
    figures = {line.split()[0]: line.split()[1:] for line in text.splitlines()}
    assert len(figures["threshold"]) == len(figures["evaluation"]) == len(figures["sweep_list"]) == 13
    assert (figures["threshold"][4], figures["evaluation"][4], figures["sweep_list"][7]) == ("0.20", "100.0", "100.0")


def test_the_csv_files_say_what_the_json_says(tmp_path):
    results = {
        "mask": Result(EVALUATION.scores[30], TRAIN, 0.3, SweepResult(EVALUATION, ELSEWHERE)),
        "mask + CRF": Result(Scores(CONFUSION), TRAIN, 0.3),
    }
    content = written(tmp_path, results)
    json_path, classes_path, curve_path = table_paths(tmp_path / "new" / "eval.json")
    assert sorted((tmp_path / "new").iterdir()) == sorted([json_path, classes_path, curve_path])
    classes = rows_of(classes_path)
    tables = dict.fromkeys((row["kind"], row["threshold"], row["chosen"]) for row in classes)
    assert list(tables) == [
        ("mask", "0.3", "set"),
        ("mask", "0.35", "best on sweep_list"),
        ("mask + CRF", "0.3", "set"),
    ]
    for row in classes:
        result = content[row["kind"]]
        expected = (result if row["chosen"] == "set" else result["sweep"]["best"])["classes"][row["class"]]
        assert {key: float(row[key]) if row[key] else None for key in expected} == expected
    assert [row["number"] for row in classes[:4]] == ["0", "1", "2", "3"]
    curves = rows_of(curve_path)
    assert [row["list"] for row in curves] == ["evaluation"] * 61 + ["sweep_list"] * 61
    for row in curves:
        curve = content["mask"]["sweep"]["curves"][row["list"]]
        index = round(100 * float(row["threshold"]))
        assert float(row["miou"]) == curve["miou"][index] and row["images"] == "1"
        assert float(row["IoU cat"]) == curve["iou"]["cat"][index] and row["IoU dog"] == ""


def test_the_curve_of_an_earlier_run_does_not_stay(tmp_path):
    swept_result = {"CAM": Result(EVALUATION.scores[0], TRAIN, 0.0, SweepResult(EVALUATION))}
    written(tmp_path, swept_result)
    curve_path = table_paths(tmp_path / "new" / "eval.json")[2]
    assert curve_path.is_file()
    written(tmp_path, {"CAM": Result(Scores(CONFUSION), TRAIN, 0.0)})
    assert not curve_path.exists()


def test_nothing_but_void_has_no_best_threshold(tmp_path):
    nothing = Result(Scores(NOTHING), TRAIN, 0.21, SweepResult(swept((255, 0.3))))
    assert written(tmp_path, {"CAM": nothing})["CAM"]["sweep"]["best"] is None
    assert "no pixel of evaluation" in curve_table("CAM", 0.21, float("nan"), nothing.sweep)


def test_a_best_threshold_at_the_end_is_said_to_be_so():
    rising = swept((0, 0.6), (1, 0.9))
    assert rising.best == 60
    assert "the best may lie beyond" in curve_table("CAM", 0.21, 0.5, SweepResult(rising))


def test_equal_results_are_equal_files(tmp_path):
    for folder in ("a", "b"):
        written(tmp_path / folder, {"CAM": Result(EVALUATION.scores[0], TRAIN, 0.0, SweepResult(EVALUATION))})
    for first in table_paths(tmp_path / "a" / "new" / "eval.json"):
        assert first.read_bytes() == (tmp_path / "b" / "new" / first.name).read_bytes()


def test_the_tables_are_logged(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    written(tmp_path, {"CAM": Result(EVALUATION.scores[0], TRAIN, 0.0, SweepResult(EVALUATION))})
    assert "mIoU" in caplog.text and "eval.json" in caplog.text
