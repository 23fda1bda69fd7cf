"""Image-level labels: the label file, the annotations behind it, and errors that name the image."""

from pathlib import Path

import numpy as np
import pytest

from misc.errors import InputError
from voc12.image_labels import VOC_LABELS, VOC_NAMES, ImageLabels, read_class_names
from voc12.image_set import VOCRoot

CLASSES = ["cat", "dog", "potted plant"]


@pytest.fixture
def labels_of(tmp_path):
    """labels_of("a 0 2\\n"): labels with this label file; annotations lie below tmp_path."""

    def make(text: str) -> ImageLabels:
        (tmp_path / "labels.txt").write_text(text, encoding="utf-8")
        return ImageLabels(tmp_path / "labels.txt", VOCRoot(tmp_path), CLASSES)

    return make


def annotate(root: Path, image_id: str, *names: str, head: str = "") -> None:
    objects = "".join(f"<object><name>{name}</name><part><name>head</name></part></object>" for name in names)
    (root / "Annotations").mkdir(exist_ok=True)
    (root / "Annotations" / f"{image_id}.xml").write_text(f"{head}<annotation>{objects}</annotation>")


@pytest.mark.parametrize(
    ("line", "keys"),
    [("a 0", [0]), ("a 2 0", [0, 2]), ("a 1 1 0 1", [0, 1]), ("a", [])],
)
def test_a_line_of_the_label_file(labels_of, line, keys):
    found = labels_of(f"x 1\r\n\n{line}\r\ny 2")["a"]
    assert found.dtype == np.int64 and found.shape == (len(keys),)
    assert found.tolist() == keys


def test_the_file_comes_before_the_annotation(labels_of, tmp_path):
    annotate(tmp_path, "a", "dog")
    assert labels_of("a 0\n")["a"].tolist() == [0]
    assert labels_of("a\n")["a"].tolist() == []  # said to show nothing


@pytest.mark.parametrize(
    ("names", "keys"),
    [(["dog"], [1]), (["potted plant", "dog", "dog"], [1, 2]), ([], []), (["\n cat "], [0])],
)
def test_an_id_the_file_lacks_is_looked_up_in_its_annotation(labels_of, tmp_path, names, keys):
    annotate(tmp_path, "a", *names)
    found = labels_of("b 0\n")["a"]
    assert found.dtype == np.int64 and found.tolist() == keys


def test_many_hot(labels_of):
    labels = labels_of("a 2 0\nb\n")
    assert labels.many_hot("a").dtype == np.float32
    assert labels.many_hot("a").tolist() == [1, 0, 1]
    assert labels.many_hot("b").tolist() == [0, 0, 0]


def test_neither_file_nor_annotation(labels_of):
    with pytest.raises(InputError, match=r"no label for 2007_000032: neither in .*labels\.txt nor at .*\.xml"):
        labels_of("b 0\n")["2007_000032"]


def test_a_file_that_lists_ids_with_their_ending(labels_of, tmp_path):
    with pytest.raises(InputError, match=r"nor at .*a\.xml; the file lists 'a\.jpg'"):
        labels_of("a.jpg 0\n")["a"]
    annotate(tmp_path, "a", "dog")
    assert labels_of("a.jpg 0\n")["a"].tolist() == [1]


def test_an_annotation_with_an_unknown_class(labels_of, tmp_path):
    annotate(tmp_path, "a", "cat", "unicorn")
    with pytest.raises(InputError, match=r"a\.xml: 'unicorn' is not among the class names"):
        labels_of("")["a"]


@pytest.mark.parametrize(
    "head", ["<", "text", '<?xml version="1.0" encoding="klingon"?>', '<?xml version="1.0" encoding="utf-32"?>']
)
def test_a_damaged_annotation(labels_of, tmp_path, head):
    annotate(tmp_path, "a", "cat", head=head)
    with pytest.raises(InputError, match=r"a\.xml: cannot be read as an annotation"):
        labels_of("")["a"]


def test_an_annotation_reads_no_other_file(labels_of, tmp_path):
    (tmp_path / "secret").write_text("cat")
    head = f'<!DOCTYPE annotation [<!ENTITY x SYSTEM "file://{tmp_path}/secret">]>'
    annotate(tmp_path, "a", "&x;", head=head)
    with pytest.raises(InputError, match=r"a\.xml"):
        labels_of("")["a"]


def test_annotations_alone(tmp_path):
    annotate(tmp_path, "a", "dog")
    labels = ImageLabels(None, VOCRoot(tmp_path), CLASSES)
    assert labels["a"].tolist() == [1]
    with pytest.raises(InputError, match=r"no label for b: .*b\.xml, .*--cls_labels"):
        labels["b"]


def test_the_project_s_own_labels_are_not_called_a_file(tmp_path):
    labels = ImageLabels(VOC_LABELS, VOCRoot(tmp_path), read_class_names(VOC_NAMES))
    assert labels["2007_000032"].tolist() == [0, 14]
    with pytest.raises(InputError, match=r"no label for b: VOC's labels .*b\.xml, .*--cls_labels"):
        labels["b"]


def test_no_label_file(tmp_path):
    with pytest.raises(InputError, match=r"none\.txt: no such list"):
        ImageLabels(tmp_path / "none.txt", VOCRoot(tmp_path), CLASSES)["a"]


def test_class_names(tmp_path):
    path = tmp_path / "names.txt"
    path.write_text("cat\n\n potted plant \r\ndog")
    assert read_class_names(path) == ["cat", "potted plant", "dog"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "0 class names"),
        ("cat\ndog\ncat\n", "'cat' occurs twice"),
        ("K\u00fcche\nKu\u0308che\n", "'Ku\u0308che' occurs twice"),  # an umlaut is one letter or two
        ("\n".join(map(str, range(255))), "255 class"),
        ("background\ncat\n", "'background' is no class name"),
        ("cat\n Background \n", "'Background' is no class name"),
    ],
    ids=["none", "twice", "twice in Unicode", "too many", "background", "Background"],
)
def test_class_names_that_will_not_do(tmp_path, text, message):
    (tmp_path / "names.txt").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=rf"names\.txt: .*{message}"):
        read_class_names(tmp_path / "names.txt")
