"""coco: instances files laid out as the documentation of annotation tools says, with masks drawn by hand."""

import json
from pathlib import Path

import pytest

from voc12.convert.__main__ import main
from voc12.convert.image_folder import ImageFolder, plain_name

SIZE = (4, 6)
LEFT = [0, 0, 2, 0, 2, 4, 0, 4]  # the columns 0 and 1
MIDDLE = [1, 0, 4, 0, 4, 4, 1, 4]  # the columns 1 to 3


def mask(row: str) -> list[list[int]]:
    """A mask whose rows all are these digits, v for 255."""
    return [[255 if digit == "v" else int(digit) for digit in row]] * SIZE[0]


def write(path: Path, images: list[str], annotations: list[dict], categories: dict[int, str], **more) -> Path:
    """An instances file; the image of an annotation is given by its position."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "images": [
            {"id": number, "file_name": name, "height": SIZE[0], "width": SIZE[1]} for number, name in enumerate(images)
        ],
        "annotations": [{"id": n, "iscrowd": 0, **entry} for n, entry in enumerate(annotations)],
        "categories": [{"id": number, "name": name} | more.get(name, {}) for number, name in categories.items()],
    }
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def polygon(image: int, category: int, *points: list[int]) -> dict:
    return {"image_id": image, "category_id": category, "segmentation": list(points)}


def test_roboflow(tmp_path, picture, convert, content):
    """A folder a split, category 0 above the others; valid is val."""
    root = tmp_path / "robo"
    above = {"cat": {"supercategory": "animals"}, "dog": {"supercategory": "animals"}}
    for split, name, category in (("train", "a_jpg.rf.1", 2), ("valid", "b_jpg.rf.2", 1), ("test", "c_jpg.rf.3", 1)):
        picture(root / split / f"{name}.jpg", SIZE)
        annotations = [polygon(0, category, LEFT)]
        write(root / split / "_annotations.coco.json", [f"{name}.jpg"], annotations,
              {0: "animals", 1: "cat", 2: "dog"}, **above)  # fmt: skip
    found = content(convert("coco", root))
    assert found["names"] == ["cat", "dog"]
    assert found["lists"] == {"train": ["a_jpg.rf.1"], "val": ["b_jpg.rf.2"], "test": ["c_jpg.rf.3"]}
    assert found["labels"] == {"a_jpg.rf.1": [1], "b_jpg.rf.2": [0], "c_jpg.rf.3": [0]}
    assert found["masks"] == {
        "a_jpg.rf.1": mask("220000"), "b_jpg.rf.2": mask("110000"), "c_jpg.rf.3": mask("110000")
    }  # fmt: skip
    assert "supercategory of others: animals (0)" in convert.said


def test_cvat(tmp_path, picture, convert, content):
    """Masks of the brush are run lengths and marked as crowds; names have folders in front."""
    root = tmp_path / "cvat"
    picture(root / "images" / "default" / "batch1" / "a.png", SIZE)
    brush = {"size": [*SIZE], "counts": [4, 8, 12]}  # the columns 1 and 2
    annotations = [
        polygon(0, 2, LEFT),
        {"image_id": 0, "category_id": 1, "segmentation": brush, "iscrowd": 1, "area": 8},
    ]
    write(root / "annotations" / "instances_default.json", ["batch1/a.png"], annotations, {1: "road", 2: "car"})
    found = content(convert("coco", root))
    assert found["lists"] == {"train": ["batch1_a"]}
    assert found["masks"] == {"batch1_a": mask("211000")} and found["labels"] == {"batch1_a": [0, 1]}


def test_cvat_with_subsets_of_the_same_names(tmp_path, picture, convert, content):
    root = tmp_path / "cvat"
    for name, digit, points in (("Train", 1, LEFT), ("Validation", 2, MIDDLE)):
        picture(root / "images" / name / "1.jpg", SIZE)
        path = root / "annotations" / f"instances_{name}.json"
        write(path, ["1.jpg"], [polygon(0, digit, points)], {1: "road", 2: "car"})
    found = content(convert("coco", root))
    assert found["lists"] == {"train": ["images_Train_1"], "val": ["images_Validation_1"]}
    assert found["masks"] == {"images_Train_1": mask("110000"), "images_Validation_1": mask("022200")}


@pytest.mark.parametrize(
    "name",
    [
        "images/1a2b3c4d-IMG 1.jpg",
        "images\\1a2b3c4d-IMG 1.jpg",
        "/data/upload/7/1a2b3c4d-IMG 1.jpg",
        "http://localhost:8080/data/upload/7/1a2b3c4d-IMG%201.jpg",
        "/data/local-files/?d=shots/1a2b3c4d-IMG%201.jpg",
        "s3://bucket/shots/1a2b3c4d-IMG%201.jpg",
    ],
)
@pytest.mark.parametrize("uploaded", [True, False])
def test_label_studio(tmp_path, picture, convert, content, name, uploaded):
    """Category 0 is a class; uploads get a mark before their names, which images of one's own lack."""
    root = tmp_path / "project-1"
    stem = "1a2b3c4d-IMG 1" if uploaded else "IMG 1"
    picture(root / ("images" if uploaded else "shots") / f"{stem}.jpg", SIZE)
    write(root / "result.json", [name], [polygon(0, 0, LEFT), polygon(0, 1, MIDDLE)], {0: "cat", 1: "dog"})
    found = content(convert("coco", root))
    image_id = stem if uploaded else f"shots_{stem}"
    assert found["names"] == ["cat", "dog"] and found["masks"] == {image_id: mask("122200")}


