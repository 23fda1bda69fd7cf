"""Masks whose palette was lost, of one class as 0 and 255, or of colours of one's own."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from misc.formats.palette import voc_palette

MASK = np.array([[0, 1, 15], [255, 20, 0]], np.uint8)  # background, aeroplane, person, void, tv/monitor
LABELS = [0, 14, 19]


def palette_image() -> Image.Image:
    image = Image.fromarray(MASK, mode="P")
    image.putpalette(voc_palette())
    return image


def sorted_palette() -> Image.Image:
    """The colours of palette_image, but in a palette that another program made."""
    return palette_image().convert("RGB").quantize(8)


KINDS: dict[str, Callable[[], Image.Image]] = {
    "palette": palette_image,
    "RGB": lambda: palette_image().convert("RGB"),
    "RGBA": lambda: palette_image().convert("RGBA"),
    "numbers": lambda: Image.fromarray(MASK),
    "numbers in RGB": lambda: Image.fromarray(np.stack([MASK] * 3, axis=-1)),
    "16 bits": lambda: Image.fromarray(MASK.astype(np.uint16)),
    "LA": lambda: Image.merge("LA", (Image.fromarray(MASK), Image.new("L", (3, 2), 255))),
    "32 bits": lambda: Image.fromarray(MASK.astype(np.int32)),
}


@pytest.fixture
def voc(tmp_path, picture) -> Path:
    """An image in VOC's layout; no mask yet."""
    folder = tmp_path / "voc"
    (folder / "SegmentationClass").mkdir(parents=True)
    picture(folder / "JPEGImages" / "a.jpg", (2, 3))
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_of_masks(kind, voc, convert, content):
    ending = "tif" if kind == "32 bits" else "png"  # which PNG has not
    KINDS[kind]().save(voc / "SegmentationClass" / f"a.{ending}")
    found = content(convert("masks", voc))
    assert found["masks"] == {"a": [[0, 1, 15], [255, 20, 0]]}
    assert found["labels"] == {"a": LABELS} and found["names"][19] == "tvmonitor"


def test_a_palette_in_another_order_asks_for_the_colours(voc, convert, content, refused):
    sorted_palette().save(voc / "SegmentationClass" / "a.png")
    assert not np.array_equal(np.array(sorted_palette()), MASK)
    assert "--colours voc" in refused("masks", voc)
    found = content(convert("masks", voc, "--colours", "voc"))
    assert found["masks"] == {"a": [[0, 1, 15], [255, 20, 0]]}


@pytest.fixture
def names(tmp_path) -> str:
    path = tmp_path / "classes.txt"
    path.write_text("tumour\n")
    return str(path)


@pytest.mark.parametrize("mode", ["L", "RGB", "1"])
def test_one_class_as_0_and_255(mode, voc, names, convert, content, refused):
    mask = Image.fromarray(np.array([[0, 255, 255], [0, 0, 0]], np.uint8)).convert(mode)
    mask.save(voc / "SegmentationClass" / "a.png")
    if mode != "1":  # which holds 0 and 1
        assert "--binary" in refused("masks", voc, "--class_names", names)
    found = content(convert("masks", voc, "--class_names", names, "--binary"))
    assert found["masks"] == {"a": [[0, 1, 1], [0, 0, 0]]} and found["labels"] == {"a": [0]}
    assert "--binary is for one class" in refused("masks", voc, "--binary", target="other")


@pytest.mark.parametrize("kind", ["RGB", "grey"])
def test_colours_of_ones_own(kind, voc, tmp_path, convert, content):
    values = np.array([[[0, 0, 0], [38, 38, 38], [75, 75, 75]]] * 2, np.uint8)
    Image.fromarray(values if kind == "RGB" else values[..., 0]).save(voc / "SegmentationClass" / "a.png")
    colours = tmp_path / "colours.txt"
    colours.write_text("ball 38 38 38\negg 75 75 75\n")
    found = content(convert("masks", voc, "--colours", str(colours)))
    assert found["names"] == ["ball", "egg"] and found["masks"] == {"a": [[0, 1, 2]] * 2}
    (tmp_path / "mine.txt").write_text("egg\nball\n")
    more = ["--colours", str(colours), "--class_names", str(tmp_path / "mine.txt")]
    found = content(convert("masks", voc, *more, target="other"))
    assert found["names"] == ["egg", "ball"] and found["masks"] == {"a": [[0, 2, 1]] * 2}


