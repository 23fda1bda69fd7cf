"""Arithmetic on pixels, by hand and against Pillow."""

import numpy as np
import pytest
import torch
from PIL import Image

from misc.pixels import normalise, normalised_pair, rescale, scaled_size, stretched, stride4


def test_normalise():
    image = np.zeros((1, 2, 3), np.uint8)
    image[0, 1] = 255, 127, 51
    found = normalise(image)
    assert found.shape == (3, 1, 2) and found.dtype == np.float32
    black = [-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225]
    other = [(1 - 0.485) / 0.229, (127 / 255 - 0.456) / 0.224, (0.2 - 0.406) / 0.225]
    np.testing.assert_allclose(found[:, 0, 0], black, rtol=1e-5)
    np.testing.assert_allclose(found[:, 0, 1], other, rtol=1e-5)


@pytest.mark.parametrize(
    ("size", "scale", "expected"),
    [
        ((5, 7), 0.5, (2, 4)),  # 2.5 and 3.5: half to even
        ((281, 500), 1.5, (422, 750)),  # 421.5
        ((375, 500), 0.5, (188, 250)),  # 187.5
        ((3, 1), 0.1, (1, 1)),
        ((4, 6), 1.0, (4, 6)),
    ],
)
def test_scaled_size(size, scale, expected):
    assert scaled_size(size, scale) == expected


@pytest.mark.parametrize("method", [Image.Resampling.BICUBIC, Image.Resampling.NEAREST])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_rescale_is_pillows(method, dtype):
    array = np.random.default_rng(1).integers(0, 256, (7, 5)).astype(dtype)
    expected = np.array(Image.fromarray(array).resize((8, 4), method))
    found = rescale(array, (4, 8), method)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, expected)


def test_rescale_by_nearest_repeats_and_picks_labels():
    labels = np.array([[0, 255], [50, 200]], np.uint8)
    doubled = rescale(labels, (4, 4), Image.Resampling.NEAREST)
    np.testing.assert_array_equal(doubled, labels.repeat(2, axis=0).repeat(2, axis=1))


def test_bicubic_overshoot_is_cut_off_in_images():
    step = np.zeros((4, 8, 3), np.uint8)
    step[:, 4:] = 255
    found = rescale(step, (4, 32), Image.Resampling.BICUBIC)
    assert found.shape == (4, 32, 3) and found.dtype == np.uint8
    assert (found[:, :10] == 0).all() and (found[:, -10:] == 255).all()


def test_normalised_pair_is_the_image_and_its_mirror_image():
    image = np.random.default_rng(0).integers(0, 256, (3, 5, 3), np.uint8)
    pair = normalised_pair(torch.from_numpy(image), torch.device("cpu"))
    assert pair.is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_allclose(pair[0], normalise(image), rtol=1e-6)
    np.testing.assert_array_equal(pair[1], pair[0].flip(-1))


def test_stretched():
    np.testing.assert_array_equal(stretched(np.array([-1.0, 3.0, 1.0])), [0, 1, 0.5])
    np.testing.assert_array_equal(stretched(np.array([7.0, 7.0])), [0, 0])


@pytest.mark.parametrize(("side", "expected"), [(1, 1), (4, 1), (5, 2), (281, 71), (500, 125)])
def test_stride4(side, expected):
    assert stride4(side) == expected
