"""The parts of gpu_check that start programs of their own: the golden tests, and two processes that train together."""

import os
import subprocess
import sys
import tempfile
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import torch

from benchmarks import inputs
from benchmarks.gpu_steps import write_backbone
from misc.config import Config
from misc.run.device import describe
from voc12.image_set import PROJECT

TESTS = ("tests/misc/method", "tests/misc/crf", "tests/misc/train", "tests/net", "tests/step")
TRAINED = {"train_cam": "cam.pth", "train_sbe_boundary": "bes.pth"}
IMAGES, BATCH = 10, 5  # two processes do not divide the batch
MOST_CHARACTERS = 300  # of what a failed test says


def golden(job: dict[str, Any]) -> dict[str, Any]:
    """The tests that compute on a device, on this one, by the counts that pytest gives."""
    if find_spec("pytest") is None:
        return {"not_run": "pytest is not installed here (pip install -r requirements-dev.txt)"}
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider", "-W", "default"]
        command += ["--continue-on-collection-errors", f"--device={job['device'].partition(':')[0]}"]
        command += [f"--junitxml={report}", *TESTS]
        # other packages' plugins are none of these tests' business
        environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        subprocess.run(command, cwd=PROJECT, env=environment, check=False)
        if not report.exists():
            raise SystemExit("pytest ended before it could report")
        return counts_of(ElementTree.parse(report).getroot())


def counts_of(report: ElementTree.Element) -> dict[str, Any]:
    """Passed, skipped and failed tests of a JUnit report; of each that failed its name and what it says."""
    cases = list(report.iter("testcase"))
    skipped = sum(case.find("skipped") is not None for case in cases)
    failed = []
    for case in cases:
        for problem in (*case.findall("failure"), *case.findall("error")):
            text = " ".join((problem.get("message") or problem.text or "no message").split())
            failed.append(f"{case.get('classname')}::{case.get('name')}: {text[:MOST_CHARACTERS]}")
    return {"passed": len(cases) - skipped - len(failed), "skipped": skipped, "failed": failed}


def ranks(job: dict[str, Any]) -> dict[str, Any]:
    """A tiny training by one process and by two, one a card: how far their weights lie apart, and and moved."""
    if job["device"] != "cpu" and torch.cuda.device_count() < 2:
        return {"not_run": f"it needs two cards, and there is one ({describe(torch.device('cuda', 0))})"}
    folder = Path(job["folder"]) / "ranks"
    inputs.write_set(folder / "voc", inputs.TINY.image, IMAGES)
    write_backbone(folder / "backbone.pth")
    for processes in (1, 2):
        launcher = ["-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone"] if processes == 2 else []
        command = [sys.executable, *launcher, str(PROJECT / "run_sample.py"), *arguments(job, folder, processes)]
        subprocess.run(command, cwd=PROJECT, check=True)
    return {"rows": [{"step": step, **apart(folder, name)} for step, name in TRAINED.items()]}


def arguments(job: dict[str, Any], folder: Path, processes: int) -> list[str]:
    root, out = folder / "voc", folder / str(processes)
    one = folder / "one.txt"
    one.write_text((root / "list.txt").read_text().split()[0] + "\n")
    values: dict[str, object] = {
        "voc12_root": root,
        "cls_labels": root / "labels.txt",
        **dict.fromkeys(("train_aug_list", "train_list"), root / "list.txt"),
        "val_list": one,
        "boundary_label_dir": root / "boundary_label",
        "backbone_weights": folder / "backbone.pth",
        "device": job["device"],
        "num_workers": 1,
        "overwrite": "true",
        "tf32": "false",
        "deterministic": "true",
        "log_name": out / "log",
        "cam_weights_name": out / "cam.pth",
        "bes_weights_name": out / "bes.pth",
        "cam_crop_size": 64,
        "cam_resize_long": "[56,72]",
        "cam_batch_size": BATCH,
        "cam_num_epoches": 1,
        "bes_crop_size": 64,
        "bes_batch_size": BATCH,
        "bes_num_epoches": 1,
    }
    switches = {f.name: f.name.removesuffix("_pass") in TRAINED for f in fields(Config) if f.name.endswith("_pass")}
    return [f"--{name}={value}" for name, value in (values | switches).items()]


def apart(folder: Path, name: str) -> dict[str, Any]:
    """The largest difference between the weights of one process and of two; and from where they began.

    Layers whose first values are drawn are left out of the latter.
    """
    one, two = (torch.load(folder / processes / name, weights_only=True) for processes in ("1", "2"))
    begin = torch.load(folder / "backbone.pth", weights_only=True)
    difference = max(float((one[key] - two[key]).abs().max()) for key in one)
    moved = max(
        (float((one[key] - begin[key.removeprefix("resnet50.")]).abs().max())
         for key in one if key.removeprefix("resnet50.") in begin),
        default=0.0,
    )  # fmt: skip
    return {"difference": difference, "moved": moved}
