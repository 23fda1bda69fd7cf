"""The rows of the steps in gpu_check: a step as a run of it runs it, at published settings, on generated photographs.

The weights are a formula's, so learning rates are so small that nothing changes; else all settings that cost time are
the published ones.
"""

import importlib
import os
import shutil
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook
from torchvision.models import resnet50

from benchmarks import inputs
from benchmarks.card import KernelRecorder, Utilisation, peak_memory, synchronise
from benchmarks.deeplab_rows import deeplab
from misc.config import Config, available_cores, read_config
from misc.run.chain import run_chain
from misc.run.device import pick_device
from misc.run.plan import Step
from net.deeplab_weights import save_network
from tests.golden.formula_weights import fill
from voc12.image_set import PROJECT

IMAGES_A_STEP = {"train_cam": 16, "train_sbe_boundary": 16, "train_deeplab": 10}  # published
STEPS = (
    "train_cam", "make_cam", "make_boundary_label", "train_sbe_boundary", "make_sem_seg", "train_deeplab",
    "make_deeplab_seg",
)  # fmt: skip
LIKE = ("JPEGImages/{}.jpg", "Sal/{}.png", "SegmentationClass/{}.png", "boundary_label/{}.png", "cams/{}.npy")


@dataclass(frozen=True)
class Effort:
    """How large everything is, and how long it is looked at.

    pictures   different ones; the others are copies
    images     at the most, that a step of inference gets
    few        it gets to warm up
    steps      of a training, at the most, whose time is taken
    profiled   images, or steps of a training, under the profiler
    seconds    that a timed stretch is to take, if there are images enough
    """

    size: inputs.Size = (375, 500)
    pictures: int = 24
    images: int = 256
    few: int = 16
    steps: int = 60
    profiled: int = 8
    seconds: float = 5

    @property
    def warm(self) -> int:
        """Steps of a training before its time is taken: until then it has batches that were loaded while it started."""
        return 2 * min(available_cores(), 64) + 2

    @property
    def training_steps(self) -> int:
        return self.warm + self.steps + self.profiled


class TinyEffort(Effort):
    @property
    def warm(self) -> int:
        return 1


TINY = TinyEffort(size=(60, 80), pictures=4, images=4, few=2, steps=1, profiled=1, seconds=0.1)
TINY_SETTINGS = {
    "cam_crop_size": 64, "cam_resize_long": "[56,72]", "cam_batch_size": 2, "bes_crop_size": 64, "bes_batch_size": 2,
    "deeplab_crop_size": 65, "deeplab_batch_size": 1, "num_workers": 1, "exp_times": 3,
}  # fmt: skip
TINY_IMAGES_A_STEP = 2


def effort_of(job: dict[str, Any]) -> Effort:
    return TINY if job["tiny"] else Effort()


def images_a_step(job: dict[str, Any]) -> int:
    return TINY_IMAGES_A_STEP if job["tiny"] else IMAGES_A_STEP[job["part"]]


def prepare(job: dict[str, Any]) -> dict[str, Any]:
    """Write the photographs and the weights that the parts of the job ask for, unless they are there."""
    folder, effort = Path(job["folder"]), effort_of(job)
    root = folder / "voc"
    inputs.write_set(root, effort.size, effort.pictures)
    trainings = set(job["parts"]) & IMAGES_A_STEP.keys()
    steps = effort.training_steps * (TINY_IMAGES_A_STEP if job["tiny"] else max(IMAGES_A_STEP.values()))
    ids = write_copies(root, max(effort.images, steps if trainings else 0))
    inputs.write_weights(folder / "weights")
    write_backbone(folder / "weights" / "backbone.pth")
    if set(job["parts"]) & {"train_deeplab", "make_deeplab_seg"} and not (folder / "weights" / "deeplab.pth").exists():
        save_network(deeplab(), folder / "weights" / "deeplab.pth")
    return {"images": len(ids)}


