"""What the networks are fed. The set is pictures whose pixels tell where they come from."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from misc.errors import InputError
from misc.formats.images import write_grey, write_mask
from misc.pixels import CAFFE_PIXELS, MEAN, STD
from voc12.datasets import (
    BoundaryTraining,
    ClassifierTraining,
    ClassifierValidation,
    Draw,
    ScaledImages,
    augmented,
    crop_place,
    read_mask,
)
from voc12.image_labels import ImageLabels
from voc12.image_set import VOCRoot

IDS = ["wide", "tall"]
SIZES = {"wide": (40, 64), "tall": (50, 30)}
WHITE = ((1 - MEAN) / STD)[:, None, None]


def left_half(size: tuple[int, int]) -> np.ndarray:
    """1 in the left half."""
    half = np.zeros(size, np.uint8)
    half[:, : size[1] // 2] = 1
    return half


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """Images white in their left half and black in the other; so are label (50, 100) and saliency (200, 0)."""
    folder = tmp_path_factory.mktemp("voc")
    (folder / "JPEGImages").mkdir()
    for image_id, size in SIZES.items():
        left = left_half(size)
        # a PNG by content, so that every pixel is what it says; Pillow goes by content
        grey = Image.fromarray(left * np.uint8(255)).convert("RGB")
        grey.save(folder / "JPEGImages" / f"{image_id}.jpg", format="PNG")
        write_grey(folder / "label" / f"{image_id}.png", np.where(left, np.uint8(50), np.uint8(100)))
        write_grey(folder / "Sal" / f"{image_id}.png", left * np.uint8(200))
    (folder / "labels.txt").write_text("wide 0 2\ntall\n")
    return folder


def labels(root: Path) -> ImageLabels:
    return ImageLabels(root / "labels.txt", VOCRoot(root), ["a", "b", "c"])


class AsSeen:
    """A data set, the first part of whose samples is the crop as the network sees it."""

    def __init__(self, dataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key):
        crop, *rest = self.dataset[key]
        return crop.pixels(), *rest


def classifier_set(root: Path, *, crop: int = 48, long_side: tuple[int, int] = (32, 64), seed: int = 5):
    return AsSeen(ClassifierTraining(IDS, VOCRoot(root), labels(root), crop=crop, long_side=long_side, seed=seed))


def boundary_set(root: Path, *, crop: int = 64, seed: int = 5, uses_saliency: bool = True):
    return AsSeen(
        BoundaryTraining(IDS, VOCRoot(root), root / "label", crop=crop, seed=seed, uses_saliency=uses_saliency)
    )


def filled(pixels: np.ndarray) -> np.ndarray:
    """Where a normalised crop holds no image: 0 in every channel, which no grey pixel normalises to."""
    return (pixels == 0).all(axis=0)


def box_of(mask: np.ndarray) -> tuple[int, int, int, int]:
    """Top, bottom, left, right of a mask that is a full rectangle."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    box = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    assert mask[box[0] : box[1], box[2] : box[3]].all()
    return tuple(int(edge) for edge in box)


# --- crops


@given(
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.integers(1, 30),
    st.one_of(st.none(), st.integers(0, 2**32)),
)
def test_a_crop_keeps_what_fits_and_fills_the_rest(size, side, seed):
    rng = None if seed is None else np.random.default_rng(seed)
    place = crop_place(size, side, rng)
    numbers = np.arange(1, 1 + size[0] * size[1], dtype=np.float32).reshape(size)
    crop = place.cut(numbers, fill=-1)
    assert crop.shape == (side, side) and crop.dtype == np.float32
    box = box_of(crop != -1)
    kept = crop[box[0] : box[1], box[2] : box[3]]
    assert kept.shape == (min(size[0], side), min(size[1], side))
    top, left = divmod(int(kept[0, 0]) - 1, size[1])
    np.testing.assert_array_equal(kept, numbers[top : top + len(kept), left : left + len(kept[0])])
    if rng is None:
        assert (box[0], box[2], top, left) == (0, 0, 0, 0)
    both = place.cut(np.stack([numbers, -numbers]), fill=0)
    np.testing.assert_array_equal(both[0], -both[1])


@pytest.mark.parametrize("length", [4, 6, 9])
def test_every_place_is_as_likely(length):
    rng = np.random.default_rng(0)
    starts = []
    for _ in range(600):
        place = crop_place((length, 6), 6, rng)
        starts.append(place.source[0].start + place.target[0].start)
    counts = np.bincount(starts)
    assert len(counts) == abs(length - 6) + 1
    assert counts.min() > 600 / len(counts) / 2


# --- the classifier's


