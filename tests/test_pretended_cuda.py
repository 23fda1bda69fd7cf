"""The whole chain on a card that is not there (tests/pretended_cuda): what the CPU gives, and what it would cost.

A mixture of devices, or of streams that did not wait for each other, ends such a run.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

from misc.formats.cam_file import read_cam
from misc.formats.images import read_label_map
from run_sample import main
from tests.conftest import PROJECT
from tests.pretended_cuda.device import VERSION
from tests.test_chain import only
from voc12.image_set import read_list

COMPILER = shutil.which("cc")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not torch.__version__.startswith(VERSION) or torch.version.cuda is None,
        reason=f"the pretended card is made of private parts of PyTorch {VERSION} for CUDA",
    ),
    pytest.mark.skipif(COMPILER is None or sys.platform != "linux", reason="needs a C compiler, and Linux' linker"),
]

IMAGES = 4  # of the tiny set, to train on and to make masks of
DEEPLAB = {
    "deeplab": "true", "deeplab_depth": 50, "deeplab_steps": 2, "deeplab_batch_size": 2, "deeplab_iter_size": 2,
    "deeplab_crop_size": 65,
}  # fmt: skip

# Where the program waits for the card, or copies what it must wait for; of every step. A new one is a decision.
LOADING = {"upload misc/run/device.py:to_device", "upload misc/pixels.py:_constants"}
SAVING = {"download misc/formats/checkpoint.py:save_weights"}
RECORDS = {  # every 5 steps
    "download misc/train/loop.py:_first_that_is_no_number",
    "sync misc/train/loop.py:RunningMeans._totals",
}
CRF = {
    "download misc/crf/torch_backend.py:TorchBackend._best",
    "sync misc/crf/torch_backend.py:_Lattice.__init__",
    "upload misc/crf/torch_backend.py:TorchBackend._tensor",
    "upload misc/crf/torch_backend.py:_blurs",
    "upload misc/crf/torch_backend.py:_constant",  # once, then kept on the card
    "upload misc/crf/torch_backend.py:_embed",
}
WAITS = {
    "train_cam": LOADING | SAVING | RECORDS | {
        "sync misc/run/device.py:fault_of",
        "sync step/train_cam.py:validation_loss",
        "upload step/train_cam.py:validation_loss",
    },
    "make_cam": LOADING,
    "make_boundary_label": set(),
    "train_sbe_boundary": LOADING | SAVING | RECORDS,
    "make_sem_seg": LOADING | {"upload misc/method/stencil.py:_paths"},
    "train_deeplab": LOADING | RECORDS | {"download net/deeplab_weights.py:save_network"},
    "make_deeplab_seg": LOADING | CRF,
}  # fmt: skip


@pytest.fixture(scope="module")
def environment(tmp_path_factory) -> dict[str, str]:
    """With which PyTorch's autograd takes a card for there (guard.c, libcuda.c)."""
    folder = tmp_path_factory.mktemp("libraries")
    for source, library in (("guard.c", "guard.so"), ("libcuda.c", "libcuda.so.1")):
        path = PROJECT / "tests" / "pretended_cuda" / source
        subprocess.run([str(COMPILER), "-shared", "-fPIC", "-o", str(folder / library), str(path)], check=True)
    found = {**os.environ, "LD_PRELOAD": str(folder / "guard.so"), "LD_LIBRARY_PATH": str(folder)}
    return {name: value for name, value in found.items() if name != "INTERRUPTED"}


class Run(NamedTuple):
    """How a run on a pretended card ended, and what it did there by step."""

    code: int
    errors: str
    steps: dict[str, dict[str, int]]


@pytest.fixture
def run_on_card(environment, tmp_path) -> Callable[..., Run]:
    def run(arguments: list[str], **more: str) -> Run:
        path = tmp_path / "account.json"
        command = [sys.executable, "-m", "tests.pretended_cuda.run", str(path), *arguments]
        done = subprocess.run(
            command, cwd=PROJECT, env=environment | more, stderr=subprocess.PIPE, text=True, timeout=900
        )
        steps = json.loads(path.read_text())["steps"] if path.exists() else {}
        return Run(done.returncode, done.stderr, steps)

    return run


class Both(NamedTuple):
    cpu: Path
    card: Path
    steps: dict[str, dict[str, int]]


