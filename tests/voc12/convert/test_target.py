"""What holds for every format: links, interruption, lists, settings, refusals."""

import json
import os
import signal
import subprocess
import sys
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from misc.errors import InputError
from misc.formats.images import image_size
from misc.run.preflight import Preflight
from tests.conftest import PROJECT
from tests.voc12.convert.conftest import tree
from voc12.convert.__main__ import FORMATS, _parser, main
from voc12.convert.own_files import LEDGER, OwnFiles
from voc12.convert.source import (
    Found,
    SourceImage,
    flat_id,
    images_in,
    refuse_collisions,
    refuse_overlap,
    stored_size,
)
from voc12.convert.target import Target

MASKS = {
    "a1": [[0, 1, 1], [255, 0, 0]],
    "a2": [[0, 0, 2], [0, 0, 2]],
    "a3": [[0, 0, 0], [0, 0, 0]],
}


@pytest.fixture
def source(tmp_path, picture) -> Path:
    """Three images with masks as labelme2voc writes them."""
    folder = tmp_path / "source"
    (folder / "SegmentationClass").mkdir(parents=True)
    for image_id, mask in MASKS.items():
        picture(folder / "JPEGImages" / f"{image_id}.jpg", (2, 3))
        Image.fromarray(np.array(mask, np.uint8)).save(folder / "SegmentationClass" / f"{image_id}.png")
    (folder / "class_names.txt").write_text("_background_\nball\negg\n")
    return folder


@pytest.fixture
def written(tmp_path):
    """written(images): the settings' text and lists of a target with these images and the classes ball and egg."""

    def write(images: list[SourceImage], left_out=None, names=("ball", "egg")) -> tuple[Path, str]:
        target = tmp_path / "target"
        said = Target(target).write(
            Found(list(names), images, left_out or {}), record={"source": "somewhere"}, workers=0
        )
        return target, said

    return write


@pytest.fixture
def image(tmp_path, picture):
    """image("a", mask=[[1]], …): an image of the source, of the mask's size."""

    def make(image_id: str, *, mask=None, size=(1, 1), **more) -> SourceImage:
        path = picture(tmp_path / "images" / f"{image_id}.png", size)
        drawn = None if mask is None else (lambda: np.array(mask, np.uint8))
        return SourceImage(image_id, path, drawn, **more)

    return make


def test_images_are_links_and_masks_are_palette_files(source, convert, content):
    target = convert("labelme", source)
    found = content(target)
    assert found["masks"] == MASKS
    assert found["labels"] == {"a1": [0], "a2": [1], "a3": []}
    for image_id in MASKS:
        link = target / "JPEGImages" / f"{image_id}.jpg"
        assert link.is_symlink() and link.samefile(source / "JPEGImages" / f"{image_id}.jpg")
    assert "3 images" in convert.said and "ball 1, egg 1" in convert.said
    assert "images without a class, 1: a3" in convert.said and "links to those of SOURCE" in convert.said


def test_copies_where_asked_for_or_where_links_fail(source, convert, monkeypatch):
    def no_links(*_args, **_more):
        raise OSError("no links here")

    copied = convert("labelme", source, "--copy", target="copied")
    monkeypatch.setattr(Path, "symlink_to", no_links)
    fallen_back = convert("labelme", source, target="fallen_back")
    original = (source / "JPEGImages" / "a1.jpg").read_bytes()
    for target in (copied, fallen_back):
        path = target / "JPEGImages" / "a1.jpg"
        assert not path.is_symlink() and path.read_bytes() == original
    before = tree(copied / "JPEGImages")
    convert("labelme", source, "--copy", target="copied")
    assert tree(copied / "JPEGImages") == before


def test_again_keeps_what_is_finished_and_renews_what_changed(source, convert, content):
    target = convert("labelme", source)
    before = {**tree(target / "SegmentationClass"), **tree(target / "JPEGImages")}
    convert("labelme", source)
    assert {**tree(target / "SegmentationClass"), **tree(target / "JPEGImages")} == before

    (target / "SegmentationClass" / "a3.png").write_bytes(b"damaged")
    changed = source / "SegmentationClass" / "a1.png"
    Image.fromarray(np.array([[2, 2, 2], [0, 0, 0]], np.uint8)).save(changed)
    (source / "JPEGImages" / "a2.jpg").unlink()
    Image.new("RGB", (3, 2)).save(source / "JPEGImages" / "a2.png")
    found = content(convert("labelme", source))
    assert found["masks"] == MASKS | {"a1": [[2, 2, 2], [0, 0, 0]]}
    assert found["labels"]["a1"] == [1]
    assert [path.name for path in sorted((target / "JPEGImages").iterdir())] == ["a1.jpg", "a2.png", "a3.jpg"]


