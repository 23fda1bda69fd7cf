"""Each kind of input: what is said of it before a run, and what the files that are made with it depend on."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from misc.config import Config
from misc.formats.cam_file import CAM, write_cam
from misc.formats.checkpoint import save_weights
from misc.formats.images import write_mask
from misc.run.plan import Folder, Input
from misc.run.preflight import Preflight
from step.shared import inputs
from step.shared.cams import Cams
from step.shared.data import DataSet
from voc12.image_set import read_list


class Place:
    """A copy of the tiny set, settings that name files beside it, and the IDs of its training list."""

    def __init__(self, tiny_voc: Path, folder: Path) -> None:
        self.root, self.out = Path(shutil.copytree(tiny_voc, folder / "voc")), folder / "out"
        self.list = self.root / "ImageSets" / "Segmentation" / "train.txt"
        self.ids = read_list(self.list)

    def args(self, **changes: object) -> Config:
        names = ("cam_out_dir", "boundary_label_dir", "sem_seg_out_dir")
        return Config(voc12_root=str(self.root), **{name: str(self.out) for name in names}, **changes)

    @property
    def data(self) -> DataSet:
        return DataSet(self.args())


@pytest.fixture
def place(tiny_voc, tmp_path) -> Place:
    return Place(tiny_voc, tmp_path)


def problems(item: Input, *, to_come: list[Path] | None = None) -> list[str]:
    """What is said of an input; to_come: files that an earlier step will have written."""
    preflight = Preflight()
    preflight.writes(to_come or [])
    item.look(preflight)
    return preflight.problems


def folder_of(item: Input) -> Folder:
    folder = item.folder()
    assert folder is not None and folder.ids
    return folder


def test_a_list(place, tmp_path, caplog):
    caplog.set_level("INFO")
    good, missing = inputs.ImageList(place.list), inputs.ImageList(tmp_path / "missing.txt")
    assert problems(good) == [] and good.ids == place.ids
    assert missing.ids == []  # what hangs on the list is looked at all the same
    (problem,) = problems(missing)
    assert "missing.txt: no such list" in problem
    place.list.write_text(f"{place.ids[0]}\n{place.ids[0]}\n")
    twice = inputs.ImageList(place.list)
    assert twice.ids == place.ids[:1] and "1 duplicate" not in caplog.text  # said when it is looked at
    assert problems(twice) == [] and "1 duplicate" in caplog.text


def test_images(place):
    images = inputs.Images(place.data, place.ids)
    first, second = (place.root / "JPEGImages" / f"{image_id}.jpg" for image_id in place.ids[:2])
    assert problems(images) == [] and images.parts(place.ids[0]) == [first]
    assert not images.whole() and images.folder() is None
    first.unlink()
    second.write_bytes(b"no image")
    missing, unreadable = problems(images)
    assert str(first) in missing and str(second) in unreadable


def test_labels(place):
    labels = inputs.Labels(place.data, place.ids)
    assert problems(labels) == []
    one, other = (labels.parts(image_id) for image_id in place.ids[:2])
    assert one != other
    names = place.root / "names.txt"
    names.write_text("\n".join([*place.data.class_names, "unicorn"]))
    more = inputs.Labels(DataSet(place.args(class_names=str(names))), place.ids)
    assert more.parts(place.ids[0]) != one  # the network has one more class
    (place.root / "Annotations" / f"{place.ids[0]}.xml").unlink()
    (problem,) = problems(inputs.Labels(place.data, place.ids))
    assert f"no label for {place.ids[0]}" in problem
    (problem,) = problems(inputs.Labels(DataSet(place.args(cls_labels="missing.txt")), place.ids))
    assert "missing.txt" in problem  # once, not for each image


def kinds(place: Place) -> list[tuple[Input, str, Path]]:
    """The inputs that lie in a folder that an earlier step may have made; its setting; their first file."""
    args, data, ids, first = place.args(), place.data, place.ids, place.ids[0]
    return [
        (inputs.SaliencyMaps(data, ids), "saliency_dir", place.root / "Sal" / f"{first}.png"),
        (inputs.BoundaryLabels(args, ids), "boundary_label_dir", place.out / f"{first}.png"),
        (inputs.Masks(args, ids), "sem_seg_out_dir", place.out / f"{first}.png"),
        (Cams(args, data, ids, data.root.image), "cam_out_dir", place.out / f"{first}.npy"),
    ]


@pytest.mark.parametrize(
    ("kind", "remedy"),
    enumerate(["--make_saliency_pass", "make_boundary_label", "make_sem_seg", "--cam_out_dir"]),
)
def test_files_in_a_folder(place, kind, remedy):
    item, setting, first = kinds(place)[kind]
    folder = folder_of(item)
    assert (folder.setting, folder.path, folder.file_of(place.ids[0])) == (setting, first.parent, first)
    assert not item.whole() and not list(item.parts(place.ids[0]))  # the folder's manifest tells of each file
    shutil.rmtree(first.parent, ignore_errors=True)
    assert all(remedy in problem for problem in problems(item)) and problems(item)
    endings = {f"{image_id}{ending}" for image_id in place.ids for ending in (".png", "_crf.png", ".npy")}
    assert problems(item, to_come=[first.parent / name for name in endings]) == []
    first.parent.mkdir(parents=True)
    first.write_bytes(b"damaged")
    assert any(f"unreadable: {first}" in problem for problem in problems(item))


def test_sound_files_in_a_folder(place):
    for image_id in place.ids:
        for ending in (".png", "_crf.png"):
            write_mask(place.out / f"{image_id}{ending}", np.zeros((4, 8), np.uint8))
    assert [problems(item) for item, *_ in kinds(place)[:3]] == [[], [], []]


def test_cams_are_read_and_doubt_is_told(place):
    args = place.args(cam_format="classes")
    assert (
        "--cam_format classes"
        in problems(
            Cams(args, place.data, place.ids, place.data.root.image),
            to_come=[place.out / f"{i}.npy" for i in place.ids],
        )[0]
    )
    for image_id in place.ids:
        keys = place.data.labels[image_id]
        write_cam(place.out / f"{image_id}.npy", CAM(keys, *(np.zeros((len(keys), 1, 1), np.float32),) * 2))
    (problem,) = problems(Cams(place.args(), place.data, place.ids, place.data.root.image))
    assert "4 of 4 CAMs looked at unusable" in problem and "another image size" in problem


def test_ground_truth_elsewhere(place):
    """SBD's masks in SegmentationClassAug, and the list that CVAT writes."""
    augmented = place.root / "SegmentationClassAug"
    (place.root / "SegmentationClass").rename(augmented)
    place.list.rename(place.list.with_name("default.txt"))
    (problem,) = problems(inputs.GroundTruth(place.args(), place.data))
    assert "list of ground truth missing" in problem and "default" in problem
    for name in ("default", str(place.list.with_name("default.txt"))):
        args = place.args(chainer_eval_set=name)
        (problem,) = problems(inputs.GroundTruth(args, DataSet(args)))
        assert f"--truth_dir {augmented}" in problem
        found = place.args(chainer_eval_set=name, truth_dir=str(augmented))
        truth = inputs.GroundTruth(found, DataSet(found))
        assert truth.ids == place.ids and problems(truth) == []


