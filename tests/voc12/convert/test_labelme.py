"""What labelme2voc wrote, in its old and its new form."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

MASK = np.array([[0, 1, 1], [255, 2, 0]], np.uint8)


@pytest.fixture
def labelme(tmp_path, picture) -> Path:
    """One image, and class names as labelme2voc writes them; no mask yet."""
    folder = tmp_path / "labelme"
    picture(folder / "JPEGImages" / "a1.jpg", (2, 3))
    (folder / "class_names.txt").write_text("_background_\nball\negg")
    return folder


def palette_png(path: Path, mask: np.ndarray) -> None:
    path.parent.mkdir(exist_ok=True)
    image = Image.fromarray(mask, mode="P")
    image.putpalette([value for number in range(256) for value in (number, 255 - number, 7)])
    image.save(path)


def npy(path: Path, mask: np.ndarray) -> None:
    path.parent.mkdir(exist_ok=True)
    np.save(path, mask)


def new(folder: Path) -> None:
    palette_png(folder / "SegmentationClass" / "a1.png", MASK)


def old(folder: Path) -> None:
    palette_png(folder / "SegmentationClassPNG" / "a1.png", MASK)
    npy(folder / "SegmentationClass" / "a1.npy", np.where(MASK == 255, -1, MASK).astype(np.int32))


def only_npy(folder: Path) -> None:
    npy(folder / "SegmentationClass" / "a1.npy", np.where(MASK == 255, -1, MASK).astype(np.int32))


@pytest.mark.parametrize("layout", [new, old, only_npy])
def test_layouts(layout, labelme, convert, content):
    layout(labelme)
    found = content(convert("labelme", labelme))
    assert found["names"] == ["ball", "egg"]
    assert found["masks"] == {"a1": [[0, 1, 1], [255, 2, 0]]}
    assert found["labels"] == {"a1": [0, 1]} and found["lists"] == {"train": ["a1"]}


@pytest.mark.parametrize("name", ["labels.txt", "class_names.txt"])
def test_labels_txt_begins_with_ignore(name, labelme, convert, content):
    new(labelme)
    (labelme / "class_names.txt").unlink()
    (labelme / name).write_text("__ignore__\n_background_\nball\negg\n")
    assert content(convert("labelme", labelme))["names"] == ["ball", "egg"]
    elsewhere = labelme.with_name("mine.txt")
    (labelme / name).rename(elsewhere)
    found = content(convert("labelme", labelme, "--class_names", str(elsewhere), target="other"))
    assert found["names"] == ["ball", "egg"]


def test_what_has_no_counterpart_is_left_out(labelme, convert, picture):
    new(labelme)
    palette_png(labelme / "SegmentationClass" / "b.png", MASK)
    picture(labelme / "JPEGImages" / "c.jpg", (2, 3))
    (labelme / "JPEGImages" / "d.gif").touch()
    convert("labelme", labelme)
    for line in ("without a mask, 1: c.jpg", "without an image, 1: b.png", "no JPEG, PNG, TIFF or BMP, 1: d.gif"):
        assert line in convert.said


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        ("class_names.txt", "ball\negg\n", "'ball' stands where labelme has _background_"),
        ("class_names.txt", "__ignore__\nball\n", "'ball' stands where labelme has _background_"),
        ("class_names.txt", "_background_\nball\n__ignore__\n", "__ignore__ stands among the classes"),
        ("class_names.txt", "_background_\n", "0 class names"),
        ("class_names.txt", "_background_\nball\n", "a1.png: holds the number 2, expected 0 to 1 and 255"),
        ("JPEGImages/a1.jpg", "no image", "a1.jpg: cannot be read as an image"),
        ("SegmentationClass/a1.png", "no mask", "a1.png: cannot be read as an image"),
    ],
)
def test_refusals(file, text, expected, labelme, refused):
    new(labelme)
    (labelme / file).write_text(text)
    assert expected in refused("labelme", labelme)


def test_missing_parts(labelme, refused):
    assert "SegmentationClass" in refused("labelme", labelme)
    new(labelme)
    (labelme / "class_names.txt").unlink()
    assert "--class_names" in refused("labelme", labelme)


@pytest.mark.parametrize("wrong", [np.zeros((2, 3)), np.array([[0, 1, -2], [0, 0, 0]]), np.zeros(6, np.int32)])
def test_arrays_that_are_no_masks(wrong, labelme, refused):
    npy(labelme / "SegmentationClass" / "a1.npy", wrong)
    assert "a1.npy" in refused("labelme", labelme)


def test_a_pickle_is_not_run(labelme, refused, tmp_path):
    class Harmful:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "harm",))

    npy(labelme / "SegmentationClass" / "a1.npy", np.array([Harmful()], object))
    assert "a1.npy" in refused("labelme", labelme)
    assert not (tmp_path / "harm").exists()


def test_files_of_labelme_itself_are_no_export(tmp_path, refused):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.json").write_text('{"shapes": []}')
    assert "run its labelme2voc first" in refused("labelme", tmp_path / "in")
