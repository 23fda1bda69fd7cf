"""A sweep counts, at each threshold, exactly what the fixed-threshold path counts there."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from misc.evaluation.confusion import confusion_matrix
from misc.evaluation.sweep import THRESHOLDS, Sweep, count_image
from misc.method.masks import classes_of

N = 5
# scores on, and one float32 beside, the thresholds; ties between classes; out of range both ways
EDGES = [*THRESHOLDS, *np.nextafter(THRESHOLDS, np.float32(2)), *np.nextafter(THRESHOLDS, np.float32(-2))]
SCORES = st.sampled_from([float(value) for value in EDGES] + [-1.0, 0.215, 0.61, 0.9, 1.0, 7.0])


def by_brute_force(truth, scores, keys, n_labels, index):
    """One threshold at a time, by the functions eval_cam and make_sem_seg use."""
    return confusion_matrix(truth, classes_of(scores, keys, index / 100), n_labels)


@st.composite
def images(draw):
    k = draw(st.integers(0, N - 1))
    keys = np.array(draw(st.permutations(range(N - 1)))[:k], np.int64)
    pixels = st.lists(SCORES, min_size=12 * k, max_size=12 * k)
    scores = np.array(draw(pixels), np.float32).reshape(k, 3, 4)
    truth = draw(st.lists(st.sampled_from([0, 1, 2, 3, 4, 255]), min_size=12, max_size=12))
    return np.array(truth, np.uint8).reshape(3, 4), scores, keys


def test_thresholds_are_those_a_setting_names():
    assert len(THRESHOLDS) == 61 and THRESHOLDS.dtype == np.float32
    for index, text in ((0, "0"), (7, ".07"), (21, ".21"), (29, "0.29"), (60, ".60")):
        assert THRESHOLDS[index] == np.float32(float(text))


@settings(max_examples=60, deadline=None)
@given(st.lists(images(), min_size=1, max_size=3))
def test_every_threshold_is_the_fixed_one(batch):
    sweep = Sweep(N)
    for truth, scores, keys in batch:
        sweep.add(count_image(truth, scores, keys, N))
    for index in range(len(THRESHOLDS)):
        expected = sum(by_brute_force(*image, N, index) for image in batch)
        np.testing.assert_array_equal(sweep.confusion(index), expected)
        np.testing.assert_array_equal(sweep.scores[index].confusion, expected)


@pytest.mark.parametrize("keys", [[0], [253], [9, 0, 253]])
def test_the_most_classes_there_can_be(keys):
    rng = np.random.default_rng(0)
    truth = rng.choice(np.array([0, 1, 10, 254, 255], np.uint8), (20, 30))
    scores, keys = rng.random((len(keys), 20, 30), np.float32), np.array(keys)
    counts = count_image(truth, scores, keys, 255)
    assert counts.pixels.shape == (4, len(keys), 62)  # only what the image shows
    sweep = Sweep(255)
    sweep.add(counts)
    for index in (0, 21, 60):
        np.testing.assert_array_equal(sweep.confusion(index), by_brute_force(truth, scores, keys, 255, index))


def test_by_hand():
    truth = np.array([[0, 1, 1, 2, 255]], np.uint8)
    scores = np.array([[[0.05, 0.5, 0.3, 0.3, 0.9]], [[0.1, 0.2, 0.3, 0.4, 0.9]]], np.float32)
    sweep = Sweep(3)
    sweep.add(count_image(truth, scores, np.array([0, 1]), 3))
    assert sweep.confusion(0).tolist() == [[0, 0, 1], [0, 2, 0], [0, 0, 1]]
    assert sweep.confusion(10).tolist() == [[1, 0, 0], [0, 2, 0], [0, 0, 1]]  # .10 does not exceed .10
    assert sweep.confusion(30).tolist() == [[1, 0, 0], [1, 1, 0], [0, 0, 1]]
    assert sweep.confusion(60).tolist() == [[1, 0, 0], [2, 0, 0], [1, 0, 0]]
    assert (sweep.best, sweep.images) == (10, 1)  # .10 to .29 are perfect: the lowest of them
    assert sweep.miou[10] == 1 and sweep.miou[60] == pytest.approx(0.25 / 3)


def test_no_pixel_to_count():
    sweep = Sweep(3)
    truth = np.full((2, 2), 255, np.uint8)
    sweep.add(count_image(truth, np.ones((1, 2, 2), np.float32), np.array([1]), 3))
    assert sweep.best is None and np.isnan(sweep.miou).all() and not sweep.confusion(0).any()


def test_sweeps_add_up():
    rng = np.random.default_rng(1)
    parts = [Sweep(N), Sweep(N), Sweep(N)]
    for part in (0, 1):
        truth, scores = rng.integers(0, N, (6, 7)).astype(np.uint8), rng.random((2, 6, 7), np.float32)
        for sweep in (parts[part], parts[2]):
            sweep.add(count_image(truth, scores, np.array([3, 1]), N))
    np.testing.assert_array_equal(parts[0].pixels + parts[1].pixels, parts[2].pixels)


def test_misuse():
    with pytest.raises(ValueError, match="differ in size"):
        count_image(np.zeros((2, 3), np.uint8), np.zeros((1, 3, 2), np.float32), np.array([0]), 3)
    with pytest.raises(ValueError, match="ground truth holds label 3"):
        count_image(np.array([[3, 255]], np.uint8), np.zeros((1, 1, 2), np.float32), np.array([0]), 3)
