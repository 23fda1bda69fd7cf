"""The figures show the numbers they were given."""

import io
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from misc.evaluation.confusion import Scores
from misc.evaluation.results_file import Curve, Evaluation
from misc.report.charts import (
    MOST_CLASSES,
    confusion_figure,
    iou_figure,
    row_figure,
    running_mean,
    save_figure,
    shown_labels,
    threshold_figure,
    training_figure,
)
from misc.report.panels import Panel
from tests.conftest import PROJECT

RECORDS = [
    {"step": 5, "epoch": 1, "loss": 0.5, "ground": 0.125, "lr": [0.1, 1.0], "images_per_second": 30.0},
    {"step": 10, "epoch": 1, "loss": None, "ground": 0.25, "lr": [0.05, 0.5], "images_per_second": 32.0},
    {"step": 10, "epoch": 1, "validation_loss": 0.75},
    {"step": 15, "epoch": 2, "loss": 0.25, "ground": 0.5, "lr": [0.0, 0.0], "images_per_second": 31.0},
]
# 6 of 8 background pixels, 3 of 4 of the cat; no dog anywhere; emu is only predicted
CONFUSION = np.array([[6, 1, 0, 1], [1, 3, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])


def evaluation(names=("background", "cat", "dog", "emu"), confusion=CONFUSION, threshold=None, **sweep) -> Evaluation:
    return Evaluation(list(names), Scores(confusion), None, threshold, sweep)


def lines_of(axes) -> dict[str, tuple[list, list]]:
    return {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines}


def test_training_curves():
    loss, rate, speed = training_figure(RECORDS).axes
    curves = lines_of(loss)
    assert curves["loss"] == ([5, 15], [0.5, 0.25])  # what was not finite is left out
    assert curves["ground"] == ([5, 10, 15], [0.125, 0.25, 0.5])
    assert curves["validation loss"] == ([10], [0.75])
    assert lines_of(rate)["group 2"] == ([5, 10, 15], [1.0, 0.5, 0.0])
    assert ([5, 10, 15], [30.0, 32.0, 31.0]) in lines_of(speed).values()
    assert ([10, 10], [0, 1]) in lines_of(speed).values()  # where the first epoch ends


def test_training_curves_of_little():
    save = [{"step": 1}, {"step": 2, "loss": 0.5}]
    assert lines_of(training_figure(save).axes[0])["loss"] == ([2], [0.5])
    training_figure([{"step": 1}])


def test_few_points_are_seen_and_steps_are_whole():
    figure = training_figure([{"step": 1, "loss": 0.5, "lr": [0.1], "images_per_second": 9}])
    assert all("." in [line.get_marker() for line in axes.lines] for axes in figure.axes)
    figure.draw_without_rendering()
    low, high = figure.axes[-1].get_xlim()
    assert [tick for tick in figure.axes[-1].get_xticks() if low <= tick <= high] == [1]
    many = training_figure([{"step": step, "loss": 0.5} for step in range(99)])
    assert {line.get_marker() for line in many.axes[0].lines} == {"None"}


numbers = st.none() | st.integers(0, 9) | st.floats(-1e6, 1e6)
records = st.fixed_dictionaries({"step": st.integers(0, 9)}, optional={
    name: numbers | st.lists(numbers, max_size=2) for name in ("epoch", "loss", "lr", "images_per_second", "other")
})  # fmt: skip


@settings(max_examples=20, deadline=None)
@given(st.lists(records, max_size=4))
def test_whatever_a_history_may_hold_is_drawn(history):
    training_figure(history)


@given(st.lists(st.floats(-1e6, 1e6), max_size=30), st.integers(0, 9))
def test_running_mean_is_the_mean_of_the_neighbours(values, reach):
    expected = [np.mean(values[max(0, i - reach) : i + reach + 1]) for i in range(len(values))]
    np.testing.assert_allclose(running_mean(values, reach), expected, atol=1e-6)


def test_threshold_curves_mark_the_best_and_the_set_one():
    thresholds = np.array([0.0, 0.1, 0.2])
    curves = {
        "evaluation": Curve(thresholds, np.array([0.25, 0.5, np.nan])),
        "sweep_list": Curve(thresholds, np.array([0.125, 0.25, 0.5])),
    }
    figure = threshold_figure({"mask": evaluation(), "CAM": evaluation(threshold=0.21, **curves)})
    axes = figure.axes[0]
    lines = lines_of(axes)
    np.testing.assert_array_equal(lines["CAM, evaluation"][1], [25, 50, np.nan])
    np.testing.assert_array_equal(lines["CAM, sweep_list"][1], [12.5, 25, 50])
    assert lines["set: 0.21"][0] == [0.21, 0.21]
    assert [text.get_text() for text in axes.texts] == ["50.0 at 0.10", "50.0 at 0.20"]


def test_set_thresholds_are_told_apart_or_are_one():
    curve = Curve(np.array([0.0, 0.5]), np.array([0.25, 0.5]))

    def set_lines(**thresholds) -> dict:
        found = {kind: evaluation(threshold=value, evaluation=curve) for kind, value in thresholds.items()}
        lines = lines_of(threshold_figure(found).axes[0])
        return {name: x for name, (x, _) in lines.items() if name.startswith("set")}

    assert set_lines(CAM=0.21, mask=0.21) == {"set: 0.21": [0.21, 0.21]}
    assert set_lines(CAM=0.11, mask=0.25) == {"set for CAM: 0.11": [0.11] * 2, "set for mask: 0.25": [0.25] * 2}


def test_threshold_curves_where_nothing_was_counted():
    nothing = Curve(np.array([0.0, 0.1]), np.array([np.nan, np.nan]))
    assert not threshold_figure({"CAM": evaluation(evaluation=nothing)}).axes[0].texts


def test_bars_of_the_classes_that_occur():
    other = evaluation(names=("background", "gnu"), confusion=np.array([[3, 1], [0, 0]]))
    figure = iou_figure({"mask": evaluation(), "CAM": other})
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["background", "cat", "emu", "gnu"]
    mask, cam = axes.containers
    np.testing.assert_allclose([bar.get_width() for bar in mask], [100 * 6 / 9, 100 * 3 / 5, 0])
    np.testing.assert_allclose([bar.get_width() for bar in cam], [75, 0])
    tops = [round(bar.get_y() + bar.get_height() / 2) for bar in cam]
    assert tops == [0, 3]  # beside their names
    assert [text.get_text() for text in figure.legends[0].texts] == ["mask: 42.2", "CAM: 37.5"]


def test_rows_of_the_confusion_matrix_are_shares():
    axes = confusion_figure(evaluation()).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["background", "cat", "emu"]
    shares = np.ma.filled(axes.images[0].get_array(), np.nan)
    np.testing.assert_allclose(shares, [[75, 12.5, 12.5], [25, 75, 0], [np.nan] * 3])
    assert (axes.get_ylabel(), axes.get_xlabel()) == ("ground truth", "predicted")
    assert sorted(text.get_text() for text in axes.texts) == ["12", "12", "25", "75", "75"]


def many(n: int) -> Evaluation:
    confusion = np.diag(np.arange(n))
    confusion[5, 0] = 1  # a label that is mostly missed is shown by its pixels
    return evaluation(names=["background", *(f"class {i}" for i in range(1, n))], confusion=confusion)


def test_of_many_classes_the_frequent_ones_are_shown_in_order():
    assert shown_labels(many(255)) == list(range(255 - MOST_CLASSES, 255))
    assert shown_labels(many(9)) == list(range(9))  # background is predicted once
    picture = Image.open(io.BytesIO(_png(confusion_figure(many(255)))))
    assert max(picture.size) < 2500
    names = [label.get_text() for label in iou_figure({"mask": many(255)}).axes[0].get_yticklabels()]
    assert names[1:] == [f"class {i}" for i in range(1, 255)]


@pytest.mark.parametrize(
    ("name", "shown"), [("$a$", "$a$"), ("_x", "_x"), ("人", "#1"), ("Ärger & <b>", "Ärger & <b>")]
)
def test_odd_names(name, shown):
    odd = evaluation(names=("background", name, "dog", "emu"))
    for axes in (iou_figure({"mask": odd}).axes[0], confusion_figure(odd).axes[0]):
        assert axes.get_yticklabels()[1].get_text() == shown
        assert not axes.get_yticklabels()[1].get_parse_math()
    _png(confusion_figure(odd))  # drawn without a warning


def test_a_row_holds_pictures_and_what_is_missing():
    picture = np.zeros((4, 6, 3), np.uint8)
    panels = [Panel("input", picture), Panel("mask", None, "no mask: run make_sem_seg")]
    figure = row_figure("人", panels, ["input", "mask"], {1: "cat", 2: "人"})
    first, second = figure.axes
    np.testing.assert_array_equal(first.images[0].get_array(), picture)
    assert second.texts[0].get_text() == "no mask:\nrun make_sem_seg"
    legend = [text.get_text() for text in figure.legends[0].texts]
    assert legend[:2] == ["cat", "#2"] and "salient boundary" in legend


def _png(figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def test_the_same_figure_is_the_same_file(tmp_path):
    content = save_figure(training_figure(RECORDS), tmp_path / "new" / "a.png")
    assert content == (tmp_path / "new" / "a.png").read_bytes()
    assert content == save_figure(training_figure(RECORDS), tmp_path / "b.png")
    with Image.open(io.BytesIO(content)) as image:
        assert set(image.info) == {"dpi"}  # no version, no time


@pytest.mark.slow
def test_neither_a_display_nor_a_users_style_is_asked_for(tmp_path):
    (tmp_path / "matplotlibrc").write_text("backend: TkAgg\nfont.size: 30\n")
    script = (
        "import sys; from pathlib import Path\n"
        "from misc.report.charts import save_figure, training_figure\n"
        f"save_figure(training_figure({RECORDS!r}), Path(sys.argv[1]))\n"
        "assert 'matplotlib.pyplot' not in sys.modules and 'tkinter' not in sys.modules"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "a.png")]
    environment = {**os.environ, "MATPLOTLIBRC": str(tmp_path / "matplotlibrc")}
    subprocess.run(command, cwd=PROJECT, env=environment, check=True, timeout=120)
    assert (tmp_path / "a.png").read_bytes() == save_figure(training_figure(RECORDS), tmp_path / "b.png")
