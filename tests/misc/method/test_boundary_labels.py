import numpy as np
import pytest

from misc.method.boundary_labels import (
    BoundaryLabel,
    boundary_label,
    box_sums,
    confidence_map,
    neighbourhood_shares,
    salient_edges,
)

PUBLISHED = {"window": 13, "theta_scale": 0.30, "theta_diff": 0.10, "salient_threshold": 0.5}


@pytest.mark.parametrize("image", range(6))
def test_golden(golden, image):
    g = golden("pseudo_masks")
    name = g["ids"][image]
    label = boundary_label(g[f"conf_{name}"], g[f"sal_{name}"], **PUBLISHED)
    assert (label == g[f"boundary_label_{name}"]).mean() >= 0.999


def test_confidence_is_silent_where_the_thresholds_disagree():
    foreground = np.array([[0, 0, 3, 2]])
    background = np.array([[0, 3, 3, 0]])
    assert confidence_map(foreground, background).tolist() == [[0, 255, 3, 2]]


def test_box_sums_leave_out_what_lies_outside():
    mask = np.ones((3, 4), bool)
    assert box_sums(mask, 3).tolist() == [[4, 6, 6, 4], [6, 9, 9, 6], [4, 6, 6, 4]]
    assert (box_sums(mask, 13) == 12).all()


def test_shares_by_hand():
    conf = np.array([[0, 0, 1, 1, 1, 2, 2, 255]], np.uint8)
    p0, p1, p2 = neighbourhood_shares(conf, 3)
    np.testing.assert_allclose(p0, [[1, 2 / 3, 1 / 3, 0, 0, 0, 0, 0]], rtol=1e-6)
    np.testing.assert_allclose(p1, [[0, 1 / 3, 2 / 3, 1, 2 / 3, 2 / 3, 2 / 3, 1 / 2]], rtol=1e-6)
    np.testing.assert_allclose(p2, [[0, 0, 0, 0, 1 / 3, 1 / 3, 0, 0]], rtol=1e-6)


def test_regions_and_the_lines_between_them():
    """Background left, class 1 in the middle, class 2 right: each border is found, with BES's rules."""
    conf = np.zeros((40, 90), np.uint8)
    conf[:, 30:60], conf[:, 60:] = 1, 2
    row = boundary_label(conf, None, **PUBLISHED)[20]
    assert (row[:25] == BoundaryLabel.BACKGROUND).all()
    assert (row[36:54] == BoundaryLabel.FOREGROUND).all() and (row[66:] == BoundaryLabel.FOREGROUND).all()
    # 13 columns: shares 6/13 and 7/13 differ by .077 < .1, 5/13 and 8/13 by .23
    assert (np.flatnonzero(row == BoundaryLabel.BOUNDARY_FG_BG) == [29, 30]).all()
    assert (np.flatnonzero(row == BoundaryLabel.BOUNDARY_FG_FG) == [59, 60]).all()


def test_saliency_adds_two_rules():
    conf = np.full((30, 30), 255, np.uint8)
    saliency = np.zeros((30, 30), np.uint8)
    saliency[:, 15:] = 200
    label = boundary_label(conf, saliency, **PUBLISHED)
    assert (label[:, :13] == BoundaryLabel.BACKGROUND).all()  # saliency == 0
    assert (label[:, 14:16] == BoundaryLabel.BOUNDARY_SALIENT).all()  # its edge wins over everything
    assert (label[:, 18:] == BoundaryLabel.IGNORE).all()
    assert (boundary_label(conf, None, **PUBLISHED) == BoundaryLabel.IGNORE).all()


def test_blank_saliency_gets_the_rules_of_bes():
    conf = np.zeros((20, 20), np.uint8)
    conf[5:15, 5:15] = 4
    blank = np.zeros((20, 20), np.uint8)
    np.testing.assert_array_equal(boundary_label(conf, blank, **PUBLISHED), boundary_label(conf, None, **PUBLISHED))


def test_salient_edges_of_a_ramp_and_of_tiny_images():
    ramp = np.tile(np.arange(8.0), (8, 1))
    # Sobel of a unit ramp: (1 + 2 + 1)·2 = 8, divided by the maximum 7
    np.testing.assert_allclose(salient_edges(ramp), 8 / 7, rtol=1e-12)
    assert salient_edges(ramp.astype(np.uint8)).dtype == np.float64
    assert salient_edges(np.ones((2, 9))).tolist() == np.zeros((2, 9)).tolist()


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (3, 2)])
def test_tiny_images(size):
    label = boundary_label(np.zeros(size, np.uint8), np.ones(size, np.uint8), **PUBLISHED)
    assert label.shape == size and (label == BoundaryLabel.BACKGROUND).all()


def test_sizes_that_differ():
    with pytest.raises(ValueError, match="differ in size"):
        boundary_label(np.zeros((4, 5), np.uint8), np.zeros((5, 4), np.uint8), **PUBLISHED)