@pytest.mark.parametrize("crop", [33, 48, 80])
def test_classifier_training_shapes(root, crop):
    dataset = classifier_set(root, crop=crop)
    assert len(dataset) == 2
    for epoch in range(4):
        pixels, label = dataset[epoch, 0]
        assert (pixels.shape, pixels.dtype) == ((3, crop, crop), np.float32)
        assert (label.dtype, label.tolist()) == (np.float32, [1, 0, 1])
    assert dataset[0, 1][1].tolist() == [0, 0, 0]


def test_classifier_training_resizes_the_long_side_into_its_range(root):
    dataset = classifier_set(root, crop=100, long_side=(40, 60))
    sides = []
    for epoch in range(150):
        top, bottom, left, right = box_of(~filled(dataset[epoch, 0][0]))
        sides.append(right - left)
        assert bottom - top == round(40 * (right - left) / 64)
    assert set(sides) == set(range(40, 61))  # both ends, everything between


def test_classifier_training_flips_half_of_the_images(root):
    dataset = classifier_set(root, crop=64, long_side=(64, 64))
    flipped = 0
    for epoch in range(100):
        pixels, _ = dataset[epoch, 0]
        row = pixels[0, box_of(~filled(pixels))[0]]
        flipped += row[0] < row[-1]
        np.testing.assert_allclose(max(row[0], row[-1]), WHITE[0, 0, 0], rtol=1e-5)
    assert 30 < flipped < 70


@pytest.mark.parametrize("make", [classifier_set, boundary_set])
def test_a_sample_depends_on_seed_epoch_and_index_only(root, make):
    first, again, other = make(root), make(root), make(root, seed=6)
    early = first[3, 1]
    for key in [(0, 0), (0, 1), (3, 0)]:
        first[key]
    for found in (first[3, 1], again[3, 1]):
        assert all(np.array_equal(a, b) for a, b in zip(found, early, strict=True))
    assert any(not np.array_equal(first[epoch, 0][0], other[epoch, 0][0]) for epoch in range(3))
    assert any(not np.array_equal(first[epoch, 0][0], first[0, 0][0]) for epoch in range(1, 4))


@pytest.mark.parametrize("crop", [24, 48, 80])
def test_classifier_validation_is_the_top_left(root, crop):
    dataset = AsSeen(ClassifierValidation(IDS, VOCRoot(root), labels(root), crop=crop))
    assert len(dataset) == 2
    pixels, label = dataset[0]
    assert (pixels.shape, pixels.dtype) == ((3, crop, crop), np.float32)
    expected = np.zeros((3, 80, 80), np.float32)
    expected[:, :40, :64] = np.where(left_half((40, 64)), WHITE, (-MEAN / STD)[:, None, None])
    np.testing.assert_allclose(pixels, expected[:, :crop, :crop], rtol=1e-5)
    assert label.tolist() == [1, 0, 1]


# --- several scales


def test_scaled_pairs(root):
    dataset = ScaledImages(IDS, VOCRoot(root), (1.0, 0.5, 1.5, 0.33))
    image_id, size, images = dataset[0]
    assert (len(dataset), image_id, size) == (2, "wide", (40, 64))
    assert [image.shape for image in images] == [(40, 64, 3), (20, 32, 3), (60, 96, 3), (13, 21, 3)]
    for image in images:
        assert image.dtype == np.uint8
        assert (image[0, 0] == 255).all() and (image[0, -1] == 0).all()


# --- the boundary network's


@pytest.mark.parametrize(("crop", "grid"), [(64, 16), (65, 17), (33, 9), (128, 32)])
def test_boundary_training_shapes(root, crop, grid):
    for key in [(0, 0), (0, 1), (1, 0)]:
        pixels, label, saliency = boundary_set(root, crop=crop)[key]
        assert (pixels.shape, pixels.dtype) == ((3, crop, crop), np.float32)
        assert (label.shape, label.dtype) == ((grid, grid), np.uint8)
        assert (saliency.shape, saliency.dtype) == ((crop, crop), np.float32)
        assert set(np.unique(label)) <= {50, 100, 255}


def test_boundary_training_moves_image_label_and_saliency_together(root):
    dataset = boundary_set(root, crop=128)  # larger than any image at any scale
    boxes, flips = set(), 0
    for epoch in range(60):
        pixels, label, saliency = dataset[epoch, 0]
        top, bottom, left, right = box_of(~filled(pixels))
        boxes.add((top, left))
        white = pixels[0] > 1
        flipped = not white[top, left]
        flips += flipped
        # the picture is saliency 1 where white, 0 where black and around it
        middle = (left + right) / 2
        inside = np.zeros((128, 128), bool)
        inside[top:bottom, left:right] = True
        columns = np.arange(128)
        in_half = (columns >= middle) if flipped else (columns < middle)
        near_seam = np.abs(columns + 0.5 - middle) <= 3  # bicubic is soft, nearest is not
        for found in (white, saliency == 1):
            np.testing.assert_array_equal(found[:, ~near_seam], (inside & in_half)[:, ~near_seam])
        assert set(np.unique(saliency)) == {0, 1}  # divided by its maximum
        # nearest takes the pixel at 4 i + 2
        picked = np.s_[2::4, 2::4]
        expected = np.where(inside, np.where(in_half, 50, 100), 255)[picked]
        np.testing.assert_array_equal(label[:, ~near_seam[2::4]], expected[:, ~near_seam[2::4]])
    assert 12 < flips < 48
    assert len(boxes) > 30


