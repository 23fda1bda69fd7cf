"""The chain by several processes, as torchrun starts them."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from misc.formats.cam_file import read_cam
from misc.formats.images import read_label_map
from run_sample import main
from tests.conftest import PROJECT
from tests.test_chain import only
from voc12.image_set import read_list

# rates at which the weights move by far more than the tolerance; batches that two and four do not divide
SETTINGS = {"cam_batch_size": 5, "bes_batch_size": 5, "cam_learning_rate": 0.1, "bes_learning_rate": 0.1}


@pytest.fixture(scope="module")
def voc(tmp_path_factory) -> Path:
    from voc12.generated_set import generate

    root = tmp_path_factory.mktemp("voc")
    generate(root, seed=3, train_images=10, val_images=3, side=64)
    return root


def arguments_for(tiny_args, voc: Path, out: Path, **changes: object) -> list[str]:
    lists = voc / "ImageSets" / "Segmentation"
    values = {
        "voc12_root": voc,
        **dict.fromkeys(("train_aug_list", "train_list"), lists / "train.txt"),
        "val_list": lists / "val.txt",
        **{name: out / name for name in ("cam_out_dir", "cam_vis_dir", "boundary_label_dir", "sem_seg_out_dir")},
        "cam_weights_name": out / "cam.pth",
        "bes_weights_name": out / "bes.pth",
        "log_name": out / "log",
    }
    return tiny_args(**values | SETTINGS | changes)


def torchrun(processes: int, arguments: list[str], **options) -> subprocess.Popen:
    command = [sys.executable, "-m", "torch.distributed.run", f"--nproc_per_node={processes}", "--standalone"]
    return subprocess.Popen(
        [*command, str(PROJECT / "run_sample.py"), *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, **options,
    )  # fmt: skip


@pytest.fixture(scope="module")
def alone(voc, backbone_file, tmp_path_factory):
    """The outputs of a single process: made once, read by the tests."""
    made: dict[str, Path] = {}

    def outputs(tiny_args) -> Path:
        if not made:
            made["out"] = tmp_path_factory.mktemp("alone")
            assert main(arguments_for(tiny_args, voc, made["out"])) == 0
        return made["out"]

    return outputs


@pytest.mark.parametrize("processes", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_as_many_as_one(processes, alone, voc, tiny_args, backbone_file, tmp_path):
    """The same weights to 1e-5, the same masks, the same counts: whoever works on which sample, and loads it."""
    there = alone(tiny_args)  # without workers
    run = torchrun(processes, arguments_for(tiny_args, voc, tmp_path, num_workers=4 - processes))
    said, errors = run.communicate(timeout=300)
    assert run.returncode == 0, errors
    assert said.count("[1/7] train_cam") == 1  # one of them speaks

    for name in ("cam.pth", "bes.pth"):
        ours, theirs = (torch.load(folder / name, weights_only=True) for folder in (tmp_path, there))
        assert max(float((ours[key] - theirs[key]).abs().max()) for key in ours) <= 1e-5
    # nor is that because nothing was learnt: where the first weights are known, the weights have moved
    before = torch.load(backbone_file, weights_only=True)["layer4.2.conv3.weight"]
    ours, theirs = (
        torch.load(folder / "cam.pth", weights_only=True)["resnet50.layer4.2.conv3.weight"]
        for folder in (tmp_path, there)
    )
    assert (ours - theirs).abs().max() < 0.01 * (theirs - before).abs().max()

    for image_id in read_list(voc / "ImageSets" / "Segmentation" / "train.txt"):
        ours, theirs = (read_cam(folder / "cam_out_dir" / f"{image_id}.npy") for folder in (tmp_path, there))
        np.testing.assert_allclose(ours.cam_full, theirs.cam_full, atol=1e-4)
        for name in ("boundary_label_dir/{}.png", "sem_seg_out_dir/{}.png", "sem_seg_out_dir/{}_crf.png"):
            ours, theirs = (read_label_map(folder / name.format(image_id)) for folder in (tmp_path, there))
            assert (ours == theirs).mean() >= 0.999
    for name in ("cam_out_dir/eval_cam.json", "sem_seg_out_dir/eval_sem_seg.json"):
        ours, theirs = (json.loads((folder / name).read_text()) for folder in (tmp_path, there))
        for kind in ours:
            counts, expected = np.array(ours[kind]["confusion"]), np.array(theirs[kind]["confusion"])
            assert counts.sum() == expected.sum() and np.abs(counts - expected).sum() <= 1e-3 * counts.sum()
    # one process finds everything that several made finished
    assert main([*arguments_for(tiny_args, voc, tmp_path), *only("train_cam", "make_cam", "make_sem_seg")]) == 0
    log = (tmp_path / "log.log").read_text()
    assert "finished already" in log and "10 of 10 images are finished already" in log


@pytest.mark.slow
def test_bad_input_is_said_once_and_ends_all(voc, tiny_args, tmp_path):
    run = torchrun(2, arguments_for(tiny_args, voc, tmp_path, cam_batch_size=1, train_list=tmp_path / "missing.txt"))
    _, errors = run.communicate(timeout=120)
    assert run.returncode != 0
    assert errors.count("a batch of 1 cannot be shared by 2 processes: raise --cam_batch_size") == 1
    assert errors.count("missing.txt: no such list") == 1


@pytest.mark.slow
def test_an_error_in_one_share_ends_all(voc, tiny_args, alone, tmp_path):
    """Only the second process meets the damaged saliency map; the first one waits for it."""
    import shutil

    arguments = arguments_for(tiny_args, voc, tmp_path, cam_out_dir=tmp_path / "cams", saliency_dir=tmp_path / "sal")
    shutil.copytree(alone(tiny_args) / "cam_out_dir", tmp_path / "cams", ignore=shutil.ignore_patterns("manifest*"))
    shutil.copytree(voc / "Sal", tmp_path / "sal")
    ids = read_list(voc / "ImageSets" / "Segmentation" / "train.txt")
    path = tmp_path / "sal" / f"{ids[1]}.png"
    content = path.read_bytes()
    middle = len(content) // 2  # both ends are as they should be: nothing that a quick look tells
    path.write_bytes(content[:middle] + bytes(40) + content[middle + 40 :])
    run = torchrun(2, [*arguments, *only("make_boundary_label", "train_sbe_boundary")])
    _, errors = run.communicate(timeout=120)
    assert run.returncode != 0
    assert errors.count(f"error: {path}: cannot be read as an image") == 1


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_process_that_dies_takes_the_others_with_it(signum, voc, tiny_args, tmp_path):
    run = torchrun(2, [*arguments_for(tiny_args, voc, tmp_path, cam_num_epoches=500), *only("train_cam")])
    log = tmp_path / "log.log"
    try:
        while run.poll() is None and not (log.exists() and "epoch 1/" in log.read_text()):
            time.sleep(0.1)
        first, second = ranks_of(run.pid)
        os.kill(second, signum)
        _, errors = run.communicate(timeout=60)
        assert run.returncode != 0
        assert f"{-signum} (pid: {second})" in errors
        assert "defect" not in log.read_text()
        for pid in (first, second):
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)
    finally:
        if run.poll() is None:
            os.killpg(run.pid, signal.SIGKILL)


@pytest.mark.slow
def test_no_process_outlives_torchrun(voc, tiny_args, tmp_path):
    run = torchrun(2, [*arguments_for(tiny_args, voc, tmp_path, cam_num_epoches=500), *only("train_cam")])
    log = tmp_path / "log.log"
    try:
        while run.poll() is None and not (log.exists() and "epoch 1/" in log.read_text()):
            time.sleep(0.1)
        ranks = ranks_of(run.pid)
        run.kill()
        run.communicate(timeout=60)
        for _ in range(300):
            if not any(Path(f"/proc/{pid}").exists() for pid in ranks):
                return
            time.sleep(0.1)
        pytest.fail("processes outlived torchrun")
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(run.pid, signal.SIGKILL)


def ranks_of(pid: int) -> list[int]:
    """The processes that torchrun `pid` started, by rank."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    found = {}
    for child in map(int, children):
        environment = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
        ranks = [entry.split(b"=")[1] for entry in environment if entry.startswith(b"RANK=")]
        if ranks:
            found[int(ranks[0])] = child
    return [found[rank] for rank in sorted(found)]
