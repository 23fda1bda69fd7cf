"""Which labels a data set has."""

from pathlib import Path

import pytest

from misc.config import Config
from misc.errors import InputError
from step.shared.data import DataSet
from voc12.image_labels import VOC_NAMES

XML = "<annotation><object><name>{}</name></object></annotation>"


@pytest.fixture
def root(tmp_path) -> Path:
    """A VOC root whose one image has the ID of one of VOC's, but shows something else."""
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "Annotations" / "2007_000032.xml").write_text(XML.format("dog"))
    return tmp_path


def labels(root: Path, **changes: str) -> list[int]:
    return DataSet(Config(voc12_root=str(root), **changes)).labels["2007_000032"].tolist()


def test_voc_s_labels_go_with_voc_s_class_names(root):
    assert labels(root) == [0, 14]
    (root / "copy.txt").write_text(VOC_NAMES.read_text())
    assert labels(root, class_names=str(root / "copy.txt")) == [0, 14]


def test_with_other_class_names_annotations_alone_are_read(root):
    (root / "names.txt").write_text("cat\ndog\n")
    assert labels(root, class_names=str(root / "names.txt")) == [1]
    (root / "Annotations" / "2007_000032.xml").unlink()
    with pytest.raises(InputError, match="no label for 2007_000032: there is no ") as error:
        labels(root, class_names=str(root / "names.txt"))
    assert "cls_labels.txt" not in str(error.value)


def test_a_label_file_that_is_named_comes_first(root):
    (root / "names.txt").write_text("cat\ndog\n")
    (root / "labels.txt").write_text("2007_000032 0\n")
    for names in (str(root / "names.txt"), str(VOC_NAMES)):
        assert labels(root, class_names=names, cls_labels=str(root / "labels.txt")) == [0]
