"""The look at the values of masks: kinds of files, sizes."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from misc.errors import InputError
from misc.formats.images import write_mask
from misc.formats.palette import voc_palette
from voc12.contradictions import Source
from voc12.first_look import (
    MASKS_LOOKED_AT,
    Masks,
    look_at_masks,
    misplaced_mask,
    see_mask,
    spread,
)

MASK = np.zeros((6, 8), np.uint8)
MASK[1:4, 2:5], MASK[4, 2:5] = 15, 255


def masks_in(folder: Path, ids: list[str], labels: Callable | None = None) -> Masks:
    source = Source(str(folder / "SegmentationClass"), [f"c{n}" for n in range(20)], "names.txt")
    return Masks(
        ids,
        lambda image_id: folder / "SegmentationClass" / f"{image_id}.png",
        lambda image_id: folder / "JPEGImages" / f"{image_id}.jpg",
        labels,
        source,
    )


@pytest.fixture
def folder(tmp_path) -> Path:
    for name in ("SegmentationClass", "JPEGImages", "Sal"):
        (tmp_path / name).mkdir()
    return tmp_path


def in_voc_colours() -> Image.Image:
    image = Image.fromarray(MASK).convert("P")
    image.putpalette(voc_palette())
    return image.convert("RGB")


def adaptive() -> Image.Image:
    """As Pillow saves colours with a palette of its own."""
    return in_voc_colours().convert("P", palette=Image.Palette.ADAPTIVE, colors=4)


def test_what_a_mask_shows(folder):
    def label(image_id: str) -> list[int]:
        if image_id == "b":
            raise InputError("no label")
        return [14, 3]

    masks = masks_in(folder, ["a", "b"], label)
    for image_id in masks.ids:
        write_mask(masks.path(image_id), MASK)
    shown = see_mask(masks, "a").shown
    assert (shown.numbers, shown.background, shown.void) == ({15}, True, True)
    assert shown.labels == {15, 4} and shown.by_colour is None  # its palette is VOC's
    assert see_mask(masks, "b").shown.labels is None
    assert look_at_masks(masks, workers=1) == []


@pytest.mark.parametrize(
    ("image", "cause"),
    [
        (in_voc_colours(), "in VOC's colours (RGB)"),
        (in_voc_colours().convert("RGBA"), "in VOC's colours (RGBA)"),
        (Image.fromarray(np.stack([MASK, MASK, MASK // 2], 2)), "in colours (RGB)"),
        (Image.fromarray(MASK.astype(np.uint16)), "16 or 32 bits (I;16)"),
        (Image.merge("LA", [Image.fromarray(MASK)] * 2), "with transparency (LA)"),
        (Image.fromarray(np.random.default_rng(0).integers(0, 255, (30, 30, 3), np.uint8)), "many colours"),
        (in_voc_colours().convert("L"), "VOC's colours turned grey"),
    ],
)
def test_other_kinds_of_masks(folder, image, cause):
    masks = masks_in(folder, ["a", "b", "c"])
    for image_id in "ab":
        image.save(masks.path(image_id))
    write_mask(masks.path("c"), MASK)
    found = look_at_masks(masks, workers=2)
    assert [one.fatal for one in found] == [True]
    assert "2 of 3 masks looked at" in found[0].text and cause in found[0].text and "a.png" in found[0].text


def test_palettes_whose_order_is_not_vocs(folder):
    masks = masks_in(folder, ["a"])
    adaptive().save(masks.path("a"))
    with Image.open(masks.path("a")) as image:
        assert image.mode == "P" and not np.array_equal(np.array(image), MASK)
    assert see_mask(masks, "a").shown.by_colour == {15}


def test_sizes(folder):
    masks = masks_in(folder, ["a", "b"])
    for image_id, size in ("a", (8, 6)), ("b", (6, 8)):  # width, height
        write_mask(masks.path(image_id), MASK)
        Image.new("RGB", size).save(masks.image(image_id))
    (found,) = look_at_masks(masks, workers=1)
    assert found.fatal and "1 of 2" in found.text and "b.png (8×6, image 6×8)" in found.text and "EXIF" in found.text
    Image.new("RGB", (16, 12)).save(masks.image("b"))
    (found,) = look_at_masks(masks, workers=1)
    assert "image 16×12" in found.text and "EXIF" not in found.text
    masks.image("b").unlink()  # it is missed elsewhere
    assert look_at_masks(masks, workers=1) == []


def test_damaged_masks(folder):
    masks = masks_in(folder, ["a", "b"])
    write_mask(masks.path("a"), MASK)
    masks.path("b").write_bytes(b"none")  # a quick look tells as much
    assert look_at_masks(masks, workers=1) == []
    sound = masks.path("a").read_bytes()
    place = sound.index(b"IDAT") + 6
    masks.path("b").write_bytes(sound[:place] + bytes(8) + sound[place + 8 :])
    (found,) = look_at_masks(masks, workers=1)
    assert found.fatal and "b.png, cannot be read as an image" in found.text


def test_a_large_set_is_sampled(folder):
    n = 3 * MASKS_LOOKED_AT
    masks = masks_in(folder, [str(number) for number in range(n)])
    write_mask(folder / "mask.png", np.full((2, 2), 77, np.uint8))
    for image_id in masks.ids:
        masks.path(image_id).hardlink_to(folder / "mask.png")
    (found,) = look_at_masks(masks, workers=2)
    assert f"{MASKS_LOOKED_AT} of {MASKS_LOOKED_AT} masks looked at hold numbers above 20" in found.text
    sample = spread(masks.ids, MASKS_LOOKED_AT)
    assert sample[0] == "0" and sample[-1] == str(n - 1) and len(set(sample)) == MASKS_LOOKED_AT


def test_other_files_in_the_place_of_a_mask(folder):
    missing = folder / "SegmentationClass" / "a [1].png"
    assert misplaced_mask(missing) == ""
    missing.with_suffix(".npy").touch()
    assert "'a [1].npy' is there, but a mask is a PNG" in misplaced_mask(missing)
    missing.with_suffix(".npy").rename(missing.with_suffix(".jpg"))
    assert "'a [1].jpg' is there, but JPEG" in misplaced_mask(missing)
