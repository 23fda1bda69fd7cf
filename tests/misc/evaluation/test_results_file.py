"""Evaluations are read back as they were written; anything else is named."""

import json

import numpy as np
import pytest

from misc.errors import InputError
from misc.evaluation.results_file import read_evaluation

CONFUSION = [[6, 2, 0], [1, 3, 0], [0, 0, 0]]
RESULT = {
    "miou": 0.5,
    "classes": {"background": {"iou": 6 / 9}, "cat": {"iou": 0.5}, "dog": {"iou": None}},
    "confusion": CONFUSION,
}
SWEEP = {
    "thresholds": [0.0, 0.5],
    "curves": {"evaluation": {"images": 3, "miou": [0.25, None]}, "sweep_list": {"images": 9, "miou": [0.5, 0.75]}},
    "best": None,
}
BEST = {"threshold": 0.5, "chosen_on": "sweep_list", "miou_there": 0.75, "miou": None, "classes": {}}


@pytest.fixture
def write(tmp_path):
    def to_file(content) -> None:
        text = content if isinstance(content, str) else json.dumps(content)
        (tmp_path / "eval_cam.json").write_text(text)
        return tmp_path / "eval_cam.json"

    return to_file


def test_what_was_counted(write):
    found = read_evaluation(write({"mask": RESULT, "CAM": {**RESULT, "threshold": 0.21}}))
    assert list(found) == ["mask", "CAM"]
    mask = found["mask"]
    assert mask.names == ["background", "cat", "dog"]
    assert mask.scores.confusion.tolist() == CONFUSION
    assert mask.iou_by_name == {"background": pytest.approx(6 / 9), "cat": pytest.approx(3 / 6)}
    assert (mask.threshold, mask.sweep) == (None, {})
    assert found["CAM"].threshold == 0.21


def test_the_curves_of_a_sweep(write):
    sweep = read_evaluation(write({"CAM": {**RESULT, "threshold": 0.3, "sweep": SWEEP}}))["CAM"].sweep
    assert list(sweep) == ["evaluation", "sweep_list"]
    np.testing.assert_array_equal(sweep["evaluation"].thresholds, [0, 0.5])
    np.testing.assert_array_equal(sweep["evaluation"].miou, [0.25, np.nan])
    np.testing.assert_array_equal(sweep["sweep_list"].miou, [0.5, 0.75])


def test_the_best_threshold(write):
    content = {"CAM": {**RESULT, "sweep": {**SWEEP, "best": BEST}}, "mask": {**RESULT, "sweep": SWEEP}}
    found = read_evaluation(write(content))
    assert found["CAM"].best == (0.5, "sweep_list", 0.75, None) and found["mask"].best is None


def test_what_the_evaluations_write_can_be_read(finished_args, tmp_path):
    from run_sample import main
    from tests.test_chain import only

    assert main([*finished_args(), *only("eval_cam", "eval_sem_seg")]) == 0
    cam = read_evaluation(tmp_path / "cam_out_dir" / "eval_cam.json")
    assert cam["CAM"].best == (0.0, "evaluation", 1.0, 1.0)
    assert cam["CAM"].scores.miou == 1.0 and cam["CAM"].names[0] == "background" and len(cam["CAM"].names) == 21
    assert cam["CAM"].evaluated == ("train", 4)
    masks = read_evaluation(tmp_path / "sem_seg" / "eval_sem_seg.json")
    assert masks["mask"].scores.miou == 1.0 > masks["mask + CRF"].scores.miou


@pytest.mark.parametrize(
    "content",
    [
        "",
        "no JSON",
        "[1, 2]",
        '"text"',
        "{" * 10_000,
        {"mask": None},
        {"mask": {}},
        {"mask": {**RESULT, "classes": {"background": {}}}},
        {"mask": {**RESULT, "confusion": [[1, 2], [3]]}},
        {"mask": {**RESULT, "confusion": [[1, 2, 3]]}},
        {"mask": {**RESULT, "confusion": [[0.5] * 3] * 3}},
        {"mask": {**RESULT, "confusion": [[-1] * 3] * 3}},
        {"mask": {**RESULT, "confusion": [["1"] * 3] * 3}},
        {"mask": {**RESULT, "threshold": "low"}},
        {"mask": {**RESULT, "threshold": float("inf")}},
        {"mask": {**RESULT, "threshold": 10**400}},
        json.dumps({"mask": {**RESULT, "threshold": 0.25}}).replace("0.25", "1e999"),
        {"mask": {**RESULT, "sweep": {**SWEEP, "thresholds": [0.0, float("nan")]}}},
        {"mask": {**RESULT, "sweep": [1]}},
        {"mask": {**RESULT, "sweep": {**SWEEP, "best": {"threshold": 0.5}}}},
        {"mask": {**RESULT, "sweep": {**SWEEP, "best": {**BEST, "chosen_on": "moon"}}}},
        {"mask": {**RESULT, "sweep": {**SWEEP, "thresholds": [0.0]}}},
        {"mask": {**RESULT, "sweep": {"curves": {"evaluation": {"miou": [1]}}}}},
    ],
)
def test_what_is_no_evaluation_is_named(write, content):
    path = write(content)
    with pytest.raises(InputError) as error:
        read_evaluation(path)
    text = str(error.value)
    assert text.startswith(str(path)) and "run eval_cam" in text and "\n" not in text


def test_no_evaluation(tmp_path):
    with pytest.raises(InputError, match=r"eval_cam\.json: no such evaluation: run eval_cam"):
        read_evaluation(tmp_path / "eval_cam.json")
