"""eval_cam through the command line: CAMs of any format, the curve over thresholds, a list to choose on."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from misc.evaluation.confusion import confusion_matrix
from misc.formats.images import read_label_map
from misc.method.masks import classes_of
from run_sample import main
from tests.test_chain import error_of, only
from voc12.first_look import spread
from voc12.image_set import VOCRoot, read_list

# one that is shown, and is written beside a class of its own
FORMATS = {
    "sbe": lambda keys, maps: {"keys": torch.tensor(keys), "cam": torch.zeros(len(keys), 1, 1), "high_res": maps},
    "classes": lambda keys, maps: dict(zip(keys, maps, strict=True)),
    "crf": lambda keys, maps: {0: maps[0]} | {key + 1: one for key, one in zip(keys, maps, strict=True)},
    "clip-es": lambda keys, maps: {"keys": np.array(keys)[::-1], "attn_highres": maps[::-1].astype(np.float16)},
}


def maps_of(truth: np.ndarray, keys: list[int], seed: int) -> np.ndarray:
    """Scores that are higher on their class, exact in float16."""
    rng = np.random.default_rng(seed)
    maps = [0.4 * (truth == key + 1) + 0.55 * rng.random(truth.shape) for key in keys]
    return np.array(maps).astype(np.float16).astype(np.float32)


def ids_of(root: Path, name: str) -> list[str]:
    return read_list(root / "ImageSets" / "Segmentation" / f"{name}.txt")


def write_cams(root: Path, folder: Path, make) -> dict[str, tuple[list[int], np.ndarray]]:
    """A file for every image of both lists; returns keys and maps by ID."""
    folder.mkdir(exist_ok=True)
    cams = {}
    for seed, image_id in enumerate(ids_of(root, "train") + ids_of(root, "val")):
        truth = read_label_map(VOCRoot(root).truth(image_id))
        keys = [int(number) - 1 for number in np.unique(truth) if 0 < number < 255]
        cams[image_id] = keys, maps_of(truth, keys, seed)
        content = make(*cams[image_id])
        if make is FORMATS["sbe"]:
            grid = [(side - 1) // 4 + 1 for side in truth.shape]
            content["cam"] = torch.zeros(len(keys), *grid)
        np.save(folder / f"{image_id}.npy", content, allow_pickle=True)
    return cams


def by_hand(root: Path, cams, ids: list[str], threshold: float) -> np.ndarray:
    return sum(
        confusion_matrix(
            read_label_map(VOCRoot(root).truth(i)), classes_of(cams[i][1], np.array(cams[i][0]), threshold), 21
        )
        for i in ids
    )


def miou_of(confusion: np.ndarray) -> float:
    union = confusion.sum(0) + confusion.sum(1) - np.diag(confusion)
    return (np.diag(confusion)[union > 0] / union[union > 0]).mean()


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("workers", [0, 2])
def test_every_format_gives_the_same_curve(tiny_voc, tiny_args, tmp_path, capsys, name, workers):
    cams = write_cams(tiny_voc, tmp_path / "cam_out_dir", FORMATS[name])
    ids = ids_of(tiny_voc, "train")
    assert main([*tiny_args(num_workers=workers, cam_eval_thres=0.3), *only("eval_cam")]) == 0
    result = json.loads((tmp_path / "cam_out_dir" / "eval_cam.json").read_text())["CAM"]
    assert result["confusion"] == by_hand(tiny_voc, cams, ids, 0.3).tolist()
    curve = result["sweep"]["curves"]["evaluation"]
    expected = [miou_of(by_hand(tiny_voc, cams, ids, k / 100)) for k in range(61)]
    np.testing.assert_allclose(curve["miou"], expected, rtol=1e-12)
    assert curve["miou"][30] == result["miou"] and curve["images"] == 4
    best = result["sweep"]["best"]
    assert (best["chosen_on"], best["threshold"]) == ("evaluation", int(np.argmax(expected)) / 100)
    said = capsys.readouterr().out
    assert f"4 of 4 CAM files are {name}: " in said
    assert "4 of 4 CAM files hold background scores" in said or name != "crf"
    assert "chosen on the very images it is measured on" in said


def test_a_threshold_chosen_on_another_list(tiny_voc, tiny_args, tmp_path, capsys):
    cams = write_cams(tiny_voc, tmp_path / "cam_out_dir", FORMATS["sbe"])
    sweep_list = tiny_voc / "ImageSets" / "Segmentation" / "val.txt"
    assert main([*tiny_args(sweep_list=sweep_list), *only("eval_cam")]) == 0
    ids = {"evaluation": ids_of(tiny_voc, "train"), "sweep_list": ids_of(tiny_voc, "val")}
    expected = {
        name: [miou_of(by_hand(tiny_voc, cams, which, k / 100)) for k in range(61)] for name, which in ids.items()
    }
    result = json.loads((tmp_path / "cam_out_dir" / "eval_cam.json").read_text())["CAM"]
    assert result["confusion"] == by_hand(tiny_voc, cams, ids["evaluation"], 0.21).tolist()  # val does not count
    for name, curve in result["sweep"]["curves"].items():
        np.testing.assert_allclose(curve["miou"], expected[name], rtol=1e-12)
        assert curve["images"] == len(ids[name])
    best = result["sweep"]["best"]
    k = int(np.argmax(expected["sweep_list"]))
    assert (best["chosen_on"], best["threshold"]) == ("sweep_list", k / 100)
    assert best["miou_there"] == pytest.approx(expected["sweep_list"][k])
    assert best["miou"] == pytest.approx(expected["evaluation"][k])
    assert "chosen on sweep_list, where it gives" in capsys.readouterr().out
    with open(tmp_path / "cam_out_dir" / "eval_cam_curve.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == 2 * 61


def test_a_sweep_list_that_overlaps_is_told(tiny_voc, tiny_args, tmp_path, capsys):
    write_cams(tiny_voc, tmp_path / "cam_out_dir", FORMATS["sbe"])
    (tmp_path / "some.txt").write_text("\n".join(ids_of(tiny_voc, "val") + ids_of(tiny_voc, "train")[:1]))
    assert main([*tiny_args(sweep_list=tmp_path / "some.txt"), *only("eval_cam")]) == 0
    assert "1 of 3 images of sweep_list are evaluated as well" in capsys.readouterr().out


def test_what_a_sweep_list_needs_is_missed_first(tiny_voc, tiny_args, tmp_path, capsys):
    write_cams(tiny_voc, tmp_path / "cam_out_dir", FORMATS["sbe"])
    root = Path(shutil.copytree(tiny_voc, tmp_path / "voc"))
    arguments = [*tiny_args(voc12_root=root, sweep_list=root / "ImageSets/Segmentation/val.txt"), *only("eval_cam")]
    VOCRoot(root).truth("demo_00004").unlink()
    assert "ground truth masks missing" in error_of(arguments, capsys)
    shutil.copytree(tiny_voc, root, dirs_exist_ok=True)
    (tmp_path / "cam_out_dir" / "demo_00005.npy").unlink()
    assert "CAMs missing" in error_of(arguments, capsys)
    missing = [*tiny_args(sweep_list="no_such.txt"), *only("eval_cam")]
    assert "no_such.txt: no such list" in error_of(missing, capsys)


def test_classes_beyond_the_labels(tiny_voc, tiny_args, tmp_path, capsys):
    cams = write_cams(tiny_voc, tmp_path / "cam_out_dir", FORMATS["classes"])
    first, (keys, maps) = next(iter(cams.items()))
    extra = 19
    assert extra not in keys
    np.save(tmp_path / "cam_out_dir" / f"{first}.npy", dict(zip(keys, maps, strict=True)) | {extra: maps[0]})
    arguments = [*tiny_args(), *only("eval_cam")]
    message = error_of(arguments, capsys)
    assert f"{first}.npy" in message and f"[{extra}]" in message and "--drop_extra_cams" in message
    assert main([*arguments, "--drop_extra_cams"]) == 0
    assert "1 of 4 CAM files had maps of classes that their image does not show: dropped" in capsys.readouterr().out
    result = json.loads((tmp_path / "cam_out_dir" / "eval_cam.json").read_text())["CAM"]
    assert result["confusion"] == by_hand(tiny_voc, cams, ids_of(tiny_voc, "train"), 0.21).tolist()


def test_labels_that_leave_nothing_of_any_cam_are_refused(tiny_voc, tiny_args, tmp_path, capsys):
    cams = write_cams(tiny_voc, tmp_path / "cam_out_dir", FORMATS["classes"])
    for image_id, (keys, maps) in cams.items():
        np.save(
            tmp_path / "cam_out_dir" / f"{image_id}.npy", dict(zip([(key + 7) % 20 for key in keys], maps, strict=True))
        )
    arguments = [*tiny_args(cam_format="classes"), *only("eval_cam"), "--drop_extra_cams"]
    labels = [{(key + 7) % 20 for key in keys} & {*keys} for keys, _ in cams.values()]
    assert not any(labels), "an image shows two classes whose numbers differ by 7: choose another shift"
    assert "none of the 4 CAM files looked at has a map of a class that its image shows" in error_of(arguments, capsys)


def test_a_folder_of_several_formats_is_told(tiny_voc, tiny_args, tmp_path, capsys):
    cams = write_cams(tiny_voc, tmp_path / "cam_out_dir", FORMATS["classes"])
    first, (keys, maps) = next(iter(cams.items()))
    np.save(tmp_path / "cam_out_dir" / f"{first}.npy", FORMATS["clip-es"](keys, maps))
    assert main([*tiny_args(), *only("eval_cam")]) == 0
    said = capsys.readouterr().out
    assert "1 of 4 CAM files are clip-es" in said and "3 of 4 CAM files are classes" in said
    assert "of several formats: if all are of one method, say --cam_format" in said


TWO_READINGS = "3 CAM files look like classes and 1 like crf, but a method writes one of the two: say --cam_format"


@pytest.fixture
def two_readings(tiny_voc, tmp_path) -> Path:
    """A folder of files by class, but for the second image's, which are CRF scores."""
    cams = write_cams(tiny_voc, tmp_path / "cam_out_dir", FORMATS["classes"])
    _, (second, (keys, maps)), *_ = cams.items()
    np.save(tmp_path / "cam_out_dir" / f"{second}.npy", FORMATS["crf"](keys, maps))
    return tmp_path / "cam_out_dir"


