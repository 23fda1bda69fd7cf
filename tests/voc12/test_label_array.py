"""cls_labels.npy of IRN and its descendants: keys of text and of numbers, vectors of 20 and of 80."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from misc.errors import InputError
from voc12.image_labels import ImageLabels
from voc12.image_set import VOCRoot

VOC = [f"class {number}" for number in range(20)]
COCO = [f"thing {number}" for number in range(80)]


def vector(classes: list[int], n_classes: int) -> np.ndarray:
    return np.array([number in classes for number in range(n_classes)], np.float32)


def labels_of(folder: Path, content: object, names: list[str] = VOC) -> ImageLabels:
    np.save(folder / "cls_labels.npy", content)
    return ImageLabels(folder / "cls_labels.npy", VOCRoot(folder), names)


@pytest.mark.parametrize(
    ("key", "image_id"),
    [
        ("2007_000032", "2007_000032"),  # PSA, SEAM, EPS, L2G, MCTformer
        (2007000032, "2007_000032"),  # IRN, BES, ReCAM, AMN, CLIMS
        (np.int64(2007000032), "2007_000032"),
        ("2007000032", "2007_000032"),
        ("Ku\u0308che", "K\u00fcche"),
    ],
)
def test_a_key_names_an_image_of_voc(tmp_path, key, image_id):
    content = {key: vector([0, 14], 20), "2008_000001": vector([], 20), 2008000002: vector([19], 20).astype(int)}
    labels = labels_of(tmp_path, content)
    assert labels[image_id].tolist() == [0, 14] and labels[image_id].dtype == np.int64
    assert labels["2008_000001"].tolist() == [] and labels["2008_000002"].tolist() == [19]


@pytest.mark.parametrize("key", [9, "9", "000000000009", "COCO_train2014_000000000009"])
@pytest.mark.parametrize("image_id", ["000000000009", "COCO_train2014_000000000009"])
def test_a_key_names_an_image_of_coco(tmp_path, key, image_id):
    labels = labels_of(tmp_path, {key: vector([79, 3], 80), 90: vector([1], 80)}, COCO)
    assert labels[image_id].tolist() == [3, 79]
    assert labels["COCO_val2014_000000000090"].tolist() == [1]


def test_an_image_that_it_lacks_is_looked_up_in_its_annotation(tmp_path):
    labels = labels_of(tmp_path, {"a": vector([0], 20)})
    with pytest.raises(InputError, match=r"no label for 2007_000033: neither in .*npy nor at .*\.xml; its first image"):
        labels["2007_000033"]
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "Annotations" / "2007_000033.xml").write_text(
        "<annotation><object><name>class 7</name></object></annotation>"
    )
    assert labels["2007_000033"].tolist() == [7]


@pytest.mark.parametrize(
    ("key", "others"),
    [("12_3", ["1_23", "123", "12_03"]), ("0005", ["5", "00005"]), ("5", ["0005"]), (5, ["0005"]), ("9", ["0_9"])],
)
def test_other_names_of_digits_are_told_apart_by_their_spelling(tmp_path, key, others):
    labels = labels_of(tmp_path, {key: vector([3], 20)})
    assert labels[str(key)].tolist() == [3]
    for other in others:
        with pytest.raises(InputError, match=f"no label for {other}"):
            labels[other]


@pytest.mark.parametrize(
    ("keys", "image_id"),
    [
        (("2007_000032", 2007000032), "2007_000032"),
        (("000000000009", 9), "000000000009"),
        (("9", 9), "COCO_train2014_000000000009"),
    ],
)
def test_two_keys_for_one_image(tmp_path, keys, image_id):
    labels = labels_of(tmp_path, {key: vector([number], 20) for number, key in enumerate(keys)})
    with pytest.raises(InputError, match=f"{keys[0]!r} and {keys[1]!r} both name the image {image_id}"):
        labels[image_id]


@pytest.mark.parametrize(
    ("value", "names", "message"),
    [
        (vector([0], 20), COCO, r"shape \(20,\), expected a number for each of 80 classes \(see --class_names\)"),
        (vector([0], 21), VOC, r"shape \(21,\), expected a number for each of 20 classes"),
        (0.5 * vector([0], 20), VOC, "other numbers than 0 and 1"),
        ("aeroplane", VOC, "cannot be read as a label file"),
    ],
    ids=["VOC's for COCO", "with background", "probabilities", "a name"],
)
def test_vectors_that_will_not_do(tmp_path, value, names, message):
    with pytest.raises(InputError, match=rf"cls_labels\.npy: .*{message}"):
        labels_of(tmp_path, {"a": value}, names)["a"]


def test_no_code_runs(tmp_path):
    class Attack:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "made"),)

    with pytest.raises(InputError, match=r"cannot be read as a label file .*mkdir"):
        labels_of(tmp_path, {"a": Attack()})
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("content", [np.zeros((3, 20), np.float32), ["a"]], ids=["a table", "a list"])
def test_no_dict(tmp_path, content):
    with pytest.raises(InputError, match="cannot be read as a label file"):
        labels_of(tmp_path, content)


def test_no_such_file_and_no_npy(tmp_path):
    with pytest.raises(InputError, match=r"none\.npy: no such label file"):
        ImageLabels(tmp_path / "none.npy", VOCRoot(tmp_path), VOC)
    (tmp_path / "cls_labels.npy").write_bytes(pickle.dumps({"a": [1]}))
    with pytest.raises(InputError, match="cannot be read as a label file"):
        ImageLabels(tmp_path / "cls_labels.npy", VOCRoot(tmp_path), VOC)


def test_a_file_that_is_written_anew_is_read_anew(tmp_path):
    assert labels_of(tmp_path, {"a": vector([0], 20)})["a"].tolist() == [0]
    assert labels_of(tmp_path, {"a": vector([1], 20), "b": vector([1], 20)})["a"].tolist() == [1]
