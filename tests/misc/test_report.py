"""The evaluation's table and its JSON."""

import json
import logging

import numpy as np
import pytest

from misc.evaluation import Scores
from misc.report import table, write_report

CLASSES = ["cat", "dog", "emu"]
# truth in rows: 6 background and 2 cat pixels; no dog anywhere; emu is only predicted
CONFUSION = np.array([[5, 0, 0, 1], [1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])


def refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")


@pytest.fixture
def content(tmp_path):
    path = tmp_path / "new" / "eval.json"
    write_report({"mask": Scores(CONFUSION), "mask + CRF": Scores(np.zeros((4, 4), int))}, CLASSES, path)
    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


def test_json_holds_every_figure(content):
    mask = content["mask"]
    assert mask["miou"] == pytest.approx((5 / 7 + 1 / 2 + 0) / 3)
    assert mask["pixel_accuracy"] == pytest.approx(6 / 8)
    assert mask["mean_class_accuracy"] == pytest.approx((5 / 6 + 1 / 2) / 2)
    assert mask["fp_background"] == pytest.approx(1 - 6 / 7)
    assert mask["fn_background"] == pytest.approx(1 - 6 / 7)
    assert mask["fp_classes"] == pytest.approx((0 + 1) / 2)  # cat 1 - 2/2, emu 1 - 0/1; no dog
    assert mask["fn_classes"] == pytest.approx((1 / 2 + 0) / 2)
    assert mask["confusion"] == CONFUSION.tolist()
    assert list(mask["classes"]) == ["background", *CLASSES]
    assert mask["classes"]["cat"] == {"iou": 0.5, "fp": 0.0, "fn": 0.5}


def test_json_says_null_where_nothing_was_counted(content):
    assert content["mask"]["classes"]["dog"] == {"iou": None, "fp": None, "fn": None}
    assert content["mask + CRF"]["miou"] is None
    assert content["mask + CRF"]["pixel_accuracy"] is None


def test_table_names_kinds_and_classes_that_occur():
    rows = table({"mask": Scores(CONFUSION), "mask + CRF": Scores(CONFUSION)}, ["background", *CLASSES]).splitlines()
    figures = {row.split()[0]: row.split()[1:] for row in rows}
    assert "mask" in rows[1] and "mask + CRF" in rows[1]
    assert figures["background"] == ["71.43", "71.43"]
    assert figures["cat"] == ["50.00", "50.00"]
    assert figures["emu"] == ["0.00", "0.00"]
    assert "dog" not in figures
    assert figures["mIoU"] == ["40.48", "40.48"]


def test_the_table_is_logged(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    write_report({"CAM": Scores(CONFUSION)}, CLASSES, tmp_path / "eval.json")
    assert "mIoU" in caplog.text and "eval.json" in caplog.text
