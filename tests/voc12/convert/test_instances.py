"""COCO instances files: pycocotools' arrays, and hand-made files with masks drawn by hand."""

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as rle

from misc.errors import InputError
from tests.conftest import GOLDEN
from voc12.convert.instances import NO_SUCH_CATEGORY, NO_SUCH_IMAGE, read_instances, sound
from voc12.convert.outlines import DAMAGED, NO_OUTLINE, SHORT, Annotation, RunLengths, classes_of, faults, paint

SIZE = (4, 5)


def numbered(categories):
    """Ranks of the IDs, from 1."""
    return {number: rank for rank, number in enumerate(sorted(categories), start=1)}


SQUARE = [1, 1, 3, 1, 3, 3, 1, 3]  # the pixels 1 and 2 of the rows 1 and 2
RUNS = [5, 2, 2, 2, 9]  # the same down the columns: 4 + 1 outside, 2 inside, …


@pytest.fixture(scope="module")
def coco():
    return read_instances(GOLDEN / "coco_instances.json")


def test_each_object_has_the_pixels_of_pycocotools(coco, golden):
    arrays = golden("coco_masks")
    ids = iter(json.loads((GOLDEN / "coco_instances.json").read_text())["annotations"])
    sizes = {image.id: image.size for image in coco.images}
    compared = 0
    for entry in ids:
        of_image = [a for a in coco.annotations[entry["image_id"]] if a.category_id == entry["category_id"]]
        candidates = [
            paint([a], {a.category_id: 1}, sizes[entry["image_id"]], order="file", crowds=True) for a in of_image
        ]
        assert any((mask == arrays[f"annotation_{entry['id']}"]).all() for mask in candidates)
        compared += 1
    assert compared == sum(name.startswith("annotation_") for name in arrays)


@pytest.mark.parametrize(("recipe", "order", "crowds"), [("A", "file", False), ("B", "area", True)])
def test_masks_of_both_recipes(coco, golden, recipe, order, crowds):
    arrays, numbers = golden("coco_masks"), numbered(coco.categories)
    assert list(numbers) == arrays["category_ids"].tolist()
    for image in coco.images:
        mask = paint(coco.annotations.get(image.id, []), numbers, image.size, order=order, crowds=crowds)
        assert mask.dtype == np.uint8 and (mask == arrays[f"{recipe}_{image.id}"]).all(), image.id


def test_labels_of_all_annotations(coco, golden):
    arrays = golden("coco_masks")
    for image_id, row in zip(arrays["image_ids"].tolist(), arrays["labels_all"], strict=True):
        assert classes_of(coco.annotations.get(image_id, []), numbered(coco.categories)) == row.nonzero()[0].tolist()


def one(segmentation, **more):
    """A file of one image of 4×5 pixels and one object."""
    annotation = {"id": 1, "image_id": 1, "category_id": 3, "segmentation": segmentation, **more}
    return {
        "images": [{"id": 1, "file_name": "a.jpg", "height": SIZE[0], "width": SIZE[1]}],
        "annotations": [annotation],
        "categories": [{"id": 3, "name": "cup"}],
    }


def read(content, folder: Path):
    (folder / "a.json").write_text(json.dumps(content))
    return read_instances(folder / "a.json")


def painted(content, folder: Path, **how):
    instances = read(content, folder)
    return paint(
        instances.annotations[1], numbered(instances.categories), SIZE, **({"order": "file", "crowds": True} | how)
    )


def packed(mask: np.ndarray) -> str:
    return rle.encode(np.asfortranarray(mask, np.uint8))["counts"].decode()


SQUARE_MASK = np.zeros(SIZE, np.uint8)
SQUARE_MASK[1:3, 1:3] = 1


@pytest.mark.parametrize(
    "segmentation",
    [[SQUARE], SQUARE, [SQUARE, [0, 0, 1]], {"size": [*SIZE], "counts": RUNS},
     {"size": [*SIZE], "counts": packed(SQUARE_MASK)}],
    ids=["polygon", "without brackets", "beside a short one", "runs", "packed runs"],
)  # fmt: skip
def test_a_square_in_every_form(tmp_path, segmentation):
    mask = painted(one(segmentation), tmp_path)
    assert mask.tolist() == SQUARE_MASK.tolist()