def test_two_readings_of_one_kind_of_file_are_refused_first(two_readings, tiny_args, tmp_path, capsys):
    """A file by class with one class too many may look like CRF scores: {0, 1} of an image of class 0."""
    error = error_of([*tiny_args(), *only("eval_cam", "make_boundary_label")], capsys)
    assert error == f"error: {two_readings}: by the labels of their images, {TWO_READINGS}"
    assert not (two_readings / "eval_cam.json").exists() and not (tmp_path / "cam_vis_dir").exists()


@pytest.mark.parametrize("workers", [0, 2])
def test_two_readings_that_are_met_later_leave_nothing(two_readings, tiny_args, tmp_path, capsys, monkeypatch, workers):
    monkeypatch.setattr("step.shared.cams.LOOKED_AT", 1)
    assert TWO_READINGS in error_of([*tiny_args(num_workers=workers), *only("eval_cam")], capsys)
    assert not (two_readings / "eval_cam.json").exists()
    arguments = [*tiny_args(num_workers=workers), *only("make_boundary_label")]
    for _ in range(2):  # nothing is taken for finished
        assert TWO_READINGS in error_of(arguments, capsys)
        assert not list((tmp_path / "cam_vis_dir").glob("*.png"))
        assert not list((tmp_path / "boundary_label_dir").glob("*.png"))


