"""Pictures of maps, masks and labels: the colours of single pixels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from misc.method.boundary_labels import BoundaryLabel
from misc.report.panels import (
    BOUNDARY_COLOURS,
    BOUNDARY_NAMES,
    Panel,
    boundary_map,
    cam_overlay,
    class_colour,
    coloured_boundary_label,
    coloured_mask,
    grey,
    shrink,
)


def test_grey_is_stretched_to_the_largest_value():
    picture = grey(np.array([[0, 2.0], [1.0, 4.0]], np.float32))
    assert picture.dtype == np.uint8 and picture.shape == (2, 2, 3)
    assert picture[..., 0].tolist() == [[0, 128], [64, 255]]
    assert (picture == picture[..., :1]).all()


def test_a_blank_map_is_black():
    assert not grey(np.zeros((2, 3), np.float32)).any()


def test_a_boundary_map_covers_its_image():
    picture = boundary_map(np.array([[0, 17], [255, 3]], np.uint8), (5, 7))
    rows = [[0] * 4 + [17] * 3] * 4 + [[255] * 4 + [3] * 3]
    assert picture.shape == (5, 7, 3) and (picture == np.array(rows)[..., None]).all()


def test_a_boundary_map_of_another_image_is_refused():
    with pytest.raises(ValueError, match=r"it is \(2, 2\), but the image \(5, 9\)"):
        boundary_map(np.zeros((2, 2), np.uint8), (5, 9))


def test_the_overlay_mixes_the_strongest_map_with_the_image():
    image = np.full((1, 3, 3), 100, np.uint8)
    cam = np.array([[[0, 1, 0.2]], [[0, 0.3, 1.5]]], np.float32)  # a foreign map may exceed 1
    picture = cam_overlay(image, cam)
    dark_blue, dark_red = (50, 50, (100 + 127.5) / 2), ((100 + 127.5) / 2, 50, 50)  # the ends of jet
    np.testing.assert_allclose(picture[0], [dark_blue, dark_red, dark_red], atol=0.5)


def test_the_overlay_of_an_image_without_classes():
    image = np.full((2, 2, 3), 100, np.uint8)
    zeros = np.zeros((1, 2, 2), np.float32)
    np.testing.assert_array_equal(cam_overlay(image, zeros[:0]), cam_overlay(image, zeros))


def test_masks_have_the_colours_of_voc():
    picture = coloured_mask(np.array([[0, 1, 15, 255]], np.uint8))
    assert picture.tolist() == [[[0, 0, 0], [128, 0, 0], [192, 128, 128], [224, 224, 192]]]
    assert class_colour(15) == (192, 128, 128)


def test_every_boundary_label_has_a_name_and_a_colour_of_its_own():
    assert set(BOUNDARY_COLOURS) == set(BOUNDARY_NAMES) == set(BoundaryLabel)
    assert len(set(BOUNDARY_COLOURS.values())) == len(set(BOUNDARY_NAMES.values())) == len(BoundaryLabel)
    labels = np.array([list(BoundaryLabel)], np.uint8)
    assert [tuple(pixel) for pixel in coloured_boundary_label(labels)[0].tolist()] == [
        BOUNDARY_COLOURS[label] for label in BoundaryLabel
    ]


def test_what_is_no_boundary_label_is_refused():
    with pytest.raises(ValueError, match="it holds 77, which"):
        coloured_boundary_label(np.array([[0, 77]], np.uint8))


@given(height=st.integers(1, 60), width=st.integers(1, 60), flat=st.booleans())
def test_shrunk_keeps_the_shape_and_never_enlarges(height, width, flat):
    picture = np.zeros((height, width, 3), np.uint8)
    small = shrink(Panel("mask", picture, flat=flat), 20).picture
    assert max(small.shape[:2]) == min(20, max(height, width))
    if max(height, width) > 20:
        assert small.shape[0] == pytest.approx(height * 20 / max(height, width), abs=1) and small.shape[1] >= 1


def test_a_drawing_is_shrunk_without_new_colours():
    stripes = np.zeros((40, 40, 3), np.uint8)
    stripes[::2] = 200
    assert set(shrink(Panel("mask", stripes, flat=True), 13).picture.ravel().tolist()) <= {0, 200}
    assert len(set(shrink(Panel("input", stripes), 13).picture.ravel().tolist())) > 2


def test_nothing_stays_nothing():
    assert shrink(Panel("mask", None, "run make_sem_seg"), 13).picture is None