def test_labelme2coco(tmp_path, picture, convert, content):
    """_background_ is category 0 and no class; what is drawn of it is background again."""
    root = tmp_path / "labelme"
    picture(root / "JPEGImages" / "a.jpg", SIZE)
    annotations = [polygon(0, 1, MIDDLE), polygon(0, 0, LEFT), polygon(0, 2, [5, 0, 6, 0, 6, 4, 5, 4])]
    categories = {0: "_background_", 1: "cat", 2: "__ignore__"}
    write(root / "annotations.json", ["JPEGImages/a.jpg"], annotations, categories)
    found = content(convert("coco", root))
    assert found["names"] == ["cat"] and found["masks"] == {"a": mask("00110v")} and found["labels"] == {"a": [0]}


def test_a_supercategory_of_its_own_name_is_a_class_though_unused(tmp_path, picture, convert, content):
    """As COCO's person, in a part of COCO that shows nobody."""
    picture(tmp_path / "in" / "a.jpg", SIZE)
    person = {"person": {"supercategory": "person"}, "car": {"supercategory": "vehicle"}}
    write(tmp_path / "in" / "some.json", ["a.jpg"], [polygon(0, 3, LEFT)], {3: "car", 1: "person"}, **person)
    found = content(convert("coco", tmp_path / "in"))
    assert found["names"] == ["person", "car"] and found["masks"] == {"a": mask("220000")}


def test_annotations_and_images_elsewhere_and_the_smallest_on_top(tmp_path, picture, convert, content):
    picture(tmp_path / "shots" / "a.jpg", SIZE)
    annotations = [polygon(0, 1, LEFT), polygon(0, 2, MIDDLE)]
    path = write(tmp_path / "in" / "deep" / "er" / "x.json", ["a.jpg"], annotations, {1: "cat", 2: "dog"})
    more = ["--annotations", str(path), "--images", str(tmp_path / "shots")]
    last = content(convert("coco", tmp_path / "in", *more))
    assert last["masks"] == {"a": mask("122200")}
    top = content(convert("coco", tmp_path / "in", *more, "--on_top=smallest", target="other"))
    assert top["masks"] == {"a": mask("112200")}


def test_an_image_that_two_files_list_gets_the_objects_of_both(tmp_path, picture, convert, content):
    picture(tmp_path / "in" / "a.jpg", SIZE)
    for name, category, points in (("x", 1, LEFT), ("y_val", 2, MIDDLE)):
        write(tmp_path / "in" / f"{name}.json", ["a.jpg"], [polygon(0, category, points)], {1: "cat", 2: "dog"})
    found = content(convert("coco", tmp_path / "in"))
    assert found["masks"] == {"a": mask("122200")} and found["lists"] == {"train": ["a"], "val": ["a"]}


