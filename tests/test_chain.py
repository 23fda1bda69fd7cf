"""The whole chain through the real command line, and every step alone from files."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from misc.config import Config
from run_sample import STEPS, main
from tests.conftest import PROJECT
from voc12.image_set import read_list

CHAIN = [step.name for step in STEPS if getattr(Config(), f"{step.name}_pass")]
SWITCHED_OFF = [f"--no_{name}_pass" for name in CHAIN]


def only(*names: str) -> list[str]:
    """Switches that leave these steps on."""
    return [f"--{name}_pass={str(name in names).lower()}" for name in CHAIN]


def files_below(folder: Path) -> dict[str, bytes]:
    """Relative name and content of every file; logs and histories, which hold times, left out."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix not in (".log", ".jsonl")
    }


def test_chain_at_once_and_step_by_step(tiny_voc, tiny_args, tmp_path, capsys):
    command = [sys.executable, str(PROJECT / "run_sample.py"), *tiny_args()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for number, name in enumerate(CHAIN, start=1):
        assert f"[{number}/7] {name}: reads " in done.stdout
    at_once = files_below(tmp_path)

    ids = read_list(tiny_voc / "ImageSets" / "Segmentation" / "train.txt")
    for image_id in ids:
        check_artifacts(tiny_voc, tmp_path, image_id)
    # checkpoints; CAM, conf, label, three masks; two JSON, three CSV; manifests of two checkpoints and four folders
    assert len(at_once) == 2 + len(ids) * 6 + 5 + 6

    for path in tmp_path.rglob("*"):
        if path.is_file() and path.suffix != ".log":
            path.unlink()
    for name in CHAIN:  # each step alone, from files, with two workers where the first run had none
        assert main([*tiny_args(num_workers=2), *only(name)]) == 0, capsys.readouterr().err
    step_by_step = files_below(tmp_path)
    assert step_by_step.keys() == at_once.keys()
    for name, content in at_once.items():
        assert content == step_by_step[name], name


def check_artifacts(root: Path, out: Path, image_id: str) -> None:
    """One image's files have the types, shapes and values of docs/files.md."""
    with Image.open(root / "JPEGImages" / f"{image_id}.jpg") as image:
        size = image.size[::-1]
    grid = ((size[0] - 1) // 4 + 1, (size[1] - 1) // 4 + 1)
    cam = np.load(out / "cam_out_dir" / f"{image_id}.npy", allow_pickle=True).item()
    n = len(cam["keys"])
    assert isinstance(cam["keys"], torch.Tensor) and cam["keys"].dtype == torch.int64 and n >= 1
    assert isinstance(cam["cam"], torch.Tensor) and cam["cam"].dtype == torch.float32
    assert cam["cam"].shape == (n, *grid) and cam["high_res"].shape == (n, *size)
    assert cam["high_res"].dtype == np.float32 and 0 <= cam["high_res"].min() <= cam["high_res"].max() <= 1
    allowed = {0, *(cam["keys"].numpy() + 1)}

    def values(name: str, mode: str, shape: tuple[int, int]) -> set[int]:
        with Image.open(out / name) as image:
            array = np.array(image)
            assert image.mode == mode and array.shape == shape
        return set(array.ravel().tolist())

    assert values(f"cam_vis_dir/{image_id}.png", "L", size) <= allowed | {255}
    assert values(f"boundary_label_dir/{image_id}.png", "L", size) <= {0, 50, 100, 150, 200, 250}
    assert values(f"sem_seg/{image_id}.png", "P", size) <= allowed
    assert values(f"sem_seg/{image_id}_crf.png", "P", size) <= allowed
    values(f"sem_seg/{image_id}_edge.png", "L", grid)


def test_evaluation_is_the_confusion_of_the_files(tiny_voc, tiny_args, tmp_path, capsys):
    """eval_sem_seg on masks that equal the ground truth in all but a known corner."""
    ids = read_list(tiny_voc / "ImageSets" / "Segmentation" / "train.txt")
    (tmp_path / "sem_seg").mkdir()
    confusion = np.zeros((21, 21), np.int64)
    for image_id in ids:
        with Image.open(tiny_voc / "SegmentationClass" / f"{image_id}.png") as image:
            truth = np.array(image)
        mask = np.where(truth == 255, 0, truth).astype(np.uint8)
        mask[:9, :9] = 20
        for true, predicted in zip(truth.ravel(), mask.ravel(), strict=True):
            if true != 255:
                confusion[true, predicted] += 1
        for ending in ("", "_crf"):
            Image.fromarray(mask).save(tmp_path / "sem_seg" / f"{image_id}{ending}.png")
    assert main([*tiny_args(), *only("eval_sem_seg")]) == 0
    result = json.loads((tmp_path / "sem_seg" / "eval_sem_seg.json").read_text())
    assert result["mask"]["confusion"] == confusion.tolist()
    union = confusion.sum(0) + confusion.sum(1) - np.diag(confusion)
    iou = np.diag(confusion)[union > 0] / union[union > 0]
    assert result["mask + CRF"]["miou"] == pytest.approx(iou.mean(), abs=1e-12)
    assert f"{100 * iou.mean():.2f}" in capsys.readouterr().out


@pytest.mark.slow
def test_bes_reads_no_saliency(tiny_voc, tiny_args, tmp_path):
    """The baseline runs where there is no Sal folder at all."""
    import shutil

    root = tmp_path / "voc"
    shutil.copytree(tiny_voc, root, ignore=shutil.ignore_patterns("Sal"))
    steps = ("train_cam", "make_cam", "make_boundary_label", "train_sbe_boundary")
    assert main([*tiny_args(voc12_root=root, method="bes"), *only(*steps)]) == 0
    labels = [np.array(Image.open(path)) for path in (tmp_path / "boundary_label_dir").glob("*.png")]
    assert len(labels) == 4 and all((label != 250).all() for label in labels)


def test_help_names_every_setting_without_importing_torch():
    script = "import sys, run_sample\ntry: run_sample.main(['--help'])\nfinally: assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=PROJECT)
    assert done.returncode == 0, done.stderr
    from dataclasses import fields

    from misc.config import Config

    for field in fields(Config):
        assert re.search(rf"--{field.name}\b", done.stdout), field.name


def error_of(arguments: list[str], capsys) -> str:
    """Run a command line that must be refused; returns the one line it says."""
    capsys.readouterr()
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    lines = [line for line in error.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, error
    return lines[0]


@pytest.fixture
def own_copy(tiny_voc, tmp_path) -> Path:
    """A copy of the tiny set that a test may damage."""
    import shutil

    return Path(shutil.copytree(tiny_voc, tmp_path / "voc"))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--seed", "many"], "seed"),
        (["--voc12_root", "/nowhere"], "/nowhere"),
        (["--train_aug_list", "missing.txt"], "missing.txt"),
        (["--device", "abacus"], "abacus"),
        (["--class_names", "missing_names.txt"], "missing_names.txt"),
    ],
)
def test_refused_before_anything_runs(arguments, expected, tiny_args, tmp_path, capsys):
    assert expected in error_of([*tiny_args(), *arguments], capsys)
    assert not (tmp_path / "sess").exists()


def test_all_problems_are_reported_together(own_copy, tiny_args, capsys):
    (own_copy / "JPEGImages" / "demo_00001.jpg").unlink()
    (own_copy / "Sal" / "demo_00002.png").unlink()
    (own_copy / "SegmentationClass" / "demo_00003.png").write_bytes(b"no image")
    (own_copy / "Annotations" / "demo_00000.xml").unlink()
    image = own_copy / "JPEGImages" / "demo_00003.jpg"
    image.write_bytes(image.read_bytes()[:-300])
    assert main(tiny_args(voc12_root=own_copy)) == 2
    error = capsys.readouterr().err
    for name in ("JPEGImages/demo_00001.jpg", "Sal/demo_00002.png", "SegmentationClass/demo_00003.png",
                 "no label for demo_00000", "JPEGImages/demo_00003.jpg"):  # fmt: skip
        assert error.count(name) == 1  # although several steps need the same file


def test_earlier_artifacts_are_missed_before_a_later_step_runs(tiny_args, capsys):
    assert "make_cam makes them" in error_of([*tiny_args(), *only("eval_cam")], capsys)
    assert "--cam_weights_name" in error_of([*tiny_args(), *only("make_cam")], capsys)
    assert main([*tiny_args(), *only("eval_sem_seg")]) == 2
    assert capsys.readouterr().err.count("run make_sem_seg on them first") == 2  # raw and after CRF


@pytest.mark.slow
def test_untidy_lists_are_accepted(tiny_voc, tiny_args, tmp_path, capsys):
    ids = read_list(tiny_voc / "ImageSets" / "Segmentation" / "train.txt")
    untidy = tmp_path / "untidy.txt"
    untidy.write_bytes(f"\r\n  {ids[0]}  \r\n\r\n{ids[1]}\r\n{ids[0]}\r\n\r\n".encode())
    arguments = tiny_args(train_aug_list=untidy, infer_list=untidy)
    assert main([*arguments, *only("train_cam", "make_cam")]) == 0
    assert sorted(path.stem for path in (tmp_path / "cam_out_dir").glob("*.npy")) == sorted(ids[:2])
    assert "1 duplicate" in capsys.readouterr().out


def test_demo_settings_do_not_touch_a_real_data_set(own_copy, tiny_args, capsys):
    lists = own_copy / "ImageSets" / "Segmentation"
    (lists / "train.txt").write_text("2007_000032\n")
    arguments = [*tiny_args(voc12_root=own_copy), "--make_demo_set_pass"]
    assert "choose another voc12_root" in error_of(arguments, capsys)
    assert (lists / "train.txt").read_text() == "2007_000032\n"


def test_outputs_are_checked_before_any_training(tiny_args, tmp_path, capsys):
    (tmp_path / "folder").mkdir()
    assert "folders" in error_of([*tiny_args(cam_weights_name=tmp_path / "folder"), *only("train_cam")], capsys)
    assert "empty" in error_of([*tiny_args(cam_weights_name=""), *only("train_cam")], capsys)
    same = {"cam_vis_dir": tmp_path / "same", "boundary_label_dir": tmp_path / "same"}
    cams = only("train_cam", "make_cam", "make_boundary_label")
    assert "name another folder" in error_of([*tiny_args(**same), *cams], capsys)


def test_the_checkpoint_of_the_other_network_is_missed_before_an_earlier_step_runs(tiny_args, tmp_path, capsys):
    from misc.formats.checkpoint import save_weights
    from net.resnet50_cam import ResNet50CAM

    save_weights(ResNet50CAM(20), tmp_path / "cam.pth")
    arguments = tiny_args(cam_weights_name=tmp_path / "cam.pth", bes_weights_name=tmp_path / "cam.pth")
    assert "fc_edge1" in error_of([*arguments, *only("make_cam", "make_sem_seg")], capsys)
    assert not (tmp_path / "cam_out_dir").exists()


def test_a_training_that_diverges_saves_nothing(tiny_args, tmp_path, capsys):
    arguments = [*tiny_args(cam_learning_rate=1e30, cam_num_epoches=4), *only("train_cam")]
    assert "diverged" in error_of(arguments, capsys)
    assert not (tmp_path / "sess" / "cam.pth").exists()
    assert "diverged" in (tmp_path / "log.log").read_text()  # the log says how the run ended


@pytest.mark.slow
def test_a_reader_that_leaves_does_not_end_the_run(tiny_args, tmp_path):
    """As in `run_sample.py … | head`: what is left to say goes to the log file."""
    command = [sys.executable, str(PROJECT / "run_sample.py"), *tiny_args(), *only("train_cam")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.close()
    error = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=60) == 0, error
    assert "Traceback" not in error and "BrokenPipe" not in error
    assert "epoch 1/1" in (tmp_path / "log.log").read_text()


@pytest.mark.slow
def test_a_terminal_on_a_full_disk_does_not_end_the_run(tiny_args, tmp_path):
    with open("/dev/full", "w") as full:
        command = [sys.executable, str(PROJECT / "run_sample.py"), *tiny_args(), *only("train_cam")]
        assert subprocess.run(command, stdout=full, stderr=full, timeout=120).returncode == 0
    assert "epoch 1/1" in (tmp_path / "log.log").read_text()


def test_a_demo_set_is_written_again_over_an_interrupted_one(own_copy, tiny_args):
    (own_copy / "ImageSets" / "Segmentation" / ".train.txt.123.tmp").write_text("dem")
    sizes = ["--demo_train_images=4", "--demo_val_images=2", "--demo_side=64", "--make_demo_set_pass"]
    assert main([*tiny_args(voc12_root=own_copy), *sizes, *SWITCHED_OFF]) == 0


@pytest.mark.slow
def test_an_evaluation_goes_with_the_masks_it_is_of(tiny_args, tmp_path, capsys):
    """Masks made anew are not left beside the scores of their predecessors."""
    assert main(tiny_args()) == 0
    scores = tmp_path / "sem_seg" / "eval_sem_seg.json"
    assert scores.exists()
    capsys.readouterr()
    assert main([*tiny_args(sem_seg_bg_thres=0.9), *only("eval_sem_seg")]) == 0
    assert "sem_seg: made with sem_seg_bg_thres 0.21; now it is 0.9, but make_sem_seg is off" in capsys.readouterr().out
    assert main([*tiny_args(sem_seg_bg_thres=0.9), *only("make_sem_seg"), "--overwrite"]) == 0
    assert not scores.exists()
    assert (tmp_path / "cam_out_dir" / "eval_cam.json").exists()


@pytest.mark.slow
def test_compact_cams_change_nothing_that_is_made_of_them(tiny_args, tmp_path, capsys):
    """Masks, tables, a picture; and expanded, the files are the published ones."""
    from misc.expand_cams import main as expand
    from step.report.view import main as view

    made = []
    for form in ("published", "compact"):
        assert main(tiny_args(cam_file=form)) == 0, capsys.readouterr().err
        assert view(["demo_00000", *tiny_args(cam_file=form)]) == 0, capsys.readouterr().err
        files = files_below(tmp_path)
        made.append({name: content for name, content in files.items() if "manifest.json" not in name})
        if form == "compact":
            assert expand([str(tmp_path / "cam_out_dir"), str(tmp_path / "expanded")]) == 0
        for path in tmp_path.rglob("*"):
            if path.is_file() and "expanded" not in path.parts:
                path.unlink()
    published, compact = made
    cams = {name for name in published if name.startswith("cam_out_dir/") and name.endswith(".npy")}
    assert cams and len(published) > 6 * len(cams)
    assert {name for name in published if published[name] != compact[name]} == cams
    for name in cams:
        assert (tmp_path / "expanded" / Path(name).name).read_bytes() == published[name]
