"""A data set of COCO's size: what a run opens and does grows with the number of images, and no faster."""

import builtins
import io
import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from misc.config import Config, read_config
from misc.errors import InputError
from misc.formats.cam_file import write_compact_cam
from misc.formats.compact_cam import ScaleMaps
from misc.formats.images import write_grey
from misc.run.chain import look, run_chain
from run_sample import STEPS
from step.shared.values import IMAGES_LOOKED_AT
from voc12.first_look import MASKS_LOOKED_AT
from voc12.saliency_look import MAPS_LOOKED_AT

COCO = 82_000  # images of train2014 that show a class
MOST_LINKS = 20_000  # images for one file, of which a step writes three; some file systems allow 65,000 links
SWITCHED_OFF = ("eval_cam_pass", "eval_sem_seg_pass")  # they read all maps whatever was done before


class Large:
    """A data set of `n` images of 8×8, all of them links to a few files, and the settings of its chain."""

    def __init__(self, root: Path, n: int) -> None:
        self.root, self.ids = root, [f"COCO_train2014_{number:012d}" for number in range(1, n + 1)]
        self._sources: dict[tuple[str, int], Path] = {}
        lists = root / "ImageSets" / "Segmentation"
        for folder in (lists, root / "JPEGImages", root / "Sal", root / "out", root / "sources"):
            folder.mkdir(parents=True)
        (lists / "train.txt").write_text("".join(f"{image_id}\n" for image_id in self.ids))
        (root / "classes.txt").write_text("cat\ndog\n")
        (root / "labels.txt").write_text("".join(f"{image_id} 0 1\n" for image_id in self.ids))
        for number, image_id in enumerate(self.ids):
            self.write(root / "JPEGImages" / f"{image_id}.png", number)
            self.write(root / "Sal" / f"{image_id}.png", number)
        values = {
            "voc12_root": root,
            "class_names": root / "classes.txt",
            "cls_labels": root / "labels.txt",
            **dict.fromkeys(("train_aug_list", "train_list", "val_list"), lists / "train.txt"),
            "backbone_weights": "none",
            "device": "cpu",
            "log_name": root / "log",
            "cam_file": "compact",
            "cam_weights_name": root / "out" / "cam.pth",
            "bes_weights_name": root / "out" / "bes.pth",
            **{name: root / "out" / name for name in ("cam_out_dir", "cam_vis_dir", "boundary_label_dir")},
            "sem_seg_out_dir": root / "out" / "sem_seg",
            **dict.fromkeys(SWITCHED_OFF, "false"),
        }
        self.args: Config = read_config([f"--{name}={value}" for name, value in values.items()])
        self.steps = [step for step in STEPS if getattr(self.args, f"{step.name}_pass")]

    def write(self, path: Path, number: int) -> None:
        """A file as a step writes it, for the image of this number: a link."""
        kind = path.suffix, number // MOST_LINKS * 100 + len(path.parent.name)
        if kind not in self._sources:
            source = self._sources[kind] = self.root / "sources" / f"{kind[1]}{path.suffix}"
            if path.suffix == ".npy":
                write_compact_cam(source, ScaleMaps(np.array([0, 1]), (8, 8), (1.0,), [np.ones((2, 1, 1), np.float32)]))
            else:
                write_grey(source, np.zeros((8, 8), np.uint8))
        os.link(self._sources[kind], path)

    def finish(self, *, noted: bool = True) -> list[Path]:
        """Do what a run does, the files of each step being links; returns the files of the images.

        noted     whether the run came to the end of each step, where the manifests note what was made
        """
        checked = look(self.steps, self.args)
        made: list[Path] = []
        for step in self.steps:
            plan = checked.plans[step.name]
            checked.ledger.begin(step.name)
            for path in plan.files():
                path.parent.mkdir(parents=True, exist_ok=True)
            if plan.has_folders:
                for number, image_id in enumerate(self.ids):
                    for path in plan.files([image_id]):
                        self.write(path, number)
                        made.append(path)
            else:
                plan.files()[0].write_text(f"weights of {step.name}")
            if noted or not plan.has_folders:
                checked.ledger.end(step.name)
        return made


