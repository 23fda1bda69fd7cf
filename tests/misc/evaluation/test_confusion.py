"""Confusion counts and scores, against chainercv's figures and by hand."""

import importlib.util
import sys
import types

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from misc.errors import InputError
from misc.evaluation.confusion import Scores, confusion_counter, confusion_matrix

N = 4
LABELS = st.sampled_from([0, 1, 2, 3, 255])


def maps(elements):
    return arrays.arrays(np.uint8, (3, 5), elements=elements)


@pytest.fixture(scope="module")
def measured(golden):
    g = golden("chainercv_eval")
    pairs = [(g[f"gt{i}"], g[f"pred{i}"]) for i in range(4)]
    return g, Scores(sum(confusion_matrix(truth, prediction, 21) for truth, prediction in pairs))


def test_golden_counts(measured):
    g, scores = measured
    expected = np.zeros((21, 21), np.int64)  # chainercv stops at the largest label that occurs
    expected[:20, :20] = g["confusion"]
    np.testing.assert_array_equal(scores.confusion, expected)


@pytest.mark.parametrize("name", ["iou", "fp", "fn"])
def test_golden_figures_of_classes(measured, name):
    g, scores = measured
    found = getattr(scores, name)
    assert found.shape == (21,) and np.isnan(found[20])
    np.testing.assert_allclose(found[:20], g[name], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["miou", "pixel_accuracy", "mean_class_accuracy"])
def test_golden_totals(measured, name):
    g, scores = measured
    assert getattr(scores, name) == pytest.approx(float(g[name]), abs=1e-12)


def test_by_hand():
    truth = np.array([[0, 0, 0, 1], [1, 1, 255, 255]], np.uint8)
    prediction = np.array([[0, 0, 1, 1], [1, 0, 2, 1]], np.uint8)
    scores = Scores(confusion_matrix(truth, prediction, 3))
    np.testing.assert_array_equal(scores.confusion, [[2, 1, 0], [1, 2, 0], [0, 0, 0]])
    np.testing.assert_allclose(scores.iou, [2 / 4, 2 / 4, np.nan])
    np.testing.assert_allclose(scores.fp, [1 - 3 / 4, 1 - 3 / 4, np.nan])
    np.testing.assert_allclose(scores.class_accuracy, [2 / 3, 2 / 3, np.nan])
    assert scores.miou == 0.5
    assert scores.pixel_accuracy == pytest.approx(4 / 6)
    assert scores.mean_class_accuracy == pytest.approx(2 / 3)


def test_fp_is_of_the_truth_and_fn_of_the_prediction():
    """The published names: 1 - gt/union is fp, 1 - pred/union is fn."""
    confusion = np.array([[0, 3], [0, 1]])  # three pixels of 0 were taken for 1
    scores = Scores(confusion)
    np.testing.assert_allclose(scores.fp, [0, 3 / 4])
    np.testing.assert_allclose(scores.fn, [1, 0])


def test_a_class_only_predicted_counts_and_an_absent_one_does_not():
    scores = Scores(confusion_matrix(np.array([[0, 0]], np.uint8), np.array([[0, 1]], np.uint8), 3))
    np.testing.assert_allclose(scores.iou, [0.5, 0, np.nan])
    assert scores.miou == 0.25
    assert scores.mean_class_accuracy == 0.5  # class 1 has no true pixel to be accurate on


def test_nothing_but_void():
    truth = np.full((2, 2), 255, np.uint8)
    scores = Scores(confusion_matrix(truth, np.zeros_like(truth), 2))
    assert scores.confusion.shape == (2, 2) and scores.confusion.sum() == 0
    assert np.isnan([scores.miou, scores.pixel_accuracy, scores.mean_class_accuracy]).all()


@pytest.mark.parametrize(
    ("truth", "prediction", "message"),
    [
        ([[0, 4]], [[0, 0]], "ground truth holds label 4"),
        ([[0, 0]], [[0, 7]], "prediction holds label 7"),
        ([[0, 0]], [[0, 255]], "prediction holds label 255"),
        ([[0, 0]], [[-1, 0]], "prediction holds label -1"),
        ([[0, 0]], [[0], [0]], "differ in size"),
    ],
)
def test_misuse(truth, prediction, message):
    with pytest.raises(ValueError, match=message):
        confusion_matrix(np.array(truth), np.array(prediction), N)