def test_a_name_with_other_folders_than_the_only_file_has_is_missing(tmp_path, picture, convert, content):
    picture(tmp_path / "in" / "seq1" / "0001.jpg", SIZE)
    annotations = [polygon(0, 2, MIDDLE), polygon(1, 1, LEFT)]
    write(tmp_path / "in" / "a.json", ["seq2/0001.jpg", "seq1/0001.jpg"], annotations, {1: "cat", 2: "dog"})
    found = content(convert("coco", tmp_path / "in"))
    assert found["masks"] == {"seq1_0001": mask("110000")} and found["labels"] == {"seq1_0001": [0]}
    assert "images that are not on disk, 1: seq2/0001.jpg" in convert.said


@pytest.mark.parametrize("there", ["train", "valid"])
def test_an_image_of_another_split_is_not_taken_for_one_of_its_name(there, tmp_path, picture, convert, content):
    picture(tmp_path / "in" / there / "1.jpg", SIZE)
    for split, category, points in (("train", 1, LEFT), ("valid", 2, MIDDLE)):
        path = tmp_path / "in" / split / "_annotations.coco.json"
        write(path, ["1.jpg"], [polygon(0, category, points)], {1: "cat", 2: "dog"})
    found = content(convert("coco", tmp_path / "in"))
    assert found["masks"] == {"1": mask("110000" if there == "train" else "022200")}
    assert ("val" in found["lists"]) is (there == "valid") and "not on disk, 1: 1.jpg" in convert.said


@pytest.mark.parametrize(
    "files", [{"a": ["x/1.jpg", "y/1.jpg"]}, {"a": ["1.jpg", "1.jpg"]}, {"a": ["x/1.jpg"], "b": ["y/1.jpg"]}]
)
def test_two_images_that_one_file_may_be_are_not_guessed_at(files, tmp_path, picture, refused):
    picture(tmp_path / "in" / "images" / "1.jpg", SIZE)
    for name, images in files.items():
        annotations = [polygon(number, 1, LEFT) for number in range(len(images))]
        write(tmp_path / "in" / "annotations" / f"{name}.json", images, annotations, {1: "cat"})
    error = refused("coco", tmp_path / "in")
    assert "would be one" in error and "images/1.jpg" in error


def test_an_instances_file_less_makes_the_mask_anew(tmp_path, picture, convert, content):
    picture(tmp_path / "in" / "a.jpg", SIZE)
    for name, category, points in (("x", 1, LEFT), ("y", 2, MIDDLE)):
        write(tmp_path / "in" / f"{name}.json", ["a.jpg"], [polygon(0, category, points)], {1: "cat", 2: "dog"})
    assert content(convert("coco", tmp_path / "in"))["masks"] == {"a": mask("122200")}
    (tmp_path / "in" / "y.json").unlink()
    found = content(convert("coco", tmp_path / "in"))
    assert found["masks"] == {"a": mask("110000")} and found["labels"] == {"a": [0]}


def test_two_spellings_of_a_place_are_one_image(tmp_path, picture, convert, content):
    picture(tmp_path / "in" / "images" / "1.jpg", SIZE)
    for file, name, category, points in (("x", "images/1.jpg", 1, LEFT), ("y_val", "1.jpg", 2, MIDDLE)):
        path = tmp_path / "in" / "annotations" / f"{file}.json"
        write(path, [name], [polygon(0, category, points)], {1: "cat", 2: "dog"})
    found = content(convert("coco", tmp_path / "in"))
    assert found["masks"] == {"1": mask("122200")} and found["lists"] == {"train": ["1"], "val": ["1"]}


