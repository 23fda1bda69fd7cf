"""python -m voc12.make_cls_labels: one label file from XML annotations or from masks."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import PROJECT
from voc12.image_labels import ImageLabels
from voc12.image_set import VOCRoot, read_list
from voc12.make_cls_labels import main

NAMES = ["Tasse", "Löffel", "tea pot"]


@pytest.fixture
def own_set(tmp_path) -> Path:
    """Two images with classes of their own: XML and masks that say the same."""
    root = tmp_path / "set"
    for folder in ("Annotations", "SegmentationClass"):
        (root / folder).mkdir(parents=True)
    for image_id, classes in ("IMG_1_(ü)", [2, 0]), ("b", []):
        objects = "".join(f"<object><name>{NAMES[c]}</name><difficult>1</difficult></object>" for c in classes)
        (root / "Annotations" / f"{image_id}.xml").write_text(f"<annotation>{objects}</annotation>", encoding="utf-8")
        mask = np.zeros((4, 5), np.uint8)
        mask[0, : len(classes)] = [c + 1 for c in classes]
        mask[1] = 255
        Image.fromarray(mask).save(root / "SegmentationClass" / f"{image_id}.png")
    (root / "all.txt").write_text("IMG_1_(ü)\nb\n", encoding="utf-8")
    (root / "classes.txt").write_text("\n".join(NAMES), encoding="utf-8")
    return root


def arguments(root: Path, out: str, *more: str) -> list[str]:
    given = ["--voc12_root", str(root), "--list", str(root / "all.txt"), "--class_names", str(root / "classes.txt")]
    return [*given, "--out", str(root / out), "--num_workers", "0", *more]


def error_of(argv: list[str], capsys) -> str:
    capsys.readouterr()
    assert main(argv) == 2
    error = capsys.readouterr().err
    lines = [line for line in error.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and "Traceback" not in error, error
    return lines[0]


@pytest.mark.parametrize("source", ["xml", "masks"])
def test_both_sources_say_the_same(own_set, source, capsys):
    assert main(arguments(own_set, "labels.txt", "--source", source)) == 0
    assert (own_set / "labels.txt").read_text(encoding="utf-8") == "IMG_1_(ü) 0 2\nb\n"
    assert "2 images, 1 of them without a class" in capsys.readouterr().out
    assert main(arguments(own_set, "labels.csv", "--source", source)) == 0
    assert (own_set / "labels.csv").read_text(encoding="utf-8") == "image_id,classes\nIMG_1_(ü),Tasse;tea pot\nb,\n"
    for name in ("labels.txt", "labels.csv"):
        labels = ImageLabels(own_set / name, VOCRoot(own_set / "nowhere"), NAMES)
        assert labels["IMG_1_(ü)"].tolist() == [0, 2] and labels["b"].tolist() == []


def test_masks_elsewhere(own_set, capsys):
    (own_set / "SegmentationClass").rename(own_set / "SegmentationClassAug")
    wrong = error_of(arguments(own_set, "l.csv", "--source=masks"), capsys)
    assert "2 of 2 files missing" in wrong and f"--truth_dir {own_set / 'SegmentationClassAug'}" in wrong
    where = f"--truth_dir={own_set / 'SegmentationClassAug'}"
    assert main(arguments(own_set, "l.txt", "--source=masks", where)) == 0
    assert (own_set / "l.txt").read_text(encoding="utf-8") == "IMG_1_(ü) 0 2\nb\n"


@pytest.mark.parametrize("old", [[], ["Tasse"]])
def test_masks_count_not_annotations(tmp_path, old, capsys):
    """XML without objects, or of an older round, does not stop what is made of masks."""
    for folder in ("Annotations", "SegmentationClass"):
        (tmp_path / folder).mkdir()
    objects = "".join(f"<object><name>{name}</name></object>" for name in old)
    for number in range(6):
        (tmp_path / "Annotations" / f"{number}.xml").write_text(f"<annotation>{objects}</annotation>")
        Image.fromarray(np.array([[0, 3]], np.uint8)).save(tmp_path / "SegmentationClass" / f"{number}.png")
    (tmp_path / "all.txt").write_text("".join(f"{number}\n" for number in range(6)))
    (tmp_path / "classes.txt").write_text("\n".join(NAMES), encoding="utf-8")
    assert main(arguments(tmp_path, "l.txt", "--source=masks")) == 0
    assert (tmp_path / "l.txt").read_text() == "".join(f"{number} 2\n" for number in range(6))
    assert "6 of 6 images" in capsys.readouterr().out


def test_images_without_xml(own_set, capsys):
    """labelImg writes no file for an image without objects."""
    (own_set / "Annotations" / "b.xml").unlink()
    assert "--missing_xml empty" in error_of(arguments(own_set, "l.txt"), capsys)
    assert main(arguments(own_set, "l.txt", "--missing_xml", "empty")) == 0
    assert (own_set / "l.txt").read_text(encoding="utf-8") == "IMG_1_(ü) 0 2\nb\n"
    assert "1 of 2 images have no XML" in capsys.readouterr().out
    (own_set / "Annotations" / "IMG_1_(ü).xml").unlink()
    wrong = error_of(arguments(own_set, "m.txt", "--missing_xml", "empty"), capsys)
    assert "none of 2 annotations is there" in wrong and "--list" in wrong


def test_objects_of_other_classes_are_left_out(own_set, capsys):
    objects = "".join(f"<object><name>{name}</name></object>" for name in ("fork", "Tasse", "fork", "background"))
    (own_set / "Annotations" / "b.xml").write_text(f"<annotation>{objects}</annotation>")
    assert "'fork'" in (wrong := error_of(arguments(own_set, "l.txt"), capsys)) and "--drop_unknown_classes" in wrong
    assert main(arguments(own_set, "l.txt", "--drop_unknown_classes")) == 0
    assert (own_set / "l.txt").read_text(encoding="utf-8") == "IMG_1_(ü) 0 2\nb 0\n"
    assert "left out: 3 objects that are no class: 'fork' (2), 'background' (1)" in capsys.readouterr().out


@pytest.mark.parametrize("option", [["--missing_xml", "empty"], ["--drop_unknown_classes"]])
def test_options_of_xml_are_refused_with_masks(own_set, option, capsys):
    assert "--source xml" in error_of(arguments(own_set, "l.txt", "--source", "masks", *option), capsys)


def test_workers_change_nothing(tiny_voc, tmp_path):
    lists = [str(tiny_voc / "ImageSets" / "Segmentation" / f"{name}.txt") for name in ("train", "val", "trainval")]
    contents = []
    for source, workers in ("xml", "0"), ("masks", "2"):
        out = tmp_path / f"{source}.txt"
        argv = ["--voc12_root", str(tiny_voc), "--list", *lists, "--out", str(out), "--source", source]
        assert main([*argv, "--num_workers", workers]) == 0
        contents.append(out.read_text())
    assert contents[0] == contents[1]
    assert [line.split()[0] for line in contents[0].splitlines()] == read_list(lists[2])


def test_a_file_that_is_there_is_kept(own_set, capsys):
    (own_set / "labels.txt").write_text("mine\n")
    assert "labels.txt is there already" in error_of(arguments(own_set, "labels.txt"), capsys)
    assert (own_set / "labels.txt").read_text() == "mine\n"
    assert main(arguments(own_set, "labels.txt", "--overwrite")) == 0
    assert (own_set / "labels.txt").read_text(encoding="utf-8").startswith("IMG_1")
    assert "is a folder" in error_of(arguments(own_set, "Annotations"), capsys)


def test_ids_with_blanks_need_csv(own_set, capsys):
    (own_set / "all.txt").write_text("b\nb 2\n")
    (own_set / "Annotations" / "b 2.xml").write_text("<annotation><object><name>Tasse</name></object></annotation>")
    assert "'b 2'" in (error := error_of(arguments(own_set, "labels.txt"), capsys)) and ".csv" in error
    assert not (own_set / "labels.txt").exists()
    assert main(arguments(own_set, "labels.csv")) == 0
    assert "b 2,Tasse\n" in (own_set / "labels.csv").read_text()


def test_a_failure_leaves_no_file(own_set, capsys):
    (own_set / "Annotations" / "b.xml").write_text("<annotation>")
    assert "b.xml: cannot be read as an annotation" in error_of(arguments(own_set, "labels.txt"), capsys)
    assert not (own_set / "labels.txt").exists()


def test_what_cannot_be_used_is_named(own_set, capsys):
    (own_set / "classes.txt").write_text("Tasse\nLoeffel\nteapot\n", encoding="utf-8")
    wrong = error_of(arguments(own_set, "l.txt"), capsys)
    assert "IMG_1_(ü).xml: 'tea pot'" in wrong and "did you mean 'teapot'" in wrong
    (own_set / "classes.txt").write_text("Tasse\n")
    wrong = error_of(arguments(own_set, "l.txt", "--source=masks"), capsys)
    assert "IMG_1_(ü).png (3): expected 0 to 1" in wrong and "classes.txt" in wrong
    (own_set / "SegmentationClass" / "b.png").unlink()
    wrong = error_of(arguments(own_set, "l.txt", "--source=masks"), capsys)
    assert "1 of 2 files missing" in wrong and "b.png" in wrong and "--source" in wrong


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (["--source", "json"], "--source"),
        (["--voc12_root", "/nope"], "voc12_root: there is no folder /nope"),
        (["--num_workers", "-1"], "'-1' is no whole number"),
        (["--list", "missing.txt"], "missing.txt: no such list"),
        (["--class_names", "missing.txt"], "missing.txt: no such list"),
        (["--nonsense"], "--nonsense"),
    ],
)
def test_arguments_that_will_not_do(own_set, more, expected, capsys):
    assert expected in error_of(arguments(own_set, "l.txt", *more), capsys)


def test_it_runs_as_a_module_and_helps_without_torch():
    script = (
        "import sys, runpy\nsys.argv = ['x', '--help']\n"
        "try: runpy.run_module('voc12.make_cls_labels', run_name='__main__')\n"
        "finally: assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=PROJECT)
    assert done.returncode == 0, done.stderr
    assert "--class_names" in done.stdout and "difficult" in done.stdout