def test_a_prediction_under_void_may_be_anything():
    truth, prediction = np.array([[255, 1]], np.uint8), np.array([[255, 1]], np.uint8)
    np.testing.assert_array_equal(confusion_matrix(truth, prediction, 2), [[0, 0], [0, 1]])


@given(maps(LABELS), maps(LABELS), maps(st.integers(0, 3)), maps(st.integers(0, 3)))
def test_the_confusion_of_two_images_is_the_sum(truth1, truth2, prediction1, prediction2):
    together = confusion_matrix(np.vstack([truth1, truth2]), np.vstack([prediction1, prediction2]), N)
    apart = confusion_matrix(truth1, prediction1, N) + confusion_matrix(truth2, prediction2, N)
    np.testing.assert_array_equal(together, apart)
    assert together.sum() == (truth1 != 255).sum() + (truth2 != 255).sum()


@given(maps(LABELS))
def test_a_perfect_prediction(truth):
    scores = Scores(confusion_matrix(truth, np.where(truth == 255, 0, truth), N))
    present = np.isin(np.arange(N), truth)
    np.testing.assert_array_equal(scores.iou, np.where(present, 1, np.nan))
    np.testing.assert_array_equal(scores.fp, np.where(present, 0, np.nan))
    np.testing.assert_array_equal(scores.fn, np.where(present, 0, np.nan))


@given(maps(LABELS), maps(st.integers(0, 3)))
def test_swapping_truth_and_prediction_swaps_fp_and_fn(truth, prediction):
    there = Scores(confusion_matrix(truth, prediction, N))
    back = Scores(there.confusion.T)
    np.testing.assert_array_equal(there.iou, back.iou)
    np.testing.assert_array_equal(there.fp, back.fn)


@pytest.mark.skipif(importlib.util.find_spec("chainercv") is not None, reason="chainercv is installed")
def test_chainercv_missing():
    with pytest.raises(InputError, match="chainercv is not installed"):
        confusion_counter("chainercv")


@pytest.mark.skipif(importlib.util.find_spec("chainercv") is None, reason="needs chainercv")
def test_chainercv_counts_the_same(golden):
    g = golden("chainercv_eval")
    for i in range(4):
        found = confusion_counter("chainercv")(g[f"gt{i}"], g[f"pred{i}"], 21)
        np.testing.assert_array_equal(found, confusion_matrix(g[f"gt{i}"], g[f"pred{i}"], 21))


def test_chainercv_backend_refuses_what_ours_refuses(monkeypatch):
    """With a stand-in for chainercv: a label out of range is named before it is asked to count."""
    module = types.ModuleType("chainercv.evaluations")
    module.calc_semantic_segmentation_confusion = lambda predictions, truths: np.ones((1, 1), np.int64)
    monkeypatch.setitem(sys.modules, "chainercv", types.ModuleType("chainercv"))
    monkeypatch.setitem(sys.modules, "chainercv.evaluations", module)
    count = confusion_counter("chainercv")
    zero = np.zeros((1, 2), np.uint8)
    assert count(zero, zero, 3).tolist() == [[1, 0, 0], [0, 0, 0], [0, 0, 0]]
    with pytest.raises(ValueError, match="prediction holds label 3"):
        count(zero, np.array([[0, 3]], np.uint8), 3)
    with pytest.raises(ValueError, match="ground truth holds label 9"):
        count(np.array([[9, 255]], np.uint8), zero, 3)


def test_golden_of_deeplab(golden):
    """Its means are over the labels that occur in the truth; a label that is only predicted has an IoU of 0."""
    g = golden("deeplab_metric")
    confusions = [confusion_matrix(g[f"gt{n}"], g[f"pred{n}"], 21) for n in range(3)]
    cases = [(confusion, f"scores{n}", f"class_iou{n}") for n, confusion in enumerate(confusions)]
    for confusion, scores_name, iou_name in [*cases, (sum(confusions), "scores_all", "class_iou_all")]:
        scores = Scores(confusion)
        found = (scores.pixel_accuracy, scores.mean_class_accuracy, scores.miou_of_true_labels)
        np.testing.assert_allclose((*found, scores.frequency_weighted_iou), g[scores_name], rtol=0, atol=1e-12)
        np.testing.assert_allclose(scores.iou, g[iou_name], rtol=0, atol=1e-12)