@pytest.mark.parametrize("is_link", [False, True])
def test_masks_in_the_place_of_others_are_made_anew_although_they_are_older(is_link, source, convert, content):
    """A folder's new name leaves the times of its files as they are."""
    folder, others = source / "SegmentationClass", source / "v2"
    others.mkdir()
    for image_id in MASKS:
        Image.fromarray(np.full((2, 3), 2, np.uint8)).save(others / f"{image_id}.png")
    if is_link:
        folder.rename(source / "v1")
        folder.symlink_to("v1")
    target = convert("labelme", source)
    if is_link:
        folder.unlink()
        folder.symlink_to("v2")
    else:
        folder.rename(source / "v1")
        others.rename(folder)
    found = content(convert("labelme", source))
    assert found["masks"] == dict.fromkeys(MASKS, [[2, 2, 2]] * 2) and {*map(tuple, found["labels"].values())} == {(1,)}
    assert target.is_dir()


def test_a_copy_of_another_image_of_the_same_size_is_made_anew(source, convert):
    for name, grey in (("JPEGImages", 1), ("other", 2)):
        (source / name).mkdir(exist_ok=True)
        for image_id in MASKS:
            (source / name / f"{image_id}.jpg").unlink(missing_ok=True)
            Image.new("L", (3, 2), grey).save(source / name / f"{image_id}.bmp")
    convert("labelme", source, "--copy")
    (source / "JPEGImages").rename(source / "before")
    (source / "other").rename(source / "JPEGImages")
    target = convert("labelme", source, "--copy")
    assert Image.open(target / "JPEGImages" / "a1.bmp").getpixel((0, 0)) == 2


@pytest.mark.parametrize("more", [[], ["--overwrite"]])
def test_what_the_user_added_or_changed_in_the_target_is_kept(more, source, convert, picture):
    target = convert("labelme", source)
    lists = target / "ImageSets" / "Segmentation"
    (target / "set.yaml").write_text("mine: 1\n")
    (lists / "train.txt").write_text("a1\n")
    (lists / "of_mine.txt").write_text("a2\n")
    picture(target / "JPEGImages" / "of_mine.jpg", (1, 1))
    convert("labelme", source, *more)
    assert "set.yaml.bak" in convert.said and "train.txt.bak" in convert.said
    assert (target / "set.yaml.bak").read_text() == "mine: 1\n" and (lists / "train.txt.bak").read_text() == "a1\n"
    assert (lists / "of_mine.txt").read_text() == "a2\n" and (target / "JPEGImages" / "of_mine.jpg").is_file()
    assert "mine" not in (target / "set.yaml").read_text() and (lists / "train.txt").read_text() == "a1\na2\na3\n"
    convert("labelme", source, *more)
    assert ".bak" not in convert.said and (target / "set.yaml.bak").read_text() == "mine: 1\n"


def test_an_image_of_the_users_is_not_taken_for_that_of_the_source(source, convert, refused, picture):
    target = convert("labelme", source)
    picture(target / "JPEGImages" / "a1.png", (1, 1))
    assert "a1.png is there, and" in refused("labelme", source)


def test_what_the_source_has_no_more_is_removed(image, written, content):
    written([image("a", mask=[[1]]), image("b", mask=[[1]], sets=("val",))])
    target, _ = written([image("a", mask=[[1]])])
    assert content(target)["lists"] == {"train": ["a"]} and set(content(target)["masks"]) == {"a"}
    assert [path.name for path in (target / "JPEGImages").iterdir()] == ["a.png"]


def test_a_conversion_ends_where_another_one_begins(image, written, content):
    """The mask of a, drawn when the other one has finished, does not get in its place."""
    first = image("a", mask=[[1]])

    def draw() -> np.ndarray:
        written([image("a", mask=[[2]])])
        return np.array([[1]], np.uint8)

    with pytest.raises(InputError, match="another conversion has begun"):
        written([replace(first, mask=draw)])
    assert content(first.path.parent.parent / "target")["masks"] == {"a": [[2]]}


def test_the_ledger_of_a_crash_is_read(tmp_path):
    with OwnFiles(tmp_path) as own:
        own.note("a", "1")
        own.note("b", "2")
    with (tmp_path / LEDGER).open("ab") as file:
        file.write(b'["c", \0\xff\n7\n["d", ')
    with OwnFiles(tmp_path) as own:
        assert own.holds("a", "1") and own.holds("b", "2") and not own.holds("b", "1") and not own.knows("c")