def test_packed_runs_of_any_mask(tmp_path):
    rng = np.random.default_rng(0)
    for density in (0.02, 0.3, 0.9, 0, 1):
        mask = rng.random((70, 90)) < density
        content = one({"size": [70, 90], "counts": packed(mask)})
        instances = read(content, tmp_path)
        (annotation,) = instances.annotations[1]
        got = paint([annotation], {3: 1}, mask.shape, order="file", crowds=True)
        assert (got == mask).all() and faults(annotation.outline, mask.shape) == []


@pytest.mark.parametrize(
    ("segmentation", "fault"),
    [
        ([], NO_OUTLINE),
        (None, NO_OUTLINE),
        ([[1, 1, 3, 3]], SHORT),  # pycocotools would take it for a box
        ([[]], SHORT),
        ([[1, 1, 3, 1, 3, 3, 1]], DAMAGED),
        ([[1, 1, 3, 1, 3, float("nan")]], DAMAGED),
        ([[1, 1, 3, 1, 3, 1e9]], DAMAGED),  # pycocotools would take all memory
        ([["a"] * 6], DAMAGED),
        ([{"x": 1}], DAMAGED),
        ({"size": [*SIZE], "counts": [5, 2, 2, 2, 8]}, DAMAGED),
        ({"size": [5, 4], "counts": RUNS}, DAMAGED),
        ({"size": [*SIZE], "counts": [-5, 25]}, DAMAGED),
        ({"size": [*SIZE], "counts": ""}, DAMAGED),  # pycocotools would return what the memory held
        ({"size": [*SIZE], "counts": packed(SQUARE_MASK)[:-1]}, DAMAGED),
        ({"size": [*SIZE], "counts": "\x7f\x7f"}, DAMAGED),
        ({"counts": RUNS}, DAMAGED),
        ({"size": [*SIZE], "counts": "d" + 20 * "P" + "0"}, DAMAGED),  # 20, with more and more zeros in front
    ],
)
def test_what_cannot_be_painted_is_told(tmp_path, segmentation, fault):
    assert not painted(one(segmentation), tmp_path).any()
    instances = read(one(segmentation), tmp_path)
    (annotation,) = instances.annotations[1]
    assert faults(annotation.outline, SIZE) == [fault]
    left_out = {}
    counted, complete = sound([annotation], SIZE, instances.categories, "a.jpg", left_out)
    assert left_out == {fault: ["cup in a.jpg"]}
    # an object of points is none; another one labels its image, but a mask without it would be wrong
    assert (counted, complete) == (([], True) if fault == SHORT else ([annotation], False))


def test_a_short_polygon_beside_a_good_one_is_left_out_alone(tmp_path):
    (annotation,) = read(one([SQUARE, [0, 0, 1, 1]]), tmp_path).annotations[1]
    left_out = {}
    assert sound([annotation], SIZE, {3: "cup"}, "a.jpg", left_out) == ([annotation], True)
    assert left_out == {SHORT: ["cup in a.jpg"]}


def test_annotations_of_nothing_known_are_left_out(tmp_path):
    content = one([SQUARE])
    content["annotations"] += [{"image_id": 7, "category_id": 3}, {"image_id": 1, "category_id": 9}]
    instances = read(content, tmp_path)
    assert len(instances.annotations[1]) == 1 and list(instances.annotations) == [1]
    assert instances.left_out == {NO_SUCH_IMAGE: ["image_id 7"], NO_SUCH_CATEGORY: ["category_id 9 in a.jpg"]}


def test_background_and_void_are_no_classes(tmp_path):
    annotations = read(one([SQUARE]), tmp_path).annotations[1]
    assert classes_of(annotations, {3: 255}) == classes_of(annotations, {3: 0}) == []