@pytest.fixture
def imperfect(tmp_path, picture) -> Path:
    """Good, with a slip of the hand, boxes alone, unannotated, missing, no JPEG or PNG, of an unknown category too, of
    it alone."""
    root = tmp_path / "in"
    for name in ("good.jpg", "slip.jpg", "box.jpg", "empty.jpg", "picture.gif", "odd.jpg", "other.jpg"):
        picture(root / name, SIZE)
    annotations = [
        polygon(0, 1, LEFT),
        polygon(1, 1, LEFT),
        polygon(1, 2, [0, 0, 1, 1]),
        polygon(2, 1, LEFT),
        {"image_id": 2, "category_id": 2, "bbox": [0, 0, 2, 2], "segmentation": []},
        polygon(4, 1, LEFT),
        polygon(5, 1, LEFT),
        polygon(99, 1, LEFT),
        polygon(6, 1, LEFT),
        polygon(6, 7, LEFT),
        polygon(7, 7, LEFT),
    ]
    names = ["good.jpg", "slip.jpg", "box.jpg", "empty.jpg", "picture.gif", "gone.jpg", "odd.jpg", "other.jpg"]
    write(root / "a.json", names, annotations, {1: "cat", 2: "dog"})
    return root


def test_what_cannot_be_used_is_left_out_and_counted(imperfect, convert, content):
    found = content(convert("coco", imperfect))
    assert found["labels"] == {"good": [0], "slip": [0], "box": [0, 1], "odd": [0]}
    # the box's would lack the dog, that of the odd one whatever category 7 is
    assert found["masks"] == {"good": mask("110000"), "slip": mask("110000")}
    assert found["lists"] == {"train_aug": ["good", "slip", "box", "odd"], "train": ["good", "slip"]}
    for expected in (
        "images without a mask, since an object has no usable outline, or none of the classes, 2: box, …",
        "polygons of fewer than 3 points, 1: dog in slip.jpg",
        "images without an annotation (--all_images keeps them), 1: empty.jpg",
        "images with objects of unknown categories alone, 1: other.jpg",
        "images that are not on disk, 1: gone.jpg",
        "files that are no JPEG, PNG, TIFF or BMP, 1: picture.gif",
        "annotations of images that are not listed, 1: image_id 99",
        "annotations of unknown categories, 2: category_id 7 in odd.jpg, category_id 7 in other.jpg",
    ):
        assert expected in convert.said


def test_all_images(imperfect, convert, content):
    found = content(convert("coco", imperfect, "--all_images"))
    assert found["labels"]["empty"] == [] and found["masks"]["empty"] == mask("000000")
    assert "other" not in found["labels"]  # something is there, and unknown


def test_an_image_that_is_unknown_to_one_of_two_files_gets_labels_and_no_mask(tmp_path, picture, convert, content):
    for name in ("a.jpg", "b.jpg"):
        picture(tmp_path / "in" / name, SIZE)
    write(tmp_path / "in" / "a.json", ["a.jpg", "b.jpg"], [polygon(0, 7, LEFT), polygon(1, 1, LEFT)], {1: "cat"})
    write(tmp_path / "in" / "b.json", ["a.jpg"], [polygon(0, 1, LEFT)], {1: "cat"})
    found = content(convert("coco", tmp_path / "in"))
    assert found["labels"] == {"a": [0], "b": [0]} and [*found["masks"]] == ["b"]


def test_boxes_alone_give_labels_and_no_masks(tmp_path, picture, convert, content):
    picture(tmp_path / "in" / "a.jpg", SIZE)
    write(tmp_path / "in" / "a.json", ["a.jpg"], [{"image_id": 0, "category_id": 1, "bbox": [0, 0, 1, 1]}], {1: "cat"})
    found = content(convert("coco", tmp_path / "in"))
    assert found["labels"] == {"a": [0]} and found["masks"] == {}
    assert found["settings"]["eval_sem_seg_pass"] is False and "labels, but no masks" in convert.said