# --- looked at before anything runs


def test_a_few_cams_are_read_before_anything_runs(tiny_voc, tiny_args, tmp_path, capsys):
    cams = write_cams(tiny_voc, tmp_path / "cam_out_dir", FORMATS["classes"])
    first, second, third, fourth = list(cams)[:4]
    contents = {first: {}, second: {0: np.ones((5, 5))}, third: {19: cams[third][1][0]}, fourth: {"x": np.ones(3)}}
    for image_id, content in contents.items():
        np.save(tmp_path / "cam_out_dir" / f"{image_id}.npy", content)
    arguments = [*tiny_args(), *only("train_cam", "eval_cam", "make_boundary_label")]
    error = error_of(arguments, capsys)
    assert error.startswith("error: 3 of 4 CAMs looked at unusable: ")  # once, although two steps read them
    assert f"{second}.npy: made for another image size: a map is (5, 5)" in error
    assert f"{third}.npy: it holds maps of classes [19]" in error
    assert f"{fourth}.npy: no CAM file of a known format" in error
    assert not (tmp_path / "sess").exists()
    assert "not sbe, as --cam_format says" in error_of([*arguments, "--cam_format=sbe"], capsys)


def test_which_cams_are_looked_at():
    assert spread([], 16) == [] and spread(["a"], 16) == ["a"]
    assert spread(list("abcdefghijklmnop"), 16) == list("abcdefghijklmnop")
    many = [str(number) for number in range(1464)]
    chosen = spread(many, 16)
    assert len(set(chosen)) == 16 and (chosen[0], chosen[-1]) == ("0", "1463")
    assert max(np.diff([int(image_id) for image_id in chosen])) == 98


