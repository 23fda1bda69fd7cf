"""coco14: the official folders of MS COCO, with the golden instances file as their annotations."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import GOLDEN
from voc12.convert.__main__ import main

FILE = json.loads((GOLDEN / "coco_instances.json").read_text())
SIZES = {image["id"]: (image["height"], image["width"]) for image in FILE["images"]}
ANNOTATED = sorted({annotation["image_id"] for annotation in FILE["annotations"]})
TRAIN, VAL = ANNOTATED[:-2], ANNOTATED[-2:]
NAMES = [name for _, name in sorted((c["id"], c["name"]) for c in FILE["categories"])]


@pytest.fixture
def coco(tmp_path, picture):
    """coco(years): the folder, its images and annotations named as of these releases."""

    def build(*, images="2014", annotations="2014") -> Path:
        root = tmp_path / "coco"
        for part, members in (("train", TRAIN), ("val", VAL)):
            unannotated = [i for i in SIZES if i not in ANNOTATED] if part == "train" else []
            entries = [entry for entry in FILE["images"] if entry["id"] in [*members, *unannotated]]
            for entry in entries:
                prefix = f"COCO_{part}2014_" if images == "2014" else ""
                picture(root / f"{part}{images}" / f"{prefix}{entry['id']:012d}.jpg", SIZES[entry["id"]])
            prefix = f"COCO_{part}2014_" if annotations == "2014" else ""
            content = {
                "images": [entry | {"file_name": f"{prefix}{entry['id']:012d}.jpg"} for entry in entries],
                "annotations": [a for a in FILE["annotations"] if a["image_id"] in members],
                "categories": FILE["categories"][::-1],
            }
            path = root / "annotations" / f"instances_{part}{annotations}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(content))
        return root

    return build


def ids(part: str, numbers) -> list[str]:
    return [f"COCO_{part}2014_{number:012d}" for number in numbers]


@pytest.mark.parametrize(("recipe", "letter"), [(None, "A"), ("painted", "A"), ("smallest", "B")])
def test_the_golden_masks_labels_and_lists(coco, convert, content, golden, recipe, letter):
    target = convert("coco14", coco(), *([f"--recipe={recipe}"] if recipe else []))
    found, arrays = content(target), golden("coco_masks")
    order = [image["id"] for image in FILE["images"]]
    train, val = ([i for i in order if i in part] for part in (TRAIN, VAL))
    assert found["names"] == NAMES
    assert found["lists"] == {"train": ids("train", train), "val": ids("val", val)}
    rows = dict(zip(arrays["image_ids"].tolist(), arrays["labels_all"], strict=True))
    for part, members in (("train", train), ("val", val)):
        for number, image_id in zip(members, ids(part, members), strict=True):
            assert found["labels"][image_id] == rows[number].nonzero()[0].tolist()
            assert found["masks"][image_id] == arrays[f"{letter}_{number}"].tolist()
    assert f"recipe {recipe or 'painted'}" in convert.said
    assert "the published list of train2014 has 82,081" in convert.said


def test_all_images(coco, convert, content):
    assert len(SIZES) > len(ANNOTATED), "the golden file has an image without annotation"
    source = coco()
    few = content(convert("coco14", source))
    assert "images without an annotation" in convert.said
    every = content(convert("coco14", source, "--all_images", target="all"))
    (extra,) = set(every["lists"]["train"]) - set(few["lists"]["train"])
    assert every["labels"][extra] == [] and not np.any(every["masks"][extra])


def test_an_object_of_no_category_leaves_its_image_without_a_mask(coco, convert, content):
    source = coco()
    path = source / "annotations" / "instances_train2014.json"
    file = json.loads(path.read_text())
    whole = content(convert("coco14", source))
    first, second = [image_id for image_id in TRAIN if image_id in ANNOTATED][:2]
    for annotation in file["annotations"]:
        if annotation["image_id"] == second:
            annotation["category_id"] = 99
    file["annotations"].append(next(a for a in file["annotations"] if a["image_id"] == first) | {"category_id": 99})
    path.write_text(json.dumps(file))
    found = content(convert("coco14", source, "--all_images", target="unknown"))
    name, unknown = (f"COCO_train2014_{image_id:012d}" for image_id in (first, second))
    assert found["labels"][name] == whole["labels"][name] and name not in found["masks"] and name in whole["masks"]
    assert unknown in whole["labels"] and unknown not in found["labels"]
    assert "images with objects of unknown categories alone, 1:" in convert.said


def test_images_of_2017_serve_the_lists_of_2014(coco, convert, content):
    of_2014 = content(convert("coco14", coco(), target="of_2014"))
    shutil.rmtree(coco())
    of_2017 = content(convert("coco14", coco(images="2017"), target="of_2017"))
    for name, listed in of_2014["lists"].items():
        assert of_2017["lists"][name] == [image_id[-12:] for image_id in listed]
    assert of_2017["masks"] == {image_id[-12:]: mask for image_id, mask in of_2014["masks"].items()}


def test_2017_alone_is_said(coco, convert, content):
    target = convert("coco14", coco(images="2017", annotations="2017"))
    assert sorted(content(target)["lists"]["val"]) == [f"{number:012d}" for number in VAL]
    assert "the list of train2017" in convert.said


@pytest.mark.parametrize("name", ["{}.png", "{:012d}.png", "COCO_train2014_{:012d}.png", "train2014/{:012d}.png"])
def test_masks_that_others_made_are_taken(coco, convert, content, name):
    source = coco()
    for number in TRAIN:
        path = source / "SegmentationClass" / name.format(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        mask = np.full(SIZES[number], 255, np.uint8)
        mask[0, :3] = 0, 1, len(NAMES)
        Image.fromarray(mask).save(path)
    found = content(convert("coco14", source))
    for image_id in ids("train", TRAIN):
        assert found["masks"][image_id][0][:4] == [0, 1, len(NAMES), 255]
    assert "masks: those of others" in convert.said and "painted by the recipe painted" in convert.said  # val's


def test_masks_that_come_later_are_not_mixed_with_painted_ones(coco, convert, capsys):
    source = coco()
    convert("coco14", source)
    for number in TRAIN:
        path = source / "SegmentationClass" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.zeros(SIZES[number], np.uint8)).save(path)
    assert main(["coco14", str(source), str(source.parent / "target")]) == 2
    assert "--overwrite" in capsys.readouterr().err


def test_masks_that_keep_the_ids_of_coco_are_refused(coco, refused, tmp_path):
    for number in TRAIN:
        path = tmp_path / "masks" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.full(SIZES[number], 90, np.uint8)).save(path)
    error = refused("coco14", coco(), f"--masks={tmp_path / 'masks'}")
    assert "holds the number 90" in error and "1 to 90" in error
    path.unlink()
    assert f"none of {ids('train', TRAIN)[-1]}" in refused("coco14", coco(), f"--masks={tmp_path / 'masks'}")


def test_missing_images_are_left_out_and_counted(coco, convert, content):
    source = coco()
    first, *others = ids("train", TRAIN)
    (source / "train2014" / f"{first}.jpg").unlink()
    found = content(convert("coco14", source))
    assert sorted(found["lists"]["train"]) == others
    assert f"left out: images that are not on disk, 1: {first}.jpg" in convert.said


def test_other_categories_in_val_are_refused(coco, refused):
    source = coco()
    path = source / "annotations" / "instances_val2014.json"
    content = json.loads(path.read_text())
    content["categories"][0]["name"] = "zebra"
    path.write_text(json.dumps(content))
    assert "instances_val2014.json: its categories are not those" in refused("coco14", source)


def test_a_folder_without_annotations_says_what_is_missing(tmp_path, refused):
    (tmp_path / "train2014").mkdir()
    assert "annotations/instances_train2014.json" in refused("coco14", tmp_path / "train2014")


def test_without_pycocotools_one_line_says_what_to_install(coco, refused, monkeypatch):
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    assert "pip install -r requirements-coco.txt" in refused("coco14", coco())
