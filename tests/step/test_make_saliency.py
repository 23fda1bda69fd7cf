"""make_saliency through the command line: with a detector, without one, and what it refuses."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from misc.formats.images import read_image, software_of, write_grey
from misc.method.robust_background import robust_background_saliency
from run_sample import main
from tests.detectors import save_mixer, save_onnx, save_torchscript
from tests.test_chain import error_of, only
from voc12.image_set import read_list


@pytest.fixture
def no_saliency(tiny_voc, tmp_path) -> Path:
    """The tiny set without its saliency maps."""
    return Path(shutil.copytree(tiny_voc, tmp_path / "voc", ignore=shutil.ignore_patterns("Sal")))


def maps_in(folder: Path) -> dict[str, np.ndarray]:
    return {path.stem: np.array(Image.open(path)) for path in sorted(folder.glob("*.png"))}


def train_ids(root: Path) -> list[str]:
    return read_list(root / "ImageSets" / "Segmentation" / "train.txt")


MAKE = [*only(), "--make_saliency_pass"]


def test_without_a_detector(no_saliency, tiny_args, tmp_path, capsys):
    assert main([*tiny_args(voc12_root=no_saliency), *MAKE]) == 0, capsys.readouterr().err
    assert "a classical method: far weaker than a trained detector" in capsys.readouterr().out
    maps = maps_in(no_saliency / "Sal")
    assert list(maps) == train_ids(no_saliency)  # those of train_aug_list, no more
    for image_id, found in maps.items():
        image = read_image(no_saliency / "JPEGImages" / f"{image_id}.jpg")
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, np.rint(robust_background_saliency(image) * 255))
    elsewhere = tmp_path / "elsewhere"
    assert main([*tiny_args(voc12_root=no_saliency, saliency_dir=elsewhere, num_workers=2), *MAKE]) == 0
    for path in elsewhere.glob("*.png"):  # with workers, and into another folder: the same bytes
        assert path.read_bytes() == (no_saliency / "Sal" / path.name).read_bytes()
    assert len(list(elsewhere.glob("*.png"))) == len(maps)


def test_with_a_detector_in_either_format(no_saliency, tiny_args, tmp_path, capsys):
    settings = {"voc12_root": no_saliency, "saliency_input_size": 48, "saliency_std": "[1, 1, 1]"}
    models = save_torchscript(tmp_path / "a.pt"), save_onnx(tmp_path / "a.onnx", side=48)
    made = []
    for model in models:
        folder = tmp_path / model.suffix[1:]
        assert main([*tiny_args(**settings, saliency_model=model, saliency_dir=folder), *MAKE]) == 0
        made.append(maps_in(folder))
    assert list(made[0]) == list(made[1]) == train_ids(no_saliency)
    for image_id, one in made[0].items():
        other = made[1][image_id]
        assert one.shape == read_image(no_saliency / "JPEGImages" / f"{image_id}.jpg").shape[:2]
        assert one.min() < 5 and one.max() > 200
        assert np.abs(one.astype(int) - other).max() <= 1
    assert "classical" not in capsys.readouterr().out


@pytest.mark.slow
def test_the_chain_goes_on_with_its_maps(no_saliency, tiny_args, tmp_path, capsys):
    """Where Sal/ is missing the error says what to do, and doing it helps, wherever the maps are to lie."""
    steps = ("train_cam", "make_cam", "make_boundary_label", "train_sbe_boundary")
    arguments = [*tiny_args(voc12_root=no_saliency, saliency_dir=tmp_path / "maps"), *only(*steps)]
    error = error_of(arguments, capsys)
    for remedy in ("any saliency detector", "--saliency_dir", "--make_saliency_pass true", "--method bes"):
        assert remedy in error
    assert main([*arguments, "--make_saliency_pass", "true"]) == 0, capsys.readouterr().err
    assert "[1/5] make_saliency" in capsys.readouterr().out
    assert len(maps_in(tmp_path / "maps")) == 4 and not (no_saliency / "Sal").exists()
    labels = maps_in(tmp_path / "boundary_label_dir")
    assert len(labels) == 4 and any((label == 250).any() for label in labels.values())


def test_maps_of_others_are_never_overwritten(no_saliency, tiny_args, capsys):
    sal, ids = no_saliency / "Sal", train_ids(no_saliency)
    foreign = sal / f"{ids[1]}.png"
    write_grey(foreign, np.full((9, 9), 7, np.uint8))
    before = foreign.read_bytes()
    arguments = [*tiny_args(voc12_root=no_saliency), *MAKE]
    for more in [], ["--overwrite"]:
        error = error_of([*arguments, *more], capsys)
        assert f"1 of 4 saliency maps, such as {foreign}, were not made by make_saliency" in error
        assert [path.name for path in sal.iterdir()] == [foreign.name] and foreign.read_bytes() == before
    foreign.unlink()
    assert main(arguments) == 0
    assert {software_of(path) for path in sal.glob("*.png")} == {"make_saliency"}


def test_finished_maps_are_kept_and_those_of_another_detector_are_not_mixed(no_saliency, tiny_args, tmp_path, capsys):
    arguments = [*tiny_args(voc12_root=no_saliency), *MAKE]
    assert main(arguments) == 0
    before = maps_in(no_saliency / "Sal")
    (no_saliency / "Sal" / f"{min(before)}.png").unlink()
    assert main(arguments) == 0
    assert "3 of 4 images are finished already" in capsys.readouterr().out
    assert maps_in(no_saliency / "Sal").keys() == before.keys()
    with_a_detector = [*arguments, f"--saliency_model={save_torchscript(tmp_path / 'a.pt')}", "--saliency_std=[1,1,1]"]
    assert "saliency_model: none then, " in error_of(with_a_detector, capsys)
    assert main([*with_a_detector, "--overwrite"]) == 0
    assert any((new != before[image_id]).any() for image_id, new in maps_in(no_saliency / "Sal").items())


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("missing.pt", None, "there is no file"),
        ("a.h5", b"", "ends neither in .onnx nor"),
        ("a.pt", b"no model", "cannot be read as TorchScript"),
        ("a.onnx", b"no model", "cannot be read as ONNX"),
    ],
)
def test_a_bad_detector_is_told_before_anything_runs(no_saliency, tiny_args, tmp_path, name, content, expected, capsys):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    arguments = [*tiny_args(voc12_root=no_saliency, saliency_model=tmp_path / name), "--make_saliency_pass"]
    assert expected in error_of([*arguments, *only("train_cam")], capsys)
    assert not (tmp_path / "sess").exists() and not (no_saliency / "Sal").exists()


def test_a_detector_of_another_output_is_told_before_anything_runs(no_saliency, tiny_args, tmp_path, capsys):
    model = save_onnx(tmp_path / "two.onnx", side=48, channels=2)
    arguments = tiny_args(voc12_root=no_saliency, saliency_model=model, saliency_input_size=48)
    assert "two.onnx returns 1×2×48×48 as output 0, expected one map" in error_of([*arguments, *MAKE], capsys)
    assert not (no_saliency / "Sal").exists()


def mixer(path: Path, *row: float) -> Path:
    """A detector that is one matrix: its map is a sum of the channels it sees."""
    return save_mixer(path, {"side": [[1, 1, 1], [0, 0, 0]], "map": [list(row)]}, size=(32, 32))


PLAIN = {"saliency_mean": "[0, 0, 0]", "saliency_std": "[1, 1, 1]", "saliency_map": "map"}  # colours from 0 to 1


def test_the_manifest_holds_what_presets_and_the_file_came_to(no_saliency, tiny_args, tmp_path, capsys):
    settings = {"voc12_root": no_saliency, "saliency_model": mixer(tmp_path / "a.onnx", 1, 0, 0)}
    by_preset = {"saliency_preset": "poolnet", "saliency_map": -1}
    assert main([*tiny_args(**settings, **by_preset), *MAKE]) == 0, capsys.readouterr().err
    manifest = json.loads((no_saliency / "Sal" / "manifest.json").read_text(encoding="utf-8"))
    inputs = manifest["steps"]["make_saliency"]["inputs"]
    assert inputs["saliency_input_size"] == "32×32" and inputs["saliency_mean"] == "[104.007, 116.669, 122.679]"
    assert (inputs["saliency_map"], inputs["saliency_output"], inputs["saliency_stretch"]) == ("-1", "logit", "false")
    one_by_one = {**by_preset, "saliency_preset": "egnet", "saliency_input_size": 32, "saliency_stretch": "false"}
    assert main([*tiny_args(**settings, **one_by_one), *MAKE]) == 0  # the same in other words
    out = capsys.readouterr().out
    assert "finished already" in out
    assert "no manifest" not in out  # nothing here has one, and no detector will
    another = error_of([*tiny_args(**settings, **by_preset, saliency_stretch="true"), *MAKE], capsys)
    assert "saliency_stretch: false then, true now" in another and "--overwrite" in another
    save_mixer(tmp_path / "a.onnx", {"side": [[1, 1, 1]], "map": [[0, 1, 0]]}, size=(32, 32))
    assert "saliency_model: another content" in error_of([*tiny_args(**settings, **by_preset), *MAKE], capsys)


def test_where_and_how_the_detector_runs_is_logged(no_saliency, tiny_args, tmp_path, capsys):
    settings = {"voc12_root": no_saliency, "saliency_model": mixer(tmp_path / "a.onnx", 1, 0, 0), **PLAIN}
    assert main([*tiny_args(**settings), *MAKE]) == 0
    out = capsys.readouterr().out
    assert (
        "a.onnx: onnxruntime: CPUExecutionProvider; input_size 32×32, map map, output probability, stretch true" in out
    )


ABOUT_PIXELS, ABOUT_LOGITS = "are saliency_mean and saliency_std the detector's?", "--saliency_output probability"


@pytest.mark.parametrize(
    ("row", "output", "largest", "question"),
    [
        ((0.33, 0.33, 0.33), "probability", (0.99, 0.50, 0.33, 0.99), None),
        ((0.01, 0.01, 0.01), "probability", (0.03, 0.02, 0.01, 0.03), ABOUT_PIXELS),
        ((-9.0, -9.0, -9.0), "logit", (-13.55, -9, -9, -9), ABOUT_PIXELS),
        ((0.33, 0.33, 0.33), "logit", (0.99, 0.50, 0.33, 0.99), ABOUT_LOGITS),
        ((9.0, -9.0, 0.0), "logit", (0, 9, 9, 0), None),
    ],
)
def test_outputs_that_look_wrong_are_asked_about_at_the_end(
    no_saliency, tiny_args, tmp_path, row, output, largest, question, capsys
):
    colours = [(255, 255, 255), (128, 128, 128), (255, 0, 0), (0, 255, 0)]
    for number, image_id in enumerate(train_ids(no_saliency)):  # each image shows a colour and the one after it
        image = np.zeros((64, 64, 3), np.uint8)
        image[:32], image[32:] = colours[number], colours[(number + 1) % 4]
        Image.fromarray(image).save(no_saliency / "JPEGImages" / f"{image_id}.jpg", quality=100, subsampling=0)
    settings = {"voc12_root": no_saliency, "saliency_model": mixer(tmp_path / "a.onnx", *row), **PLAIN}
    assert main([*tiny_args(**settings, saliency_output=output), *MAKE]) == 0, capsys.readouterr().err
    log, _, end = capsys.readouterr().out.rpartition("done\n")
    found = re.search(r"largest output over 4 images (\S+), median ([^\s:]+)", log)
    assert found is not None
    assert [float(number) for number in found.groups()] == pytest.approx([max(largest), np.median(largest)], abs=0.1)
    assert question in end if question else "largest output" not in end


def test_settings_that_cannot_be_are_told_before_anything_runs(no_saliency, tiny_args, tmp_path, capsys):
    settings = {"voc12_root": no_saliency}
    assert "name it with --saliency_model" in error_of([*tiny_args(**settings, saliency_preset="u2net"), *MAKE], capsys)
    settings["saliency_model"] = mixer(tmp_path / "a.onnx", 1, 0, 0)
    error = error_of([*tiny_args(**settings, saliency_mean="[123.7, 116.3, 103.5]"), *MAKE], capsys)
    assert "saliency_mean" in error and "above 1" in error
    error = error_of([*tiny_args(**settings, saliency_map="sal"), *MAKE], capsys)
    assert "a.onnx has no output sal" in error and "0 (side): 1×2×32×32, 1 (map): 1×1×32×32" in error
    assert not (no_saliency / "Sal").exists()