def test_what_lies_on_top(tmp_path):
    """A square of class 2 in a box of class 1 that comes later in the file."""
    content = one([SQUARE], area=4)
    box = {"image_id": 1, "category_id": 1, "segmentation": [[0, 0, 4, 0, 4, 4, 0, 4]], "area": 16, "iscrowd": 1}
    content["annotations"].append(box)
    content["categories"].append({"id": 1, "name": "box"})
    covered = np.zeros(SIZE, np.uint8)
    covered[:, :4] = 1
    shown = np.where(SQUARE_MASK == 1, 2, covered)
    assert painted(content, tmp_path).tolist() == covered.tolist()
    assert painted(content, tmp_path, order="area").tolist() == shown.tolist()
    assert painted(content, tmp_path, crowds=False).tolist() == (2 * SQUARE_MASK).tolist()
    for entry in content["annotations"]:
        del entry["area"]  # then the pixels are counted
    assert painted(content, tmp_path, order="area").tolist() == shown.tolist()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda c: c.pop("images"), "no COCO instances file"),
        (lambda c: c["categories"][0].pop("name"), "id 3 has no name"),
        (lambda c: c["categories"].append({"id": 4, "name": "cup"}), "3 and 4 are both named 'cup'"),
        (lambda c: c["categories"].append({"id": 3, "name": "pot"}), "two categories have the id 3"),
        (lambda c: c["categories"].append({"id": "x", "name": "pot"}), "whole number"),
        (lambda c: c["images"].append(c["images"][0]), "two images have the id 1"),
        (lambda c: c["images"][0].pop("file_name"), "without id or file_name"),
        (lambda c: c["annotations"][0].pop("category_id"), "annotation 0"),
    ],
)
def test_a_damaged_file_is_told_by_name(tmp_path, change, expected):
    content = one([SQUARE])
    change(content)
    with pytest.raises(InputError, match=expected) as error:
        read(content, tmp_path)
    assert str(tmp_path / "a.json") in str(error.value)


def places(value, path=()):
    """The path of every value within a JSON value."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*path, key))


ODD = [None, "x", "", -1, 0, 7, 1e300, True, [], {}, [[]], [None], [["x"]], {"a": 1}, float("nan"), 10**30]


@pytest.mark.parametrize("segmentation", [[SQUARE], {"size": [*SIZE], "counts": RUNS}], ids=["polygon", "runs"])
def test_whatever_stands_in_a_file_is_painted_or_told(tmp_path, segmentation):
    """Any value in place of any other: an InputError, or a mask."""
    whole = one(segmentation, area=4, iscrowd=0)
    whole["categories"][0]["supercategory"] = "kitchen"
    tried = 0
    for *path, last in filter(None, places(whole)):
        for odd in ODD:
            content = json.loads(json.dumps(whole))
            inner = content
            for key in path:
                inner = inner[key]
            inner[last] = odd
            try:
                instances = read(content, tmp_path)
            except InputError as error:
                assert "\n" not in str(error)
            else:
                numbers = numbered(instances.categories)
                for image in instances.images:
                    size = image.size if image.size and max(image.size) < 100 else SIZE
                    given = instances.annotations.get(image.id, [])
                    annotations, _ = sound(given, size, instances.categories, image.file_name, {})
                    assert paint(annotations, numbers, size, order="area", crowds=True).shape == size
            tried += 1
    assert tried > 300


def test_an_area_that_no_float_holds_counts_for_none(tmp_path):
    (annotation,) = read(one([SQUARE], area=10**400), tmp_path).annotations[1]
    assert annotation.area is None


def test_a_name_of_several_lines_becomes_one(tmp_path):
    content = one([SQUARE])
    content["categories"] = [
        {"id": 3, "name": "cat\nor  lynx"},
        {"id": 4, "name": "kit", "supercategory": "cat or\tlynx"},
    ]
    instances = read(content, tmp_path)
    assert instances.categories == {3: "cat or lynx", 4: "kit"} and instances.supercategories == {"cat or lynx"}


@pytest.mark.parametrize("order", ["file", "area"])
def test_the_masks_of_all_objects_are_not_held_at_once(order):
    """40 objects of a tenth of a megabyte each: three of their masks are less than 1 MB."""
    size, objects = (400, 250), 40
    runs = RunLengths(size, np.array([50_000, 50_000]))
    annotations = [Annotation(1, 3, False, None, runs) for _ in range(objects)]
    tracemalloc.start()
    paint(annotations, {3: 1}, size, order=order, crowds=True)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2e6


def test_ids_that_a_program_wrote_with_a_point(tmp_path):
    content = one([SQUARE])
    content["annotations"][0] |= {"image_id": 1.0, "category_id": 3.0}
    assert painted(content, tmp_path).tolist() == SQUARE_MASK.tolist()
