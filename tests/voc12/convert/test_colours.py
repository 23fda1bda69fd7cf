"""Colours and the numbers they mean."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from misc.errors import InputError
from voc12.convert.colours import class_numbers, read_colours, reordered, voc_colours


@pytest.mark.parametrize(
    "text",
    [
        "# label:color_rgb:parts:actions\nbackground:0,0,0::\nball:250,50,83::\negg 2:51,221,255:yolk,white:boil\n",
        "ball 250 50 83\negg 2 51 221 255\n",
        "250 50 83\tball\n51 221 255\tegg 2\n",
        "name,r,g,b\nball,250,50,83\negg 2,51,221,255\n",
        "r;g;b;name\n250;50;83;ball\n51; 221; 255; egg 2\n",
        "egg\n",
    ],
)
def test_forms_of_a_table(text, tmp_path):
    path = tmp_path / "colours.txt"
    path.write_text(text)
    if text == "egg\n":
        with pytest.raises(InputError, match="names no class"):
            read_colours(path)
        return
    table = read_colours(path)
    assert table.names == ["ball", "egg 2"]
    assert table.numbers == {(0, 0, 0): 0, (250, 50, 83): 1, (51, 221, 255): 2}


def test_background_and_void_are_no_classes(tmp_path):
    path = tmp_path / "colours.txt"
    path.write_text("egg 1 1 1\nVoid 255 255 255\nball 2 2 2\nbackground 9 9 9\n")
    table = read_colours(path)
    assert table.names == ["egg", "ball"]
    assert table.numbers == {(0, 0, 0): 0, (1, 1, 1): 1, (255, 255, 255): 255, (2, 2, 2): 2, (9, 9, 9): 0}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ball 1 1 1\negg 1 1 1\n", "'egg' has the colour 1,1,1 of another line"),
        ("ball 1 1 256\n", "'ball 1 1 256' is no colour"),
        ("ball 1 1 1\negg\n", "'egg' is no colour"),
        ("1 2 3 4 5 6\n", "is no colour"),
        ("ball 1,1 1\n", "is no colour"),
        ("background 0 0 0\n", "names no class"),
    ],
)
def test_tables_that_will_not_do(text, expected, tmp_path):
    path = tmp_path / "colours.txt"
    path.write_text(text)
    with pytest.raises(InputError, match=expected):
        read_colours(path)


def test_another_order_of_the_classes(tmp_path):
    path = tmp_path / "colours.txt"
    path.write_text("ball 1 1 1\negg 2 2 2\nvoid 3 3 3\n")
    table = reordered(read_colours(path), ["egg", "ball"], "classes.txt")
    assert table.names == ["egg", "ball"]
    assert table.numbers == {(0, 0, 0): 0, (1, 1, 1): 2, (2, 2, 2): 1, (3, 3, 3): 255}
    for names, lone in (["egg"], "ball"), (["egg", "ball", "cup"], "cup"), (["egg", "cup"], "ball"):
        with pytest.raises(InputError, match=f"'{lone}' is only in one"):
            reordered(read_colours(path), names, "classes.txt")


def test_vocs_colours_and_greys():
    pixels = [[0, 0, 0], [128, 0, 0], [0, 128, 0], [224, 224, 192], [1, 1, 1], [2, 2, 2], [255, 255, 255]]
    image = Image.fromarray(np.array([pixels], np.uint8))
    table = voc_colours(["aeroplane", "bicycle"])
    assert class_numbers(image, table, Path("a.png")).tolist() == [[0, 1, 2, 255, 1, 2, 255]]
    assert class_numbers(image, table, Path("a.png")).dtype == np.uint8


def test_where_a_grey_is_vocs_colour_of_a_class_that_wins():
    names = [f"c{n}" for n in range(1, 129)]
    grey = Image.fromarray(np.full((1, 1, 3), 128, np.uint8))
    assert class_numbers(grey, voc_colours(names), Path("a.png")).tolist() == [[7]]  # VOC's car, and no class 128


def test_an_unknown_colour_is_named_with_its_place():
    pixels = np.zeros((2, 3, 3), np.uint8)
    pixels[1, 2] = [64, 0, 1]
    with pytest.raises(InputError, match=r"a\.png: 1 of 6 pixels.*64,0,1 at row 1, column 2"):
        class_numbers(Image.fromarray(pixels), voc_colours(["a"]), Path("a.png"))
    with pytest.raises(InputError, match="JPEG changes values"):
        class_numbers(Image.fromarray(pixels), voc_colours(["a"]), Path("a.JPG"))