@pytest.fixture(scope="module")
def made() -> dict[str, Both]:
    return {}


@pytest.fixture
def both(made, tiny_args, run_on_card, backbone_file, tmp_path) -> Both:
    """The chain on both devices; made once, read by the tests."""
    if not made:
        arguments = {}
        for device in ("cpu", "cuda"):
            out = tmp_path / device
            settings = {
                **{name: out / name for name in ("cam_out_dir", "cam_vis_dir", "boundary_label_dir")},
                **{f"{name}_weights_name": out / f"{name}.pth" for name in ("cam", "bes", "deeplab")},
                "sem_seg_out_dir": out / "sem_seg", "deeplab_out_dir": out / "deeplab", "log_name": out / "log",
            }  # fmt: skip
            settings |= {"deeplab_backbone_weights": backbone_file, "device": device, "exp_times": 8, "num_workers": 2}
            arguments[device] = tiny_args(**settings, **DEEPLAB, cam_scales="[1.0, 0.5, 1.5, 2.0]")
        subprocess.run([sys.executable, "run_sample.py", *arguments["cpu"]], cwd=PROJECT, check=True, timeout=900)
        done = run_on_card(arguments["cuda"])
        assert done.code == 0, done.errors
        made["both"] = Both(tmp_path / "cpu", tmp_path / "cuda", done.steps)
    return made["both"]


def tensors(path: Path) -> dict[str, torch.Tensor]:
    loaded = torch.load(path, weights_only=True)
    return {name: value for name, value in loaded.items() if isinstance(value, torch.Tensor)}


def test_a_card_gives_what_the_cpu_gives(both, tiny_voc):
    for name in ("cam.pth", "bes.pth", "deeplab.pth"):
        ours, theirs = tensors(both.card / name), tensors(both.cpu / name)
        assert ours.keys() == theirs.keys() and len(ours) > 50
        assert all(tensor.device.type == "cpu" for tensor in ours.values())
        assert max(float((ours[key].float() - theirs[key].float()).abs().max()) for key in ours) <= 1e-5
    lists = tiny_voc / "ImageSets" / "Segmentation"
    for image_id in read_list(lists / "train.txt"):
        ours, theirs = (read_cam(folder / "cam_out_dir" / f"{image_id}.npy") for folder in both[:2])
        np.testing.assert_allclose(ours.cam_full, theirs.cam_full, atol=1e-4)
        check_masks(both, image_id, "boundary_label_dir/{}.png", "sem_seg/{}.png", "sem_seg/{}_crf.png")
    for image_id in read_list(lists / "val.txt"):
        check_masks(both, image_id, "deeplab/{}.png", "deeplab/{}_crf.png")


def check_masks(both: Both, image_id: str, *names: str) -> None:
    for name in names:
        ours, theirs = (read_label_map(folder / name.format(image_id)) for folder in both[:2])
        assert (ours == theirs).mean() >= 0.999, name


def test_the_program_waits_for_the_card_in_known_places_only(both):
    waits = {
        step: {place for place in account if not place.startswith("kernel") and "non_blocking" not in place}
        for step, account in both.steps.items()
    }
    unknown = {step: places - WAITS.get(step, set()) for step, places in waits.items()}
    assert {step: places for step, places in unknown.items() if places} == {}


def count(account: dict[str, int], kind: str, *files: str, but: str = "") -> int:
    """How often a kind of thing was asked for by these files."""
    places = ((entry.rsplit(" ", 1), n) for entry, n in account.items() if not but or but not in entry)
    return sum(n for (found, place), n in places if found.startswith(kind) and place.startswith(files))


def test_kernels_of_a_walk(both):
    account = both.steps["make_sem_seg"]
    kernels = count(account, "kernel", "misc/method/random_walk.py", "misc/method/stencil.py") / IMAGES
    assert 50 < kernels <= 600  # 396; one by one the offsets made 6,153


def test_copies_and_waits_of_an_image_in_make_cam(both):
    account = both.steps["make_cam"]
    uploads = count(account, "upload", "", but="to_device") - account.get("upload misc/pixels.py:_constants", 0)
    assert uploads / IMAGES <= 4  # 2: all scales in one, and the classes
    assert count(account, "download", "") / IMAGES <= 1  # all maps in one
    assert count(account, "sync", "") == 0