def test_what_is_missing_is_not_said_twice(tiny_voc, tiny_args, tmp_path, capsys):
    cams = write_cams(tiny_voc, tmp_path / "cam_out_dir", FORMATS["classes"])
    root = Path(shutil.copytree(tiny_voc, tmp_path / "voc"))
    without_cam, cut_short, without_label, without_truth = list(cams)[:4]
    (tmp_path / "cam_out_dir" / f"{without_cam}.npy").unlink()
    (tmp_path / "cam_out_dir" / f"{cut_short}.npy").write_bytes(b"\x93NUMPY")
    VOCRoot(root).annotation(without_label).unlink()
    VOCRoot(root).truth(without_truth).unlink()
    assert main([*tiny_args(voc12_root=root), *only("eval_cam")]) == 2
    error = capsys.readouterr().err
    assert "4 problems" in error
    assert all(error.count(image_id) == 1 for image_id in list(cams)[:2]) and "CAMs looked at" not in error


@pytest.mark.parametrize("cam_format", ["classes", "crf", "clip-es"])
def test_make_cam_writes_one_format(tiny_args, tmp_path, capsys, cam_format):
    arguments = [*tiny_args(cam_format=cam_format), *only("train_cam", "make_cam", "eval_cam")]
    assert f"--cam_format {cam_format}, but make_cam writes sbe: leave it at auto" in error_of(arguments, capsys)
    assert not (tmp_path / "sess").exists()


def test_doubt_is_settled_by_the_setting(tiny_voc, tiny_args, tmp_path, capsys):
    cams = write_cams(tiny_voc, tmp_path / "cam_out_dir", FORMATS["classes"])
    first, (_, maps) = next(iter(cams.items()))
    (tmp_path / "labels.txt").write_text("\n".join(f"{i} 0 1 2" for i in cams))
    for image_id, (_, maps) in cams.items():
        np.save(tmp_path / "cam_out_dir" / f"{image_id}.npy", {0: maps[0], 1: maps[0] / 2})
    arguments = [*tiny_args(cls_labels=tmp_path / "labels.txt"), *only("eval_cam")]
    message = error_of(arguments, capsys)
    assert "say --cam_format" in message and f"{first}.npy" in message
    assert main([*arguments, "--cam_format=crf"]) == 0
    assert "4 of 4 CAM files have no map for a class that their image shows" in capsys.readouterr().out
    assert "not sbe, as --cam_format says" in error_of([*arguments, "--cam_format=sbe"], capsys)


def test_labels_are_needed(tiny_voc, tiny_args, tmp_path, capsys):
    write_cams(tiny_voc, tmp_path / "cam_out_dir", FORMATS["classes"])
    root = Path(shutil.copytree(tiny_voc, tmp_path / "voc"))
    VOCRoot(root).annotation("demo_00000").unlink()
    assert "no label for demo_00000" in error_of([*tiny_args(voc12_root=root), *only("eval_cam")], capsys)
