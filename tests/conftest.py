"""What many tests need: the golden arrays, a tiny VOC-format set, and settings that fit it."""

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

PROJECT = Path(__file__).resolve().parent.parent
GOLDEN = PROJECT / "tests" / "golden"

# a script that starts the tests in the background makes them, and all the runs they start, ignore Ctrl-C
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--soak", action="store_true", help="the large numbers of kills and of fuzzed files")
    parser.addoption("--device", choices=("cpu", "cuda"), help="only the tests that compute on a device, on this one")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Whole chains first, which take longest: at the end, a worker would wait for the other one's. With --device, leave
    out what the device has no part in."""
    items.sort(key=lambda item: item.path.name not in ("test_distributed.py", "test_chain.py"))
    if config.getoption("--device") is None:
        return
    config.hook.pytest_deselected(items=[item for item in items if not computes_on_device(item)])
    items[:] = filter(computes_on_device, items)


def computes_on_device(item: pytest.Item) -> bool:
    return "device" in getattr(item, "fixturenames", ())


@pytest.fixture(scope="session")
def device(request) -> Any:
    """The torch.device of --device, the CPU without it. Tolerances are float32's: a card computes without TF32."""
    from misc.run.device import pick_device, use_device

    chosen = pick_device(request.config.getoption("--device") or "cpu")
    use_device(chosen, tf32=False)
    return chosen


@pytest.fixture(scope="session")
def effort(request) -> Callable[[Any, Any], Any]:
    """effort(3, 40): how often to try, now or with --soak; or what to try."""
    return lambda usual, soak: soak if request.config.getoption("--soak") else usual


@pytest.fixture(scope="session")
def abandoned() -> Callable[[Path], Path]:
    """abandoned(path): the temporary file of a process that was killed while it wrote `path`."""
    killed = (
        "import os, sys; from misc.files import replacing\nwith replacing(sys.argv[1]) as t: t.touch(); os._exit(0)"
    )

    def write(path: Path) -> Path:
        before = set(path.parent.glob(".*"))
        subprocess.run([sys.executable, "-c", killed, str(path)], check=True, cwd=PROJECT)
        (left,) = set(path.parent.glob(".*")) - before
        return left

    return write


@pytest.fixture(scope="session")
def golden() -> Callable[[str], dict[str, Any]]:
    """golden("random_walk"): the arrays of tests/golden/random_walk.npz by name."""

    def load(name: str) -> dict[str, Any]:
        with np.load(GOLDEN / f"{name}.npz") as arrays:
            return dict(arrays)

    return load


@pytest.fixture(scope="session")
def fill_with_formula() -> Callable[[dict[str, Any]], None]:
    """Overwrite the tensors of a state dict with the formula weights the golden arrays were made with."""
    from tests.golden.formula_weights import fill

    return fill


@pytest.fixture(scope="session")
def tiny_voc(tmp_path_factory) -> Path:
    """A VOC root with four training and two validation images of about 64×64. Not to be changed."""
    from voc12.generated_set import generate

    root = tmp_path_factory.mktemp("tiny_voc")
    generate(root, seed=1, train_images=4, val_images=2, side=64)
    return root


@pytest.fixture(scope="session")
def backbone_file(tmp_path_factory, fill_with_formula) -> Path:
    """A torchvision ResNet-50 state dict, `fc` included, of formula weights."""
    import torch
    from torchvision.models import resnet50

    path = tmp_path_factory.mktemp("backbone") / "resnet50.pth"
    model = resnet50(weights=None)
    fill_with_formula(model.state_dict())
    torch.save(model.state_dict(), path)
    return path


@pytest.fixture
def tiny_args(tiny_voc, backbone_file, tmp_path) -> Callable[..., list[str]]:
    """tiny_args(cam_scales="[1.0]"): a command line for the tiny set with outputs below tmp_path."""

    def arguments(**changes: object) -> list[str]:
        lists = tiny_voc / "ImageSets" / "Segmentation"
        values = {
            "voc12_root": tiny_voc,
            "train_aug_list": lists / "train.txt",
            "train_list": lists / "train.txt",
            "val_list": lists / "val.txt",
            "backbone_weights": backbone_file,
            "num_workers": 0,
            "device": "cpu",
            "cam_crop_size": 64,
            "cam_resize_long": "[56, 72]",
            "cam_batch_size": 2,
            "cam_num_epoches": 1,
            "cam_learning_rate": 0.001,
            "cam_scales": "[1.0, 0.5]",
            "bes_crop_size": 64,
            "bes_batch_size": 2,
            "bes_num_epoches": 1,
            "exp_times": 3,
            "log_name": tmp_path / "log",
            "cam_weights_name": tmp_path / "sess" / "cam.pth",
            "bes_weights_name": tmp_path / "sess" / "bes.pth",
            **{name: tmp_path / name for name in ("cam_out_dir", "cam_vis_dir", "boundary_label_dir")},
            "sem_seg_out_dir": tmp_path / "sem_seg",
            "deeplab_weights_name": tmp_path / "sess" / "deeplab.pth",
            "deeplab_out_dir": tmp_path / "deeplab",
            "report_dir": tmp_path / "report",
            **changes,
        }
        return [f"--{name}={value}" for name, value in values.items()]

    return arguments


@pytest.fixture
def finished_args(tiny_voc, tiny_args, tmp_path) -> Callable[..., list[str]]:
    """tiny_args for a chain whose results are there: CAMs of the truth, masks of it with a corner of class 20.

    The corner of the n-th image is 8·n pixels wide and high, so that the first image scores best.
    """
    from PIL import Image

    from misc.formats.cam_file import CAM, write_cam
    from misc.formats.images import read_label_map, write_grey, write_mask
    from misc.pixels import stride4
    from misc.train.history import History, history_path
    from voc12.image_set import read_list

    for number, image_id in enumerate(read_list(tiny_voc / "ImageSets" / "Segmentation" / "train.txt")):
        with Image.open(tiny_voc / "JPEGImages" / f"{image_id}.jpg") as image:
            height, width = image.height, image.width
        truth = read_label_map(tiny_voc / "SegmentationClass" / f"{image_id}.png")
        mask = np.where(truth == 255, 0, truth).astype(np.uint8)
        keys = np.setdiff1d(truth, [0, 255]).astype(np.int64) - 1
        cam_full = np.array([truth == key + 1 for key in keys], np.float32)
        cam_s4 = np.zeros((len(keys), stride4(height), stride4(width)), np.float32)
        write_cam(tmp_path / "cam_out_dir" / f"{image_id}.npy", CAM(keys, cam_s4, cam_full))
        write_grey(tmp_path / "boundary_label_dir" / f"{image_id}.png", np.full(truth.shape, 150, np.uint8))
        write_grey(tmp_path / "sem_seg" / f"{image_id}_edge.png", np.zeros(cam_s4.shape[1:], np.uint8))
        write_mask(tmp_path / "sem_seg" / f"{image_id}.png", mask)
        mask[: 8 * number, : 8 * number] = 20
        write_mask(tmp_path / "sem_seg" / f"{image_id}_crf.png", mask)
    for name, terms in (("cam", {}), ("bes", {"ground": 0.25, "boundary": 0.5})):
        with History(history_path(tmp_path / "sess" / f"{name}.pth")) as history:
            for step in (5, 10):
                history.add({"step": step, "epoch": 1, "loss": 1 / step, **terms, "lr": [0.1], "images_per_second": 9})

    return tiny_args
