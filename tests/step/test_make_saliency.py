"""make_saliency through the command line: with a detector, without one, and what it refuses."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from misc.formats.images import read_image, software_of, write_grey
from misc.method.robust_background import robust_background_saliency
from run_sample import main
from tests.detectors import save_onnx, save_torchscript
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
    assert "two.onnx returns 1×2×48×48, expected one map" in error_of([*arguments, *MAKE], capsys)
    assert not (no_saliency / "Sal").exists()