@pytest.mark.parametrize("writes", range(13))
def test_killed_in_the_middle_it_goes_on_to_the_same_files(source, convert, writes, monkeypatch):
    whole = convert("labelme", source, target="whole")
    killed = whole.with_name("killed")
    child = os.fork()
    if child == 0:
        replace, left = os.replace, [writes]

        def last(*names):
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)
            left[0] -= 1
            replace(*names)

        monkeypatch.setattr(os, "replace", last)
        main(["labelme", str(source), str(killed), "--num_workers=0"])
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert list(killed.rglob(".*.tmp")) and not (killed / "set.yaml").exists()
    convert("labelme", source, target="killed")

    def files(root: Path) -> dict[str, bytes]:
        paths = [path for path in root.rglob("*") if path.is_file() and path.name != LEDGER]
        return {str(p.relative_to(root)): p.read_bytes().replace(bytes(root), b"ROOT") for p in paths}

    assert files(killed) == files(whole)
    ledgers = [(root / LEDGER).read_text().splitlines() for root in (killed, whole)]
    for ledger in ledgers:
        assert {json.loads(line)[0] for line in ledger} == {*files(whole)} - {"conversion.json"}


def test_workers_change_nothing(source, convert):
    alone, together = (
        convert("labelme", source, f"--num_workers={workers}", "--copy", target=str(workers)) for workers in (0, 3)
    )
    for path in (*alone.glob("*/*.*"), alone / "cls_labels.csv"):
        assert (together / path.relative_to(alone)).read_bytes() == path.read_bytes()


def test_another_conversion_is_refused_until_it_may_be_overwritten(source, convert, refused, content, tmp_path):
    convert("labelme", source)
    (source / "class_names.txt").write_text("_background_\negg\nball\n")
    assert "--overwrite" in refused("labelme", source, is_finished=True)
    (source / "JPEGImages" / "a3.jpg").unlink()
    found = content(convert("labelme", source, "--overwrite"))
    assert found["labels"] == {"a1": [0], "a2": [1]} and found["names"] == ["egg", "ball"]
    assert set(found["masks"]) == {"a1", "a2"}


def test_what_a_refused_command_left_is_made_anew(source, refused, convert, content):
    (source / "class_names.txt").write_text("_background_\nball\n")
    assert "a2.png: holds the number 2" in refused("labelme", source)
    (source / "class_names.txt").write_text("_background_\negg\nball\n")
    assert content(convert("labelme", source))["labels"] == {"a1": [0], "a2": [1], "a3": []}


def test_masks_that_show_no_class_at_all_are_refused(image, written):
    with pytest.raises(InputError, match=r"none of 2 images shows a class.*--binary"):
        written([image("a", mask=[[0]]), image("b", mask=[[255]])])