def test_boundary_training_rescales_by_half_to_one_and_a_half(root):
    dataset = boundary_set(root, crop=128)
    widths = []
    for epoch in range(200):
        top, bottom, left, right = box_of(~filled(dataset[epoch, 0][0]))
        widths.append(right - left)
        assert abs((bottom - top) / 40 - (right - left) / 64) < 0.03
    assert 32 <= min(widths) < 36 and 92 < max(widths) <= 96
    assert 58 < np.mean(widths) < 70


def test_without_saliency_none_is_read(root, tmp_path):
    for folder in ("JPEGImages", "label"):
        (tmp_path / folder).symlink_to(root / folder)
    pixels, _, saliency = boundary_set(tmp_path, uses_saliency=False)[0, 0]
    assert not saliency.any() and saliency.shape == pixels.shape[1:]
    with pytest.raises(InputError, match=r"Sal/wide\.png: no such file"):
        boundary_set(tmp_path)[0, 0]


def test_a_blank_saliency_map_stays_zero(root, tmp_path):
    for folder in ("JPEGImages", "label"):
        (tmp_path / folder).symlink_to(root / folder)
    write_grey(tmp_path / "Sal" / "wide.png", np.zeros(SIZES["wide"], np.uint8))
    saliency = boundary_set(tmp_path)[0, 0][2]
    assert (saliency == 0).all()  # no NaN


def test_a_label_of_another_size(root, tmp_path):
    for folder in ("JPEGImages", "Sal"):
        (tmp_path / folder).symlink_to(root / folder)
    write_grey(tmp_path / "label" / "wide.png", np.zeros((64, 40), np.uint8))
    with pytest.raises(InputError, match=r"label/wide\.png: the label is \(64, 40\), its image \(40, 64\)"):
        boundary_set(tmp_path)[0, 0]


def test_an_image_of_one_pixel(tmp_path):
    (tmp_path / "JPEGImages").mkdir()
    Image.new("RGB", (1, 1), (255, 255, 255)).save(tmp_path / "JPEGImages" / "wide.jpg", format="PNG")
    write_grey(tmp_path / "label" / "wide.png", np.full((1, 1), 50, np.uint8))
    write_grey(tmp_path / "Sal" / "wide.png", np.full((1, 1), 9, np.uint8))
    (tmp_path / "labels.txt").write_text("wide 0\n")
    for epoch in range(4):
        assert (~filled(boundary_set(tmp_path, crop=32)[epoch, 0][0])).sum() in (1, 4)  # rounded to 1 or 2
        assert classifier_set(tmp_path, crop=32, long_side=(8, 8))[epoch, 0][0].any()


@pytest.mark.parametrize("number", range(3))
def test_golden_augmentation_of_deeplab(golden, number):
    g = golden("deeplab_augment")
    scale, top, left, flip = g[f"draws{number}"]
    image, label = augmented(
        g[f"image{number}"][:, :, ::-1],
        g[f"label{number}"],
        Draw(scale, int(top), int(left), flip < 0.5),
        crop=int(g["crop_size"]),
        pixels=CAFFE_PIXELS,
    )
    np.testing.assert_allclose(image, g[f"out_image{number}"], rtol=0, atol=2e-3)
    assert np.array_equal(label, g[f"out_label{number}"])


def test_draws_of_deeplab():
    rng = np.random.default_rng(0)
    draws = [Draw.of((50, 80), (0.5, 1.0), 40, rng) for _ in range(300)]
    small, large = ([draw for draw in draws if draw.scale == scale] for scale in (0.5, 1.0))
    assert {draw.top for draw in small} == {0} and {draw.left for draw in small} == {0}
    assert {draw.top for draw in large} == set(range(11)) and max(draw.left for draw in large) == 40
    assert {draw.flip for draw in draws} == {True, False}


def test_masks_to_learn_from(tmp_path):
    write_mask(tmp_path / "mask.png", np.array([[0, 3, 255]], np.uint8))
    assert read_mask(tmp_path / "mask.png", (1, 3), 4).tolist() == [[0, 3, 255]]
    with pytest.raises(InputError, match="holds the number 3, expected 0 to 2"):
        read_mask(tmp_path / "mask.png", (1, 3), 3)
    with pytest.raises(InputError, match="its image"):
        read_mask(tmp_path / "mask.png", (3, 1), 4)