def write_copies(root: Path, images: int) -> list[str]:
    """Make a set of `inputs.write_set` one of that many images, as copies of its own; all.txt and all_labels.txt."""
    lines = (root / "labels.txt").read_text().splitlines()
    copies = []
    for number in range(images):
        image_id, _, classes = lines[number % len(lines)].partition(" ")
        copies.append(f"copy_{number:05d} {classes}")
        for pattern in LIKE:
            source, target = (root / pattern.format(name) for name in (image_id, copies[-1].split()[0]))
            if not target.exists():
                try:
                    os.link(source, target)
                except OSError:  # a file system without links
                    shutil.copyfile(source, target)
    (root / "all_labels.txt").write_text("\n".join([*copies, ""]))
    ids = [line.split()[0] for line in copies]
    (root / "all.txt").write_text("\n".join([*ids, ""]))
    return ids


def write_backbone(path: Path) -> None:
    """A ResNet-50 state dict of formula weights."""
    if not path.exists():
        model = resnet50(weights=None)
        fill(model.state_dict())
        torch.save(model.state_dict(), path)


def arguments(job: dict[str, Any], step: str, images: int) -> list[str]:
    """The command line of a run of one step over the first images of the set."""
    folder = Path(job["folder"])
    root, out, weights = folder / "voc", folder / "out" / step, folder / "weights"
    ids = (root / "all.txt").read_text().split()[:images]
    out.mkdir(parents=True, exist_ok=True)
    taken, one = out / f"{images}.txt", out / "one.txt"
    taken.write_text("\n".join([*ids, ""]))
    one.write_text(f"{ids[0]}\n")
    values: dict[str, object] = {
        "voc12_root": root,
        "class_names": PROJECT / "voc12" / "class_names.txt",
        "cls_labels": root / "all_labels.txt",
        **dict.fromkeys(("train_aug_list", "train_list", "infer_list", "deeplab_infer_list"), taken),
        "val_list": one,
        "device": job["device"],
        "overwrite": "true",
        "log_name": out / "log",
        "backbone_weights": weights / "backbone.pth",
        "cam_weights_name": weights / "classifier.pth",
        "bes_weights_name": weights / "boundary.pth",
        "cam_out_dir": root / "cams",
        "cam_vis_dir": out / "cam_vis",
        "boundary_label_dir": root / "boundary_label",
        "sem_seg_out_dir": out / "sem_seg",
        "deeplab_mask_dir": root / "SegmentationClass",
        "deeplab_mask_suffix": "none",
        "deeplab_weights_name": weights / "deeplab.pth",
        "deeplab_backbone_weights": weights / "deeplab.pth",
        "deeplab_out_dir": out / "deeplab",
        "cam_num_epoches": 1,
        "bes_num_epoches": 1,
        "deeplab_steps": effort_of(job).training_steps,
        "cam_learning_rate": 1e-6,
        "bes_learning_rate": 1e-6,
        "deeplab_learning_rate": 1e-9,
        **(TINY_SETTINGS if job["tiny"] else {}),
        **own_outputs(step, out),
    }
    switches = {f.name: f.name == f"{step}_pass" for f in fields(Config) if f.name.endswith("_pass")}
    return [f"--{name}={value}" for name, value in (values | switches).items()]


def own_outputs(step: str, out: Path) -> dict[str, Path]:
    """Where a step writes what others read: their inputs stay as they are."""
    return {
        "train_cam": {"cam_weights_name": out / "cam.pth"},
        "train_sbe_boundary": {"bes_weights_name": out / "bes.pth"},
        "train_deeplab": {"deeplab_weights_name": out / "deeplab.pth"},
        "make_cam": {"cam_out_dir": out / "cams"},
        "make_boundary_label": {"boundary_label_dir": out / "boundary_label"},
    }.get(step, {})


def run(job: dict[str, Any], images: int, around: AbstractContextManager[Any]) -> float:
    """Run the step of a job over so many images, its `make` within `around`; returns the seconds that `make` took."""
    module = importlib.import_module(f"step.{job['part']}")
    device, make = pick_device(job["device"]), module.make
    taken = 0.0

    def timed(args: Config, ids: list[str]) -> None:
        nonlocal taken
        with around:
            begun = time.perf_counter()
            make(args, ids)
            synchronise(device)
            taken = time.perf_counter() - begun

    with patch.object(module, "make", timed):
        run_chain([Step(job["part"])], read_config(arguments(job, job["part"], images)))
    return taken