def test_a_folder_of_something_else_is_left_alone(source, refused, tmp_path):
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "thesis.tex").write_text("mine")
    for more in ([], ["--overwrite"]):
        assert "new or empty" in refused("labelme", source, *more)
    assert [path.name for path in (tmp_path / "target").iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("folder", ["JPEGImages", "SegmentationClass", "ImageSets"])
@pytest.mark.parametrize("more", [[], ["--overwrite"]])
def test_a_folder_of_the_target_that_is_a_link_is_not_written_through(folder, more, source, convert, refused):
    (source / "ImageSets" / "Segmentation").mkdir(parents=True)
    target = convert("labelme", source)
    (target / folder).rename(target / "before")
    (target / folder).symlink_to(source / folder)
    assert f"{folder}" in (error := refused("labelme", source, *more, is_finished=True)) and "by a link" in error


def test_target_and_source_do_not_overlap(tmp_path):
    source = tmp_path / "set" / "source"
    source.mkdir(parents=True)
    (tmp_path / "link").symlink_to(source)
    for target in (source, source / "inside", tmp_path / "link" / "inside", tmp_path / "set"):
        with pytest.raises(InputError, match="TARGET"):
            refuse_overlap(source, target)
    with pytest.raises(InputError, match="SOURCE"):
        refuse_overlap(tmp_path / "nowhere", tmp_path / "target")
    refuse_overlap(source, tmp_path / "set" / "source2")


def test_two_images_of_one_id_are_refused(image, written):
    with pytest.raises(InputError, match="K\u00fc"):
        written([image("K\u00fc", mask=[[1]]), image("Ku\u0308", mask=[[1]])])  # two spellings of ü


def test_a_packed_source_is_to_be_unpacked(tmp_path, capsys):
    (tmp_path / "task.zip").touch()
    assert main(["cvat", str(tmp_path / "task.zip"), str(tmp_path / "target")]) == 2
    assert "unpack it" in capsys.readouterr().err


def test_all_images_are_looked_at_before_it_is_refused(image, written, tmp_path):
    images = [image("a", mask=[[3]]), image("b", mask=[[1, 1]]), image("c", mask=[[2]])]
    with pytest.raises(InputError, match=r"a\.png: holds the number 3, expected 0 to 2 and 255.*1 more of 3 images"):
        written(images)
    assert not (tmp_path / "target" / "set.yaml").exists()


@pytest.mark.parametrize(
    ("sets", "lists"),
    [
        ([("train",), ("train",), ("val",)], {"train": ["a", "b"], "val": ["c"]}),
        ([("default",), ("default",), ("test",)], {"train": ["a", "b"], "default": ["a", "b"], "test": ["c"]}),
        ([("val",), (), ("train", "trainval")], {"train": ["c"], "trainval": ["c"], "val": ["a"]}),
        ([("test",), ("test",), ("test",)], {"train": ["a", "b", "c"], "test": ["a", "b", "c"]}),
    ],
)
def test_lists(sets, lists, image, written, content):
    images = [image(name, mask=[[1]], sets=named) for name, named in zip("abc", sets, strict=True)]
    target, said = written(images)
    found = content(target)
    assert found["lists"] == lists
    validation = "val" if "val" in lists else "train"
    assert found["settings"]["val_list"] == str(target / f"ImageSets/Segmentation/{validation}.txt")
    assert ("no validation list" in said) is (validation == "train")
    trained = [image_id for image_id, named in zip("abc", sets, strict=True) if "train" in named]
    assert ("no training list" in said) is not bool(trained)
    assert ("figures on these say nothing" in said) is (lists["train"] == lists.get("test"))


def test_classes_without_masks_switch_the_evaluations_off(image, written, content):
    target, _ = written([image("a", classes=(1, 0)), image("b", classes=())])
    found = content(target)
    assert found["labels"] == {"a": [0, 1], "b": []}
    assert found["settings"]["eval_cam_pass"] is False and found["settings"]["eval_sem_seg_pass"] is False


def test_masks_of_some_images_make_a_train_list_beside_train_aug(image, written, content):
    target, _ = written([image("a", classes=(1,)), image("b", mask=[[1]]), image("c", mask=[[2]], classes=(0, 1))])
    found = content(target)
    assert found["lists"] == {"train_aug": ["a", "b", "c"], "train": ["b", "c"]}
    assert found["labels"] == {"a": [1], "b": [0], "c": [0, 1]}  # classes that are given count, not the mask's
    assert found["settings"]["train_aug_list"].endswith("train_aug.txt") and "eval_cam_pass" not in found["settings"]


def test_a_small_set_gets_batches_of_its_size_and_passes_the_preflight(source, convert, content):
    from misc.config import read_config
    from step.shared.data import DataSet
    from step.shared.inputs import GroundTruth, ImageList, Images, Labels, Training

    target = convert("labelme", source)
    settings = content(target)["settings"]
    assert {settings[f"{name}_batch_size"] for name in ("cam", "bes", "deeplab")} == {3}
    assert settings["deeplab_iter_size"] == 1
    args = read_config(["--voc12_root", str(target), "--config", str(target / "set.yaml")])
    data, images = DataSet(args), ImageList(args.train_aug_list)
    preflight = Preflight()
    inputs = [images, Images(data, images.ids), Labels(data, images.ids), GroundTruth(args, data)]
    trainings = [
        Training("cam_batch_size", args.cam_batch_size, images.ids, tensorboard=False),
        Training("deeplab_batch_size", args.deeplab_batch_size, images.ids, False, args.deeplab_iter_size),
    ]
    for each in [*inputs, *trainings]:
        each.look(preflight)
    assert preflight.problems == []


def test_class_names_with_semicolons_get_labels_as_text(image, written, content):
    target, _ = written([image("a", mask=[[2]])], names=("ball", "egg; boiled"))
    assert content(target)["labels"] == {"a": [1]}


@pytest.mark.parametrize("name", ["Bus, Truck", "[other]", "<unk>", "{1}"])
def test_names_that_look_like_a_table_are_names_where_a_source_gives_them(name, image, written, content):
    target, _ = written([image("a", mask=[[1]])], names=(name,))
    assert content(target)["names"] == [name]


def test_a_class_name_of_half_a_character_is_told(image, written):
    with pytest.raises(InputError, match=r"'cat\\ud83d' has half a character"):
        written([image("a", mask=[[1]])], names=("cat\ud83d",))


def test_a_source_whose_name_is_not_utf8(source, convert):
    source = source.rename(source.with_name("caf\udce9"))
    for _ in range(2):
        assert (convert("labelme", source) / "JPEGImages" / "a1.jpg").is_file()


def test_a_size_that_cannot_be_is_told_before_a_mask_is_drawn(image, written):
    given = image("a", size=(1, 1))

    def draw() -> np.ndarray:
        raise AssertionError("drawn")

    with pytest.raises(InputError, match=r"a\.png is 90000×80000 pixels .*, expected 1×1"):
        written([replace(given, mask=draw, size=(90_000, 80_000))])


def test_what_was_left_out_is_said(image, written):
    _, said = written([image("a", mask=[[1]])], {"files that are no JPEG": ["caf\udce9.webp"]})
    assert "caf\\udce9.webp" in said
    _, said = written([image("a", mask=[[1]])], {"images without a mask": [f"b{n}.jpg" for n in range(7)]})
    assert "images without a mask, 7: b0.jpg, b1.jpg, b2.jpg, b3.jpg, b4.jpg, …" in said
    with pytest.raises(InputError, match=r"no image to convert \(images without a mask, 1: b\.jpg\)"):
        written([], {"images without a mask": ["b.jpg"]})


def test_masks_are_of_the_image_as_shown(tmp_path, picture):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = picture(tmp_path / "images" / "turned.jpg", (2, 3), exif=exif)
    assert stored_size(path) == (2, 3) and image_size(path) == (3, 2)

    def target_of(mask: np.ndarray) -> str:
        image = SourceImage("turned", path, lambda: mask.astype(np.uint8))
        return Target(tmp_path / "target").write(Found(["ball"], [image]), record={"source": "x"}, workers=0)

    assert "1 images" in target_of(np.ones((3, 2)))
    with pytest.raises(InputError, match=r"turned\.jpg.*2×3.*expected 3×2, as its EXIF orientation shows it"):
        (tmp_path / "target" / "SegmentationClass" / "turned.png").unlink()
        target_of(np.ones((2, 3)))


def test_ids(tmp_path, picture):
    assert flat_id("batch1/a 1") == flat_id("batch1\\a 1") == "batch1_a 1"
    outside = ("..", "../a", "b/../../a", "/a", "C:\\a", "..\\a")
    for name in ("", "a\n", " a", "a\u2028b", "x" * 241, "/", "a.jpg", "caf\udce9", "\ud83d", *outside):
        with pytest.raises(InputError, match="ID"):
            flat_id(name)
    refuse_collisions(["batch1/a", "batch2/a"])
    with pytest.raises(InputError, match="'batch/1_a' and 'batch_1/a' would both become the ID 'batch_1_a'"):
        refuse_collisions(["batch/1_a", "batch_1/a"])
    picture(tmp_path / "a.jpg", (1, 1))
    (tmp_path / "a.txt").touch()
    assert images_in(tmp_path) == ({"a": tmp_path / "a.jpg"}, ["a.txt"])
    picture(tmp_path / "a.PNG", (1, 1), format="PNG")
    with pytest.raises(InputError, match=r"a\.PNG and a\.jpg have one ID"):
        images_in(tmp_path)


def test_help_names_the_formats_and_needs_no_torch():
    script = (
        "import sys, runpy\nsys.argv = ['x', *sys.argv[1:], '--help']\n"
        "try: runpy.run_module('voc12.convert', run_name='__main__')\n"
        "finally: assert 'torch' not in sys.modules"
    )
    for given in ([], ["labelme"]):
        done = subprocess.run([sys.executable, "-c", script, *given], capture_output=True, text=True, cwd=PROJECT)
        assert done.returncode == 0 and "labelme" in done.stdout, done.stderr


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["labelme"], ["labelme", "x", "y", "--num_workers=-1"]])
def test_a_command_line_that_will_not_do(arguments, capsys):
    assert main(arguments) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_ids_that_a_list_would_not_keep_are_refused(image, written):
    with pytest.raises(InputError, match=r"such as 'a  1', would be read otherwise"):
        written([image("a  1", mask=[[1]]), image("b  0", mask=[[1]])])  # as in ImageSets/Main of VOC's devkit
    written([image("a  1", mask=[[1]]), image("b", mask=[[1]])])


def test_every_format_reads_nothing_of_its_own_making(tmp_path):
    """An empty folder is refused by every format, in one line."""
    for name in FORMATS:
        options: Namespace = _parser().parse_args([name, str(tmp_path), "x"])
        with pytest.raises(InputError):
            FORMATS[name].read(tmp_path, options)