def test_folders_suffixes_and_lists(tmp_path, picture, convert, content):
    """Images and masks in one folder, told apart by what follows the ID."""
    folder = tmp_path / "flat" / "data"
    for image_id in ("a", "b", "c", "d"):
        picture(folder / f"{image_id}.png", (1, 1))
    for image_id in ("a", "b", "c", "gone"):
        Image.fromarray(np.full((1, 1), 2, np.uint8)).save(folder / f"{image_id}_L.png")
    (tmp_path / "flat" / "train.txt").write_text("a\n")
    (tmp_path / "flat" / "val.txt").write_text("b\n")
    found = content(convert("masks", tmp_path / "flat", "--images=data", "--masks=data", "--mask_suffix=_L"))
    assert found["lists"] == {"train": ["a"], "val": ["b"]} and found["masks"] == {"a": [[2]], "b": [[2]]}
    for line in ("without a mask, 1: d.png", "without an image, 1: gone_L.png", "in no list, 1: c"):
        assert line in convert.said


@pytest.mark.parametrize(
    ("name", "image", "expected"),
    [
        (
            "a.png",
            Image.fromarray(np.full((2, 3), 52, np.uint8)),
            "a.png: holds 52, expected 0 to 20 and 255",
        ),
        ("a.png", Image.fromarray(np.full((2, 3), 51, np.uint8)), "a.png: 6 of 6 pixels hold 51, expected 0 to 20"),
        ("a.png", Image.fromarray(np.full((2, 3), 300, np.uint16)), "hold 300"),
        ("a.png", Image.new("RGB", (3, 2), (1, 2, 3)), "1,2,3 at row 0, column 0"),
        ("a.jpg", Image.new("RGB", (3, 2), (131, 2, 0)), "make PNGs of the masks"),
        ("a.tif", Image.fromarray(np.zeros((2, 3), np.float32)), "of the kind F"),
        ("a.png", Image.fromarray(np.ones((3, 2), np.uint8)), "3×2"),
    ],
)
def test_refusals(name, image, expected, voc, refused):
    image.save(voc / "SegmentationClass" / name)
    assert expected in refused("masks", voc)


def test_colours_of_one_name_in_another_folder_make_the_masks_anew(voc, convert, content, tmp_path, monkeypatch):
    Image.new("RGB", (3, 2), (1, 1, 1)).save(voc / "SegmentationClass" / "a.png")
    for number, colours in enumerate(("ball 1,1,1\negg 2,2,2\n", "ball 2,2,2\negg 1,1,1\n"), start=1):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "colours.txt").write_text(colours)
        monkeypatch.chdir(folder)
        assert content(convert("masks", voc, "--colours", "colours.txt"))["masks"] == {"a": [[number] * 3] * 2}


def test_an_empty_list_beside_others_counts_for_nothing(voc, convert, content):
    KINDS["RGB"]().save(voc / "SegmentationClass" / "a.png")
    (voc / "train.txt").write_text("a\n")
    (voc / "test.txt").write_text("\n")
    assert set(content(convert("masks", voc))["lists"]) == {"train"}


def test_two_masks_of_one_image(voc, refused):
    for name in ("a.png", "a.bmp"):
        Image.fromarray(MASK).save(voc / "SegmentationClass" / name)
    assert "masks of one image" in refused("masks", voc)


def test_class_names_are_checked_at_once(voc, names, refused):
    Path(names).write_text("background\ntumour\n")
    assert "'background' is no class name" in refused("masks", voc, "--class_names", names)


def test_a_default_folder_is_not_looked_for_where_one_works(tmp_path, picture, refused, monkeypatch):
    picture(tmp_path / "here" / "JPEGImages" / "a.jpg", (1, 1))
    picture(tmp_path / "here" / "SegmentationClass" / "a.png", (1, 1))
    (tmp_path / "in").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert "JPEGImages" in refused("masks", tmp_path / "in")


def test_a_label_map_beside_the_masks_is_not_passed_over(tmp_path, refused):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "labelmap.txt").write_text("# label:color_rgb:parts:actions\ncat:1,2,3::\n")
    assert f"say --colours {tmp_path / 'in' / 'labelmap.txt'}" in refused("masks", tmp_path / "in")
