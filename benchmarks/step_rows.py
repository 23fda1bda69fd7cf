"""The comparisons of whole inference steps, from files to files: ours through the step's own `run`."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks import inputs, published, published_networks
from benchmarks.inputs import N_CLASSES, Scale, Size
from benchmarks.rows import Call, Row, Target
from misc.config import Config
from misc.formats.cam_file import read_cam
from misc.formats.checkpoint import load_weights
from step import make_boundary_label, make_cam, make_sem_seg

OUTPUTS = ("cam_out_dir", "cam_vis_dir", "boundary_label_dir", "sem_seg_out_dir")


class StepRow(Row):
    """Both sides read the same set and write into folders of their own; loading the network is part of the call."""

    def __init__(self, scale: Scale, folder: Path, size: Size | None = None) -> None:
        super().__init__(scale, folder)
        self.here, self.there = folder / "ours", folder / "published"
        self.there.mkdir(parents=True, exist_ok=True)
        self.args = inputs.settings(self.root, self.here, self.weights)
        lines = (self.root / "labels.txt").read_text().splitlines()[: scale.images]
        self.keys = {line.split()[0]: np.array(line.split()[1:], np.int64) for line in lines}

    def afresh(self) -> Config:
        """The settings of our side, its outputs of the last repetition removed: the steps keep what is finished."""
        for name in OUTPUTS:
            folder = Path(getattr(self.args, name))
            if folder.is_relative_to(self.here):
                shutil.rmtree(folder, ignore_errors=True)
        return self.args

    def image(self, name: str) -> Path:
        return self.root / "JPEGImages" / f"{name}.jpg"

    def filled(self, network: Any, file: str) -> Any:
        load_weights(network, self.weights / file)
        return network

    def published_names(self) -> list[str]:
        return list(self.keys)

    def published_all(self) -> None:
        raise NotImplementedError

    def our_all(self) -> None:
        raise NotImplementedError

    def published(self) -> Call:
        return Call(self.published_all, len(self.published_names()))

    def ours(self) -> Call:
        return Call(self.our_all, len(self.keys))

    def pixels(self, ours: str, published: str, ending: str = ".png") -> np.ndarray:
        """Absolute differences of all pixels of all images that both sides made, in one row."""
        folders = self.here / ours, self.there / published
        parts = []
        for name in self.published_names():
            here, there = (np.array(Image.open(folder / f"{name}{ending}"), np.int64) for folder in folders)
            parts.append(np.abs(here - there).ravel())
        return np.concatenate(parts)


class MakeCam(StepRow):
    title = "make_cam, 2 classes of 20"
    targets: tuple[Target, ...] = (Target("ratio", 1.8), Target("difference", 1e-4))

    def our_all(self) -> None:
        make_cam.make(self.afresh(), list(self.keys))

    def __init__(self, scale: Scale, folder: Path, size: Size | None = None) -> None:
        super().__init__(scale, folder)
        self.args = inputs.settings(self.root, self.here, self.weights, cam_out_dir=str(self.here / "cams"))
        (self.there / "cams").mkdir(exist_ok=True)

    def published_all(self) -> None:
        network = self.filled(published_networks.PublishedClassifier(N_CLASSES), "classifier.pth")
        for name, keys in self.keys.items():
            target = self.there / "cams" / f"{name}.npy"
            published.make_cam(network, self.image(name), keys, target, self.args.cam_scales)

    def differences(self, published_result: None, ours: None) -> dict[str, float]:
        found = []
        for name in self.keys:
            here, there = (read_cam(folder / "cams" / f"{name}.npy") for folder in (self.here, self.there))
            assert np.array_equal(here.keys, there.keys)
            for a, b in (here.cam_s4, there.cam_s4), (here.cam_full, there.cam_full):
                found.append(np.abs(a - b).max())
        return {"CAMs": float(np.max(found))}


class MakeBoundaryLabel(StepRow):
    title = "make_boundary_label, 2 classes of 20"
    targets: tuple[Target, ...] = (Target("ratio", 8), Target("difference", 1e-3))

    def our_all(self) -> None:
        make_boundary_label.make(self.afresh(), list(self.keys))

    def published_all(self) -> None:
        for folder in ("cam_vis", "boundary_label"):
            (self.there / folder).mkdir(exist_ok=True)
        for name in self.keys:
            published.make_boundary_label(
                self.image(name),
                self.root / "Sal" / f"{name}.png",
                self.root / "cams" / f"{name}.npy",
                self.there / "cam_vis" / f"{name}.png",
                self.there / "boundary_label" / f"{name}.png",
                N_CLASSES,
            )

    def differences(self, published_result: None, ours: None) -> dict[str, float]:
        labels, confident = (self.pixels(name, name) for name in ("boundary_label", "cam_vis"))
        return {
            "share of label pixels": float((labels > 0).mean()),
            "share of confidence pixels": float((confident > 0).mean()),
        }


class MakeSemSeg(StepRow):
    title = "make_sem_seg, 2 classes"
    slow = True
    targets: tuple[Target, ...] = (Target("ratio", 260), Target("difference", 1e-3))

    def our_all(self) -> None:
        make_sem_seg.make(self.afresh(), list(self.keys))

    def published_names(self) -> list[str]:
        return list(self.keys)[: self.scale.slow_images]

    def published_all(self) -> None:
        (self.there / "sem_seg").mkdir(exist_ok=True)
        network = self.filled(published_networks.PublishedBoundaryNetwork(), "boundary.pth")
        for name in self.published_names():
            cam = self.root / "cams" / f"{name}.npy"
            published.make_sem_seg(network, self.image(name), cam, self.there / "sem_seg")

    def differences(self, published_result: None, ours: None) -> dict[str, float]:
        mask, crf, edge = (self.pixels("sem_seg", "sem_seg", f"{ending}.png") for ending in ("", "_crf", "_edge"))
        return {
            "share of mask pixels": float((mask > 0).mean()),
            "share of CRF mask pixels": float((crf > 0).mean()),
            "edge, of 255": float(edge.max()),
        }