def measure(job: dict[str, Any]) -> dict[str, Any]:
    """The row of a step: images, seconds, images a second, kernels, busy share, utilisation, peak memory."""
    try:
        return training(job) if job["part"] in IMAGES_A_STEP else inference(job)
    finally:
        shutil.rmtree(Path(job["folder"]) / "out" / job["part"], ignore_errors=True)


def inference(job: dict[str, Any]) -> dict[str, Any]:
    """Few images twice, many, and few again under the profiler.

    What many take beyond what few take is the time of the images alone: without loading the network, and after cuDNN
    has chosen its algorithms.
    """
    effort, device = effort_of(job), pick_device(job["device"])
    first, start = (run(job, effort.few, nullcontext()) for _ in range(2))
    wanted = int(effort.seconds * effort.few / start)
    images = min(effort.images, max(2 * effort.few, wanted))
    with_card = Utilisation(device)
    seconds = run(job, images, with_card)
    memory = peak_memory(device)
    recorder = KernelRecorder(device)
    run(job, effort.profiled, recorder)
    beyond = seconds - start
    speed = (images - effort.few) / beyond if beyond > 0 else images / seconds
    return {
        "images": images, "seconds": seconds, "speed": speed, "first_seconds": first, "first_images": effort.few,
        "utilisation": with_card.mean, "memory": memory, **kernel_figures(recorder, effort.profiled, "image"),
    }  # fmt: skip


def training(job: dict[str, Any]) -> dict[str, Any]:
    """A training that is left once its steps were timed and some more were profiled."""
    effort, device = effort_of(job), pick_device(job["device"])
    meter = StepMeter(device, effort)
    hook = register_optimizer_step_post_hook(meter)
    begun = time.perf_counter()
    try:
        run(job, effort.training_steps * images_a_step(job), nullcontext())
    except Enough:
        pass
    finally:
        hook.remove()
    images = meter.timed * images_a_step(job)
    return {
        "images": images, "seconds": meter.seconds, "speed": images / meter.seconds,
        "first_seconds": meter.begun - begun, "first_images": effort.warm * images_a_step(job),
        "utilisation": meter.utilisation.mean, "memory": meter.memory,
        **kernel_figures(meter.recorder, effort.profiled, "step"),
    }  # fmt: skip


def kernel_figures(recorder: KernelRecorder, units: int, unit: str) -> dict[str, Any]:
    found = recorder.kernels
    if found is None:
        return {"kernels": None, "busy": None, "unit": unit}
    return {"kernels": found.number / units, "busy": found.busy / found.span if found.span else None, "unit": unit}


class Enough(Exception):
    """A training has shown what it takes."""


class StepMeter:
    """Called after each step of the optimiser: waits, takes the time of some steps, records the kernels of some more.

    Raises    Enough then
    """

    def __init__(self, device: torch.device, effort: Effort, clock: Callable[[], float] = time.perf_counter) -> None:
        self.device, self.effort, self.clock = device, effort, clock
        self.done = self.timed = 0
        self.begun = self.seconds = 0.0
        self.memory: dict[str, int] | None = None
        self.utilisation, self.recorder = Utilisation(device), KernelRecorder(device)
        self._looking = ExitStack()

    def __call__(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        self.done += 1
        if self.done == self.effort.warm:
            synchronise(self.device)
            self._looking.enter_context(self.utilisation)
            self.begun = self.clock()
        elif self.done > self.effort.warm and not self.timed:
            taken, steps = self.clock() - self.begun, self.done - self.effort.warm
            if steps == self.effort.steps or taken >= self.effort.seconds:
                synchronise(self.device)
                self.seconds, self.timed = self.clock() - self.begun, steps
                self._looking.close()
                self.memory = peak_memory(self.device)
                self.recorder.start()
        elif self.timed and self.done == self.effort.warm + self.timed + self.effort.profiled:
            self.recorder.stop()
            raise Enough