@contextmanager
def opened() -> Iterator[Counter[str]]:
    """Counts, by name, how often each file is opened within."""
    counts, really_open = Counter[str](), builtins.open

    def counting(file, *args, **kwargs):
        counts[os.fspath(file) if isinstance(file, (str, Path)) else str(file)] += 1
        return really_open(file, *args, **kwargs)

    builtins.open = io.open = counting
    try:
        yield counts
    finally:
        builtins.open = io.open = really_open


@contextmanager
def called() -> Iterator[Counter[str]]:
    """Counts the calls of functions within."""
    counts = Counter[str]()

    def count(frame, event, argument):
        if event in ("call", "c_call"):
            counts["calls"] += 1

    sys.setprofile(count)
    try:
        yield counts
    finally:
        sys.setprofile(None)


class Compared(str):
    """An image ID that counts with how many others it is compared: a search through a list compares with all."""

    comparisons = 0
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        Compared.comparisons += 1
        return str.__eq__(self, other)


@pytest.fixture
def large(tmp_path) -> Iterator[Callable[[int], Large]]:
    made = []

    def make(n: int) -> Large:
        made.append(Large(tmp_path / str(n), n))
        return made[-1]

    yield make
    for one in made:
        shutil.rmtree(one.root)


@pytest.mark.parametrize("n", [30, pytest.param(COCO, marks=pytest.mark.slow)])
def test_a_resumed_run_opens_each_finished_file_once(large, n):
    there = large(n)
    made = there.finish()
    assert len(made) == 6 * n  # CAM; confidence map, boundary label; mask, mask after CRF, boundary
    with opened() as counts:
        run_chain(STEPS, there.args)
    assert {counts[str(path)] for path in made} == {1}
    inputs = [counts[str(there.root / kind / f"{i}.png")] for kind in ("JPEGImages", "Sal") for i in there.ids]
    # a quick look and the digest, once for all steps; of some maps the values, of some images the range; of more maps
    # the size, and of their images the size and whether EXIF turns them
    looked_at = min(n, MAPS_LOOKED_AT) + min(n, IMAGES_LOOKED_AT) + 3 * min(n, MASKS_LOOKED_AT)
    assert min(inputs) >= 2 and sum(inputs) == 4 * n + looked_at
    others = sum(counts.values()) - len(made) - sum(inputs)
    assert others < 200  # lists, labels, manifests, checkpoints


def test_files_of_a_killed_run_are_opened_to_look_and_to_note_them(large):
    there = large(30)
    made = there.finish(noted=False)
    with opened() as counts:
        run_chain(STEPS, there.args)
    assert {counts[str(path)] for path in made} == {2}


@pytest.mark.slow
@pytest.mark.parametrize("what", ["the first look", "missing files", "a resumed run"])
def test_nothing_grows_faster_than_the_number_of_images(large, monkeypatch, what):
    monkeypatch.setattr(
        "voc12.image_set.read_lines", lambda path, read=Path.read_text: [*map(Compared, read(Path(path)).split())]
    )
    found = {}
    for n in (16, 20, 60, 180):  # the first one imports what is needed; 16 make a batch
        there = large(n)
        if what == "a resumed run":
            there.finish()
        if what == "missing files":
            for image_id in there.ids[::2]:
                (there.root / "JPEGImages" / f"{image_id}.png").unlink()
                (there.root / "Sal" / f"{image_id}.png").unlink()
        Compared.comparisons = 0
        with called() as counts:
            if what == "a resumed run":
                run_chain(STEPS, there.args)
            elif what == "missing files":
                with pytest.raises(InputError, match="missing"):
                    look(there.steps, there.args)
            else:
                look(there.steps, there.args)
        found[n] = np.array([counts["calls"], Compared.comparisons])
    small, large_one = (found[60] - found[20]) / 40, (found[180] - found[60]) / 120
    assert (large_one <= 1.2 * small + 1).all(), (small, large_one)  # of each image more
