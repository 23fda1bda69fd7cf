"""The generated set in COCO's form, converted: the data set it was made of, and the same masks from the whole chain."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from run_sample import main as run
from tests.test_chain import files_below
from voc12.convert.__main__ import main as convert
from voc12.generated_coco import write_instances
from voc12.image_labels import ImageLabels, read_class_names
from voc12.image_set import VOCRoot, read_list

LISTS = ("train", "val")


@pytest.fixture(scope="module")
def converted(tiny_voc, tmp_path_factory) -> Path:
    """tiny_voc by way of COCO's form."""
    source, target = tmp_path_factory.mktemp("coco"), tmp_path_factory.mktemp("voc") / "again"
    for name in LISTS:
        ids = read_list(VOCRoot(tiny_voc).image_set(name))
        write_instances(tiny_voc, ids, source / "annotations" / f"instances_{name}.json")
        (source / "images" / name).mkdir(parents=True)
        for image_id in ids:
            os.link(VOCRoot(tiny_voc).image(image_id), source / "images" / name / f"{image_id}.jpg")
    assert convert(["coco", str(source), str(target)]) == 0
    return target


def test_the_conversion_is_the_set_it_was_made_of(tiny_voc, converted):
    voc, again = VOCRoot(tiny_voc), VOCRoot(converted)
    names = read_class_names(converted / "classes.txt")
    assert names == read_class_names("voc12/class_names.txt")
    ids = [image_id for name in LISTS for image_id in read_list(voc.image_set(name))]
    assert ids == [image_id for name in LISTS for image_id in read_list(again.image_set(name))]
    of_xml, of_csv = ImageLabels(None, voc, names), ImageLabels(converted / "cls_labels.csv", again, names)
    for image_id in ids:
        assert again.image(image_id).read_bytes() == voc.image(image_id).read_bytes()
        assert of_csv[image_id].tolist() == of_xml[image_id].tolist() != []
        assert again.truth(image_id).read_bytes() == voc.truth(image_id).read_bytes()
    with Image.open(again.truth(ids[0])) as mask:
        assert {0, 255} < set(np.unique(mask).tolist())


@pytest.mark.slow
def test_the_chain_makes_the_same_of_both(tiny_voc, converted, tiny_args, tmp_path):
    again = VOCRoot(converted)
    settings = {
        "voc12_root": converted,
        "class_names": converted / "classes.txt",
        "cls_labels": converted / "cls_labels.csv",
        "saliency_dir": tiny_voc / "Sal",
        **{f"{name}_list": again.image_set(name) for name in LISTS},
        "train_aug_list": again.image_set("train"),
    }
    of_voc, of_coco = (chain_files(tiny_args(**changes), tmp_path) for changes in ({}, settings))
    assert of_coco == of_voc
    assert sum(path.endswith("_crf.png") for path in of_coco) == len(read_list(again.image_set("train")))


def chain_files(arguments: list[str], out: Path) -> dict[str, bytes]:
    """What a run makes, without manifests, which name the data set; it is removed."""
    assert run(arguments) == 0
    files = {path: content for path, content in files_below(out).items() if path.endswith((".png", ".npy", ".csv"))}
    for path in out.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return files
