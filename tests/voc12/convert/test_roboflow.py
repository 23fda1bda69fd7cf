"""Roboflow's png-mask-semantic."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

CLASSES = "Pixel Value, Class\n0, background\n1, ball\n3, egg\n"
NAME = "IMG_1_jpg.rf.0a1b2c"


def part(folder: Path, picture, image_id: str, mask: list[list[int]]) -> None:
    array = np.array(mask, np.uint8)
    picture(folder / f"{image_id}.jpg", array.shape)
    Image.fromarray(array).save(folder / f"{image_id}_mask.png")
    (folder / "_classes.csv").write_text(CLASSES)


@pytest.fixture
def roboflow(tmp_path, picture) -> Path:
    folder = tmp_path / "roboflow"
    part(folder / "train", picture, NAME, [[0, 1, 3]])
    part(folder / "valid", picture, "b", [[3, 3]])
    part(folder / "test", picture, "c", [[0], [1]])
    (folder / "README.roboflow.txt").touch()
    return folder


def test_parts_become_lists_and_values_class_numbers(roboflow, convert, content):
    found = content(convert("roboflow", roboflow))
    assert found["names"] == ["ball", "egg"]
    assert found["masks"] == {NAME: [[0, 1, 2]], "b": [[2, 2]], "c": [[0], [1]]}
    assert found["labels"] == {NAME: [0, 1], "b": [1], "c": [0]}
    assert found["lists"] == {"train": [NAME], "val": ["b"], "test": ["c"]}


def test_a_part_of_another_name(roboflow, convert, content):
    (roboflow / "valid").rename(roboflow / "val")
    assert content(convert("roboflow", roboflow))["lists"] == {"train": [NAME], "val": ["b"], "test": ["c"]}


def test_a_folder_without_parts(tmp_path, picture, convert, content):
    part(tmp_path / "flat", picture, "a", [[1]])
    picture(tmp_path / "flat" / "lone.jpg", (1, 1))
    picture(tmp_path / "flat" / "gone_mask.png", (1, 1))
    (tmp_path / "flat" / "notes.doc").touch()
    found = content(convert("roboflow", tmp_path / "flat"))
    assert found["lists"] == {"train": ["a"]} and found["masks"] == {"a": [[1]]}
    for line in (
        "without a mask, 1: lone.jpg",
        "without an image, 1: gone_mask.png",
        "no JPEG, PNG, TIFF or BMP, 1: notes.doc",
    ):
        assert line in convert.said


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0, background\n1, ball\n", "first line is expected to be 'Pixel Value, Class'"),
        (CLASSES.replace("0, background", "0, floor"), "0 is 'floor', expected background"),
        (CLASSES.replace("3, egg", "1, egg"), "'1, egg' is no class"),
        (CLASSES.replace("3, egg", "256, egg"), "'256, egg' is no class"),
        (CLASSES.replace("3, egg", "egg"), "'egg' is no class"),
        (CLASSES.replace("3, egg", "2, egg"), ".png: holds the value 3, which _classes.csv does not list"),
    ],
)
def test_tables_that_will_not_do(text, expected, roboflow, refused):
    for name in ("train", "valid", "test"):
        (roboflow / name / "_classes.csv").write_text(text)
    assert expected in refused("roboflow", roboflow)


def test_parts_that_contradict_each_other(roboflow, refused, picture):
    part(roboflow / "test", picture, "b", [[0, 1]])
    assert "have one ID" in refused("roboflow", roboflow)
    (roboflow / "test" / "_classes.csv").write_text(CLASSES.replace("ball", "cup"))
    assert "differ" in refused("roboflow", roboflow)


def test_void_is_not_invented(roboflow, refused):
    Image.fromarray(np.full((1, 2), 255, np.uint8)).save(roboflow / "valid" / "b_mask.png")
    assert "b_mask.png: holds the value 255" in refused("roboflow", roboflow)


def test_its_coco_export_is_told_by_its_file(tmp_path, refused):
    (tmp_path / "in" / "train").mkdir(parents=True)
    (tmp_path / "in" / "train" / "_annotations.coco.json").write_text("{}")
    assert "use the format coco" in refused("roboflow", tmp_path / "in")