def test_the_size_is_that_of_the_image_where_the_file_does_not_say(tmp_path, picture, convert, content, refused):
    path = write(tmp_path / "in" / "a.json", ["a.jpg"], [polygon(0, 1, LEFT)], {1: "cat"})
    picture(tmp_path / "in" / "a.jpg", SIZE)
    said = json.loads(path.read_text())
    del said["images"][0]["height"]
    path.write_text(json.dumps(said))
    assert content(convert("coco", tmp_path / "in"))["masks"] == {"a": mask("110000")}
    said["images"][0] |= {"height": 8, "width": 12}
    path.write_text(json.dumps(said))
    error = refused("coco", tmp_path / "in", target="other")
    assert "8×12" in error and "4×6" in error and "a.jpg" in error


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({1: ""}, "a.json: the category with the id 1 has no name"),
        ({1: "dog"}, "category 1 is 'cat', but 'dog' in another file"),
        ({2: "cat"}, "'cat' is category 1 in one file and 2 in another"),
    ],
)
def test_categories_that_are_no_use(tmp_path, picture, refused, change, expected):
    for name, categories in (("a", change), ("b", {1: "cat"})):
        picture(tmp_path / "in" / f"{name}.jpg", SIZE)
        write(tmp_path / "in" / f"{name}.json", [f"{name}.jpg"], [polygon(0, min(categories), LEFT)], categories)
    assert expected in refused("coco", tmp_path / "in")


def test_a_file_as_source(tmp_path, capsys):
    path = write(tmp_path / "in" / "a.json", ["a.jpg"], [polygon(0, 1, LEFT)], {1: "cat"})
    assert main(["coco", str(path), str(tmp_path / "target")]) == 2
    assert "give its folder, and --annotations a.json" in capsys.readouterr().err


def test_coordinates_that_are_no_pixels(tmp_path, picture, refused):
    picture(tmp_path / "in" / "a.jpg", SIZE)
    write(tmp_path / "in" / "a.json", ["a.jpg"], [polygon(0, 1, [0, 0, 0.5, 0, 0.5, 1])], {1: "cat"})
    assert "a.json: coordinates lie between 0 and 1" in refused("coco", tmp_path / "in")


def test_no_instances_file(tmp_path, picture, refused):
    picture(tmp_path / "in" / "a.jpg", SIZE)
    assert "say --annotations" in refused("coco", tmp_path / "in")
    (tmp_path / "in" / "shapes.json").write_text('{"shapes": []}')
    assert "shapes.json: is no COCO instances file" in refused("coco", tmp_path / "in")


def test_two_images_of_a_name_are_not_guessed_at(tmp_path, picture, refused):
    for folder in ("x", "y"):
        picture(tmp_path / "in" / folder / "a.jpg", SIZE)
    write(tmp_path / "in" / "a.json", ["a.jpg"], [polygon(0, 1, LEFT)], {1: "cat"})
    error = refused("coco", tmp_path / "in")
    assert "x/a.jpg or" in error and "y/a.jpg" in error


def test_the_image_whose_folders_fit_best(tmp_path, picture):
    for folder in ("x/b", "y/b", "y/c"):
        picture(tmp_path / folder / "a.jpg", SIZE)
    (tmp_path / "y" / "round").symlink_to(tmp_path)  # a circle of links
    folder = ImageFolder(tmp_path)
    for name in ("y/b/a.jpg", "C:\\shots\\y\\b\\a.jpg"):
        assert folder.find(name, beside=tmp_path / "i.json", set_name="train") == tmp_path / "y" / "b" / "a.jpg"
    assert folder.find("a.jpg", beside=tmp_path / "x" / "i.json", set_name="train") == tmp_path / "x" / "b" / "a.jpg"
    assert folder.find("b.jpg", beside=tmp_path / "i.json", set_name="train") is None


@pytest.mark.parametrize("name", ["a?d=", "http://[x/a.jpg"])
def test_what_looks_like_an_address_and_is_none_is_a_name(name):
    assert plain_name(name) == name


def test_a_percent_sign_is_decoded_in_addresses_only():
    assert plain_name("50%20off.jpg") == "50%20off.jpg"
    assert plain_name("https://host/a%20b.jpg?x=1") == "/a b.jpg"
