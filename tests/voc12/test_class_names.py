"""A list of class names, and the files that people give in its place."""

import pytest

from misc.errors import InputError
from tests.conftest import PROJECT
from voc12.image_labels import read_class_names


@pytest.mark.parametrize(
    "text",
    [
        "ball\negg\n",
        "tumour",
        "50 cent\n20 cent\n10 cent",
        "1 euro\n2 euro",
        "door, double door\nlamp",
        "3D printer\nT-shirt",
        "tea pot\nC#\n#1 fan",
        "1\n2\n3",  # digits, each a class
        "background noise\nignored",
    ],
)
def test_names_that_may_be_meant(tmp_path, text):
    (tmp_path / "names.txt").write_text(text)
    assert read_class_names(tmp_path / "names.txt") == text.splitlines()


def test_the_names_of_voc():
    assert len(read_class_names(PROJECT / "voc12" / "class_names.txt")) == 20


@pytest.mark.parametrize(
    ("name", "text", "cause"),
    [
        ("class_names.txt", "_background_\nball\negg", "'_background_' is no class name, 0 is background"),
        ("labels.txt", "__ignore__\n_background_\nball\negg\n", "'__ignore__' is no class name"),
        ("labels.txt", "ball\n__background__", "'__background__' is no class name"),
        ("labels.txt", "Background\nball", "'Background' is no class name"),
        ("labelmap.txt", "# label:color_rgb:parts:actions\nball:250,50,83::\n", "a label map of CVAT"),
        ("labelmap.txt", "background:0,0,0::\nball:250,50,83::\n", "a label map of CVAT"),
        ("classes.txt", "ball,250,50,83\negg,51,221,255", "a table of names and colours"),
        ("classes.csv", "ball\negg", "a table"),
        ("labels.txt", "image_id,classes\na1,ball", "a table"),
        ("classes.json", '{"0": "ball"}', "another structured file"),
        ("map.txt", 'item {\n id: 1\n name: "ball"\n}', "another structured file"),
        ("labels.txt", "0: background\n1: ball\n2: egg", "the names are numbered"),
        ("labels.txt", "1 ball\n2 egg", "the names are numbered"),
        ("labels.txt", "ball,egg", "all names are in one line"),
    ],
)
def test_other_files_are_refused_by_what_they_are(tmp_path, name, text, cause):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=name) as caught:
        read_class_names(tmp_path / name)
    assert cause in str(caught.value)