def test_a_training_sends_each_part_of_a_batch_once_and_waits_for_none(both):
    """Three of train_cam: images, where they lie in the crop, labels. What follows a step is every five steps."""
    account = both.steps["train_cam"]
    assert count(account, "upload non_blocking", "misc/train") == 3 * 3  # batches, the validation's among them
    assert count(account, "sync", "misc/train") <= 2 and count(account, "download", "misc/train") <= 1


def test_a_training_on_a_card_goes_on_where_it_was(run_on_card, tiny_args, tmp_path):
    """State of a card, saved, read and put on a card again: the same bytes as undisturbed."""
    weights = {}
    for name in ("undisturbed", "interrupted"):
        path = tmp_path / name / "cam.pth"
        arguments = [*tiny_args(device="cuda", cam_num_epoches=2, cam_weights_name=path), *only("train_cam")]
        if name == "interrupted":
            ended = run_on_card(arguments, INTERRUPTED="yes")
            assert ended.code == 9 and not path.exists() and Path(f"{path}.unfinished").exists(), ended.errors
        done = run_on_card(arguments)
        assert done.code == 0, done.errors
        weights[name] = tensors(path)
    assert "going on after step 2 of 4" in (tmp_path / "log.log").read_text()
    for name, tensor in weights["undisturbed"].items():
        assert torch.equal(tensor, weights["interrupted"][name]), name


def test_two_processes_on_a_card_each(environment, tiny_args, tmp_path):
    """Who takes which card, what goes by NCCL and what by gloo, and the weights that one process makes."""

    def arguments(name: str, device: str) -> list[str]:
        path = tmp_path / name / "cam.pth"
        return [*tiny_args(device=device, cam_weights_name=path, cam_learning_rate=0.1), *only("train_cam")]

    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone"]
    account = tmp_path / "account"
    done = subprocess.run(
        [*torchrun, "-m", "tests.pretended_cuda.run", str(account), *arguments("two", "cuda")],
        cwd=PROJECT, env=environment, stderr=subprocess.PIPE, text=True, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for rank in range(2):
        found = json.loads(Path(f"{account}{rank}").read_text())
        assert found["cards"] == [f"cuda:{rank}"]
        exchanged = found["exchanged"]
        assert [entry for entry in exchanged if entry[0] == "new_group"] == [["new_group", "nccl", 1800]]  # no week
        networks = [entry for entry in exchanged if entry[0] == "DistributedDataParallel"]
        assert networks == [["DistributedDataParallel", f"cuda:{rank}"]]
        assert {entry[1] for entry in exchanged if entry[0] == "all_reduce"} == {"cpu", "cuda"}
    assert main(arguments("one", "cpu")) == 0
    ours, theirs = (tensors(tmp_path / name / "cam.pth") for name in ("two", "one"))
    assert max(float((ours[key].float() - theirs[key].float()).abs().max()) for key in ours) <= 1e-5


REFUSED = {
    "card + torch.ones(3)": "same device",
    "torch.ones(3)[torch.tensor([0], device='cuda')]": "same device",
    "torch.mm(card[None], torch.ones(3, 1))": "same device",
    "card + torch.tensor(2.0)": "",  # a number goes with any device
    "beside + 1": "did not wait",
    "main.wait_event(event), beside + 1": "record_stream",
    "main.wait_event(event), beside.record_stream(main), beside + 1": "",
}


def test_the_pretended_card_refuses_what_a_card_would():
    """Each of these expressions, in their order, with what is said of it."""
    script = """
import json, sys, torch
from tests.pretended_cuda.device import pretended
with pretended():
    card, main, stream = torch.ones(3, device="cuda"), torch.cuda.current_stream(), torch.cuda.Stream("cuda")
    with torch.cuda.stream(stream):
        beside, event = torch.ones(3, device="cuda"), stream.record_event()
    said = []
    for expression in json.loads(sys.argv[1]):
        try:
            eval(expression)
            said.append("")
        except RuntimeError as error:
            said.append(str(error))
print(json.dumps(said))
"""
    command = [sys.executable, "-c", script, json.dumps(list(REFUSED))]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True)
    for (expression, expected), said in zip(REFUSED.items(), json.loads(done.stdout), strict=True):
        assert expected in said and bool(expected) == bool(said), expression
