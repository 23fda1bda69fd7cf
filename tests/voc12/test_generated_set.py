"""The generated set: files, formats and the promises of its docstrings."""

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

import voc12
from misc.errors import InputError
from misc.formats.palette import voc_palette
from voc12.generated_set import KINDS, MIN_VISIBLE, VOC_CLASSES, generate, make_sample

SIDE = 64
TRAIN_IDS = [f"demo_{i:05d}" for i in range(6)]
VAL_IDS = ["demo_00006", "demo_00007"]
IDS = TRAIN_IDS + VAL_IDS


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("generated")
    generate(path, seed=3, train_images=len(TRAIN_IDS), val_images=len(VAL_IDS), side=SIDE)
    return path


def read(path: Path) -> Image.Image:
    with Image.open(path) as image:
        image.load()
    return image


def tree(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def read_mask(root: Path, image_id: str) -> np.ndarray:
    return np.asarray(read(root / "SegmentationClass" / f"{image_id}.png"))


def xml_objects(root: Path, image_id: str) -> list[ElementTree.Element]:
    return ElementTree.parse(root / "Annotations" / f"{image_id}.xml").findall("object")


def xml_numbers(root: Path, image_id: str) -> set[int]:
    return {VOC_CLASSES.index(node.findtext("name", "")) + 1 for node in xml_objects(root, image_id)}


def test_class_numbers_are_those_of_voc() -> None:
    assert list(VOC_CLASSES) == Path(voc12.__file__).with_name("class_names.txt").read_text().split()


def test_lists_split_the_set(root: Path) -> None:
    lists = {path.name: path.read_text() for path in (root / "ImageSets" / "Segmentation").iterdir()}
    expected = {"train.txt": TRAIN_IDS, "val.txt": VAL_IDS, "trainval.txt": IDS}
    assert lists == {name: "\n".join(ids) + "\n" for name, ids in expected.items()}


def test_the_tree_holds_four_files_an_image_and_nothing_temporary(root: Path) -> None:
    places = ("JPEGImages/{}.jpg", "SegmentationClass/{}.png", "Sal/{}.png", "Annotations/{}.xml")
    lists = {f"ImageSets/Segmentation/{name}.txt" for name in ("train", "val", "trainval")}
    assert set(tree(root)) == {place.format(image_id) for place in places for image_id in IDS} | lists


@pytest.mark.parametrize("image_id", IDS)
def test_images_have_the_voc_formats_and_one_size(root: Path, image_id: str) -> None:
    image = read(root / "JPEGImages" / f"{image_id}.jpg")
    mask = read(root / "SegmentationClass" / f"{image_id}.png")
    saliency = read(root / "Sal" / f"{image_id}.png")
    assert (image.format, image.mode) == ("JPEG", "RGB")
    assert (mask.format, mask.mode) == ("PNG", "P")
    assert (saliency.format, saliency.mode) == ("PNG", "L")
    assert image.size == mask.size == saliency.size
    assert all(51 <= n <= 70 for n in image.size)  # 0.8 and 1.1 times 64
    colours = np.asarray(mask.convert("RGB")).reshape(-1, 3)
    assert (colours == np.reshape(voc_palette(), (256, 3))[np.asarray(mask).ravel()]).all()


def test_sizes_differ(root: Path) -> None:
    assert len({read(path).size for path in (root / "JPEGImages").iterdir()}) > 1


@pytest.mark.parametrize("image_id", IDS)
def test_annotation_names_what_the_mask_shows(root: Path, image_id: str) -> None:
    mask = read_mask(root, image_id)
    numbers = xml_numbers(root, image_id)
    assert set(np.unique(mask).tolist()) == numbers | {0, 255}
    assert all((mask == number).sum() >= MIN_VISIBLE * mask.size for number in numbers)
    annotation = ElementTree.parse(root / "Annotations" / f"{image_id}.xml")
    assert annotation.findtext("filename") == f"{image_id}.jpg"
    size = [annotation.findtext(f"size/{tag}") for tag in ("height", "width", "depth")]
    assert size == [str(mask.shape[0]), str(mask.shape[1]), "3"]


@pytest.mark.parametrize("image_id", IDS)
def test_boxes_hold_every_object_pixel_and_are_tight(root: Path, image_id: str) -> None:
    mask = read_mask(root, image_id)
    outside = mask > 0
    for node in xml_objects(root, image_id):
        xmin, ymin, xmax, ymax = (int(node.findtext(f"bndbox/{tag}", "")) for tag in ("xmin", "ymin", "xmax", "ymax"))
        box = np.s_[ymin - 1 : ymax, xmin - 1 : xmax]
        assert 1 <= xmin < xmax <= mask.shape[1] and 1 <= ymin < ymax <= mask.shape[0]
        assert all(edge.any() for edge in (mask[box][0], mask[box][-1], mask[box][:, 0], mask[box][:, -1]))
        outside[box] = False
    # The rim's outer pixels lie on the background, one beyond the box; everything of a class lies within.
    assert not (outside & (mask != 255)).any()


@pytest.mark.parametrize("image_id", IDS)
def test_a_thin_void_rim_parts_objects_from_background_and_each_other(root: Path, image_id: str) -> None:
    mask = read_mask(root, image_id)
    below, right = (mask[1:], mask[:-1]), (mask[:, 1:], mask[:, :-1])
    diagonals = (mask[1:, 1:], mask[:-1, :-1]), (mask[1:, :-1], mask[:-1, 1:])
    for a, b in (below, right, *diagonals):
        assert ((a == b) | (a == 255) | (b == 255)).all()
    # Thin: void is the smaller part of what is not background.
    assert (mask == 255).sum() < ((mask > 0) & (mask < 255)).sum()


def test_saliency_is_soft_and_exactly_zero_far_from_objects(root: Path) -> None:
    maps = [np.asarray(read(path)) for path in sorted((root / "Sal").iterdir())]
    assert all(saliency.max() > 0 for saliency in maps)
    zeros = np.concatenate([(saliency == 0).ravel() for saliency in maps])
    assert 0.3 < zeros.mean() < 0.95
    soft = sum(len(np.unique(saliency)) for saliency in maps) / len(maps)
    assert soft > 20  # a hard mask would have two values


def test_saliency_covers_objects_more_than_background(root: Path) -> None:
    saliency = np.concatenate([np.asarray(read(root / "Sal" / f"{i}.png")).ravel() for i in IDS])
    mask = np.concatenate([read_mask(root, i).ravel() for i in IDS])
    assert saliency[(mask > 0) & (mask < 255)].mean() > 3 * saliency[mask == 0].mean()


def test_promises_hold_in_many_images() -> None:
    """Also with three objects in one another's way, and where the detector missed the only one."""
    for sample in (make_sample(0, index, SIDE) for index in range(80)):
        assert 1 <= len(sample.objects) <= 3
        numbers = [VOC_CLASSES.index(name) + 1 for name, _ in sample.objects]
        assert set(np.unique(sample.mask).tolist()) == {0, 255, *numbers}
        for number in numbers:
            assert (sample.mask == number).sum() >= numbers.count(number) * MIN_VISIBLE * sample.mask.size
        assert sample.saliency.any()


def test_image_shows_the_objects(root: Path) -> None:
    """The silhouette's seam is an edge: colours change more across the rim than within the background."""
    for image_id in IDS:
        grey = np.asarray(read(root / "JPEGImages" / f"{image_id}.jpg").convert("L"), float)
        change = np.hypot(*np.gradient(grey))
        mask = read_mask(root, image_id)
        assert change[mask == 255].mean() > 2 * change[mask == 0].mean()


def test_a_seed_is_the_same_bytes_and_another_is_not(root: Path, tmp_path: Path) -> None:
    generate(tmp_path / "same", seed=3, train_images=len(TRAIN_IDS), val_images=len(VAL_IDS), side=SIDE)
    generate(tmp_path / "other", seed=4, train_images=len(TRAIN_IDS), val_images=len(VAL_IDS), side=SIDE)
    first, same, other = tree(root), tree(tmp_path / "same"), tree(tmp_path / "other")
    assert same == first
    assert other.keys() == first.keys()
    assert all(other[name] != first[name] for name in first if name.startswith("JPEGImages"))


def test_an_image_does_not_depend_on_how_many_there_are(root: Path, tmp_path: Path) -> None:
    generate(tmp_path, seed=3, train_images=2, val_images=1, side=SIDE)
    few, many = tree(tmp_path), tree(root)
    images = [name for name in few if not name.startswith("ImageSets")]
    assert len(images) == 4 * 3
    assert all(few[name] == many[name] for name in images)


def test_generating_again_replaces_the_files(tmp_path: Path) -> None:
    image = tmp_path / "JPEGImages" / "demo_00000.jpg"
    image.parent.mkdir()
    image.write_bytes(b"half a file")
    generate(tmp_path, seed=3, train_images=1, val_images=1, side=SIDE)
    assert read(image).mode == "RGB"


def test_a_small_set_holds_every_class_and_images_of_several() -> None:
    names = [{name for name, _ in make_sample(1, index, SIDE).objects} for index in range(2 * len(KINDS))]
    assert set().union(*names) == {kind.name for kind in KINDS} <= set(VOC_CLASSES)
    assert len(KINDS) >= 5
    assert {len(classes) for classes in names} >= {1, 2}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"side": 63}, "side = 63"),
        ({"side": 64, "train_images": 0}, "train_images = 0"),
        ({"side": 64, "val_images": 0}, "val_images = 0"),
    ],
)
def test_misuse_is_refused_before_anything_is_written(tmp_path: Path, arguments: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        generate(tmp_path, seed=0, **arguments)
    assert not any(tmp_path.iterdir())