def test_ground_truth(place):
    val = place.list.with_name("val.txt")
    truth = inputs.GroundTruth(place.args(sweep_list=str(val)), place.data)
    assert (truth.evaluated, truth.swept) == (place.ids, read_list(val)) and truth.ids == place.ids + truth.swept
    assert problems(truth) == []
    place.data.root.truth(truth.swept[0]).unlink()
    (problem,) = problems(truth)
    assert truth.swept[0] in problem and "--no_eval_cam_pass" in problem
    place.list.unlink()
    problem, _ = problems(inputs.GroundTruth(place.args(sweep_list=str(val)), place.data))
    assert str(place.list) in problem and "--no_eval_cam_pass" in problem  # the list is missed once


def test_a_network(tmp_path):
    path = tmp_path / "net.pth"
    network = inputs.Network("cam_weights_name", str(path), lambda: nn.Linear(2, 3), "train_cam")
    assert network.whole() == {"cam_weights_name": path}
    (problem,) = problems(network)
    assert str(path) in problem and "run train_cam first" in problem and "--cam_weights_name" in problem
    assert problems(network, to_come=[path]) == []
    save_weights(nn.Linear(2, 3), path)
    assert problems(network) == []
    save_weights(nn.Linear(2, 4), path)
    (problem,) = problems(network)
    assert str(path) in problem
    assert problems(network, to_come=[path]) == []  # it will be another one


def test_a_backbone(backbone_file, tmp_path):
    by_name, file, missing = map(inputs.Backbone, ("none", str(backbone_file), str(tmp_path / "missing.pth")))
    assert by_name.whole() == {"backbone_weights": "none"} and file.whole() == {"backbone_weights": backbone_file}
    assert problems(by_name) == problems(file) == []
    (problem,) = problems(missing)
    assert "missing.pth" in problem
    assert problems(missing, to_come=[tmp_path / "missing.pth"]) == []
    torch.save({"fc.weight": torch.zeros(1)}, tmp_path / "missing.pth")
    assert "missing.pth" in problems(missing)[0]


def test_what_a_training_needs(monkeypatch):
    def said(batch_size: int, images: int) -> list[str]:
        return problems(inputs.Training("cam_batch_size", batch_size, ["x"] * images, tensorboard=False))

    assert said(2, 2) == said(16, 0) == []  # an empty list is the list's problem
    (problem,) = said(16, 5)
    assert "5 training images make no batch of 16" in problem and "--cam_batch_size" in problem
    monkeypatch.setenv("WORLD_SIZE", "4")
    (problem,) = said(3, 5)
    assert "4 processes" in problem and "--cam_batch_size" in problem
