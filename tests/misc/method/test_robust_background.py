"""The classical saliency map: its parts against values by hand, the whole on the generated set."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from misc.method.robust_background import (
    SIGMA_COLOUR,
    background_weight,
    cielab,
    patch_graph,
    patch_saliency,
    robust_background_saliency,
    superpixels,
)
from voc12.generated_set import make_sample


@pytest.mark.parametrize(
    ("rgb", "lab"),
    [  # published values for D65
        ((255, 255, 255), (100, 0, 0)),
        ((0, 0, 0), (0, 0, 0)),
        ((255, 0, 0), (53.24, 80.09, 67.20)),
        ((0, 0, 255), (32.30, 79.19, -107.86)),
        ((119, 119, 119), (50.03, 0, 0)),
    ],
)
def test_cielab(rgb, lab):
    np.testing.assert_allclose(
        cielab(np.array([[rgb]], np.uint8))[0, 0], lab, atol=0.03
    )  # they differ in the white's last digits


def chain(colours: list[float]) -> np.ndarray:
    """Colour distances of patches with these lightnesses."""
    values = np.array(colours)
    return np.abs(values[:, None] - values[None])


def test_background_weight_by_hand():
    """Patches 0 and 1 on the border, alike; 2 within, hanging on 1; it differs by 40 from both."""
    colour = chain([0, 0, 40])
    touching = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]], bool)
    linked = touching
    border = np.array([True, True, False])
    found = background_weight(colour, touching, linked, border)
    step = 40 - (0 + 0 + 40) / 3  # less the mean distance to the most similar neighbour
    far = np.exp(-(step**2) / (2 * SIGMA_COLOUR**2))
    for weight, length, area in zip(found, (2, 2, 2 * far), (2 + far, 2 + far, 1 + 2 * far), strict=True):
        assert weight == pytest.approx(1 - np.exp(-(length**2 / area) / 2), rel=1e-6)


def test_what_differs_from_the_border_is_salient():
    colour = chain([0, 1, 2, 60, 1])
    touching = np.zeros((5, 5), bool)
    for a, b in [(0, 1), (1, 2), (2, 3), (3, 4), (4, 0)]:
        touching[a, b] = touching[b, a] = True
    found = patch_saliency(colour, np.zeros((5, 5)), touching, np.array([True, True, True, False, True]))
    assert found.argmax() == 3 and found[3] == 1 and found.min() == 0
    assert np.delete(found, 3).max() < 0.2


def test_superpixels_keep_to_an_edge():
    lab = np.zeros((40, 60, 3))
    lab[:, 31:] = 80
    patches = superpixels(lab)
    assert patches.min() == 0 and len(np.unique(patches)) == patches.max() + 1 > 100
    assert not set(patches[:, :31].ravel()) & set(patches[:, 31:].ravel())


def test_patch_graph():
    patches = np.array([[0, 0, 1], [0, 2, 1], [3, 3, 3]])
    lab = np.zeros((3, 3, 3))
    lab[1, 1] = 3, 4, 0
    colour, space, touching, border = patch_graph(lab, patches)
    assert colour[2].tolist() == [5, 5, 0, 5]
    assert space[2, 3] == pytest.approx(1 / 3)  # one of three pixels
    assert touching.tolist() == [[0, 1, 1, 1], [1, 0, 1, 1], [1, 1, 0, 1], [1, 1, 1, 0]]
    assert border.tolist() == [True, True, False, True]


def test_an_object_stands_out_and_the_border_does_not():
    image = np.full((90, 140, 3), (40, 120, 60), np.uint8)
    image[30:60, 50:90] = 220, 60, 40
    found = robust_background_saliency(image)
    assert found.shape == (90, 140) and found.dtype == np.float32
    assert found[32:58, 52:88].min() > 0.8
    assert found[:15].max() < 0.1


@settings(max_examples=25, deadline=None)
@given(height=st.integers(1, 40), width=st.integers(1, 40), seed=st.integers(0, 99))
def test_any_image_gets_a_map(height, width, seed):
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    found = robust_background_saliency(image)
    assert found.shape == (height, width) and 0 <= found.min() <= found.max() <= 1
    assert not robust_background_saliency(np.full_like(image, 77)).any()


def test_a_large_image_is_seen_as_a_small_one():
    image = make_sample(5, 0, 128).image
    large = image.repeat(6, axis=0).repeat(6, axis=1)
    found = robust_background_saliency(large)
    assert found.shape == large.shape[:2]
    assert np.abs(found[3::6, 3::6] - robust_background_saliency(image)).mean() < 0.1


@pytest.mark.slow
def test_on_the_generated_set_it_beats_what_needs_no_eyes():
    """Mean absolute error against the objects: below a blank map and below a blob in the middle."""
    errors = []
    for index in range(12):
        sample = make_sample(5, index, 96)
        truth = sample.mask > 0
        y, x = (np.indices(truth.shape).T / truth.shape - 0.5).T
        blob = np.exp(-(x**2 + y**2) / (2 * 0.25**2))
        maps = robust_background_saliency(sample.image), np.zeros(truth.shape), blob
        errors.append([np.abs(map_ - truth).mean() for map_ in maps])
    ours, blank, middle = np.mean(errors, axis=0)
    assert ours < 0.75 * min(blank, middle)
