"""Sets that people have brought: masks, image labels and class names that contradict each other are refused, with the
cause, before anything runs; the same set without the fault gives the right figures and no warning.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from misc.config import Config
from misc.formats.images import write_grey, write_mask
from misc.formats.palette import voc_palette
from misc.run.preflight import Preflight
from run_sample import main
from step.shared.data import DataSet
from step.shared.deeplab import MasksToLearnFrom
from step.shared.values import look_at_saliency_maps, look_at_truth
from tests.test_chain import only
from voc12 import make_cls_labels
from voc12.contradictions import COCO_IDS
from voc12.generated_set import generate

SIZE = (24, 30)


class OwnSet:
    """Images with a box for each class they show, from 1; their masks, labels by name, right CAMs and saliency."""

    def __init__(self, root: Path, shows: dict[str, list[int]], names: list[str]) -> None:
        self.root, self.shows, self.lists = root, shows, root / "ImageSets" / "Segmentation"
        for folder in ("JPEGImages", "Sal", "SegmentationClass", "Annotations", "cams"):
            (root / folder).mkdir(parents=True)
        self.lists.mkdir(parents=True)
        for image_id, classes in shows.items():
            Image.new("RGB", SIZE[::-1], (90, 120, 60)).save(root / "JPEGImages" / f"{image_id}.jpg")
            truth = self.truth(classes)
            write_mask(self.mask(image_id), truth)
            write_grey(root / "Sal" / f"{image_id}.png", (truth > 0).astype(np.uint8) * 200)
            np.save(root / "cams" / f"{image_id}.npy", {c - 1: (truth == c).astype(np.float32) for c in classes})
        (self.lists / "train.txt").write_text("".join(f"{image_id}\n" for image_id in shows))
        self.name("classes.txt", names)
        rows = [f"{image_id},{';'.join(names[c - 1] for c in classes)}" for image_id, classes in shows.items()]
        (root / "labels.csv").write_text("\n".join(["image_id,classes", *rows]))

    def truth(self, classes: list[int]) -> np.ndarray:
        truth = np.zeros(SIZE, np.uint8)
        for place, number in enumerate(classes):
            truth[6:18, 4 + 12 * place : 12 + 12 * place] = number
        return truth

    def mask(self, image_id: str) -> Path:
        return self.root / "SegmentationClass" / f"{image_id}.png"

    def name(self, file: str, names: list[str]) -> None:
        (self.root / file).write_text("\n".join(names))

    def number(self, number_of) -> None:
        """Write masks whose classes have other numbers."""
        for image_id, classes in self.shows.items():
            write_mask(self.mask(image_id), self.truth([number_of(c) for c in classes]))

    def arguments(self, tiny_args, *steps: str, **changes: object) -> list[str]:
        lists = dict.fromkeys(("train_aug_list", "train_list", "val_list"), self.lists / "train.txt")
        files = {"class_names": self.root / "classes.txt", "cls_labels": self.root / "labels.csv"}
        folders = {"voc12_root": self.root, "cam_out_dir": self.root / "cams"}
        return [*tiny_args(**folders, **lists, **files, **changes), *only(*steps)]

    def make_labels(self, names: str = "classes.txt") -> list[str]:
        given = {"--voc12_root": self.root, "--list": self.lists / "train.txt", "--class_names": self.root / names}
        given |= {"--source": "masks", "--num_workers": 0, "--out": self.root / "made.csv"}
        return [str(part) for pair in given.items() for part in pair]

    def annotate(self, names: list[str]) -> None:
        for image_id, classes in self.shows.items():
            objects = "".join(f"<object><name>{names[c - 1]}</name></object>" for c in classes)
            (self.root / "Annotations" / f"{image_id}.xml").write_text(f"<annotation>{objects}</annotation>")


@pytest.fixture
def balls(tmp_path) -> OwnSet:
    return OwnSet(tmp_path / "set", {"a1": [1], "a2": [2], "a3": [1, 2]}, ["ball", "egg"])


@pytest.fixture
def voc(tmp_path) -> OwnSet:
    shows = {"2008_000002": [20], "2008_000003": [15, 19], "2008_000007": [4]}
    return OwnSet(tmp_path / "set", shows, [f"n{number}" for number in range(20)])


@pytest.fixture
def coco(tmp_path) -> OwnSet:
    names = [f"thing{number}" for number in COCO_IDS]
    return OwnSet(tmp_path / "set", {"9": [11], "25": [25], "30": [60]}, names)


def refusal(arguments: list[str], capsys) -> str:
    """What a run says that is refused before anything runs."""
    capsys.readouterr()
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert "Traceback" not in said.err and "[1/" not in said.out
    return said.err


def label_error(own: OwnSet, capsys, names: str = "classes.txt") -> str:
    """The line that make_cls_labels refuses the set with."""
    capsys.readouterr()
    assert make_cls_labels.main(own.make_labels(names)) == 2
    assert not (own.root / "made.csv").exists()
    (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("error: "))
    return line


def test_the_set_without_a_fault(balls, tiny_args, capsys):
    assert main(balls.arguments(tiny_args, "eval_cam", "make_boundary_label")) == 0, capsys.readouterr().err
    shown = capsys.readouterr().out
    assert "ground truth: 3 of 3 masks looked at" in shown and "saliency: 3 of 3 maps looked at" in shown
    assert shown.count("looked at") == 2  # and nothing found
    (scores,) = balls.root.glob("cams/*.json")
    assert json.loads(scores.read_text())["CAM"]["miou"] == pytest.approx(1)
    assert make_cls_labels.main(balls.make_labels()) == 0
    assert (balls.root / "made.csv").read_text().split() == (balls.root / "labels.csv").read_text().split()


@pytest.mark.parametrize(
    ("file", "lines", "cause"),
    [
        ("class_names.txt", ["_background_", "ball", "egg"], "'_background_' is no class name"),
        ("labels.txt", ["__ignore__", "_background_", "ball", "egg"], "'__ignore__' is no class name"),
        (
            "labelmap.txt",
            ["# label:color_rgb:parts:actions", "background:0,0,0::", "ball:250,50,83::", "egg:51,221,255::"],
            "a label map of CVAT",
        ),
        ("labels.csv", None, "a table"),
    ],
)
def test_class_names_of_annotation_tools(balls, tiny_args, file, lines, cause, capsys):
    if lines:
        balls.name(file, lines)
    refused = [
        label_error(balls, capsys, file),
        refusal([*balls.arguments(tiny_args, "eval_cam"), f"--class_names={balls.root / file}"], capsys),
    ]
    assert all(cause in error and file in error for error in refused)


def test_a_background_under_another_name(balls, tiny_args, capsys):
    """Labels by name are right, their numbers are not: what make_cam would make of them, no mask shows."""
    balls.name("classes.txt", ["nothing", "ball", "egg"])
    error = refusal(balls.arguments(tiny_args, "eval_cam"), capsys)
    assert "classes of masks are those of the labels - 1 on 3 of 3 images" in error and "list a background" in error


def test_masks_that_count_the_background(balls, tiny_args, capsys):
    balls.number(lambda c: c + 1)
    error = refusal(balls.arguments(tiny_args, "eval_cam"), capsys)
    assert "classes of masks are those of the labels + 1 on 3 of 3 images" in error
    assert "hold numbers above 2" in label_error(balls, capsys)
    balls.annotate(["ball", "egg"])
    assert "labels + 1 on 3 of 3 images" in label_error(balls, capsys)


def test_one_class_written_as_255(tmp_path, tiny_args, capsys):
    tumours = OwnSet(tmp_path / "set", {"a1": [1], "a2": [1], "a3": [1]}, ["tumour"])
    tumours.number(lambda c: 255)
    for error in label_error(tumours, capsys), refusal(tumours.arguments(tiny_args, "eval_cam"), capsys):
        assert "255 is the only number beside 0 in 3 of 3 masks" in error and "a1.png" in error


def as_colours(mask: Image.Image) -> Image.Image:
    coloured = mask.convert("P")
    coloured.putpalette(voc_palette())
    return coloured.convert("RGB")


@pytest.mark.parametrize(
    ("convert", "cause"),
    [
        (as_colours, "VOC's colours (RGB)"),
        (lambda mask: as_colours(mask).convert("RGBA"), "VOC's colours (RGBA)"),
        (lambda mask: as_colours(mask).convert("L"), "VOC's colours turned grey"),
        (
            lambda mask: as_colours(mask).convert("P", palette=Image.Palette.ADAPTIVE, colors=8),
            "by the colours, not by the numbers on 3 of 3",
        ),
        (lambda mask: Image.fromarray(np.array(mask).astype(np.uint16)), "16 or 32 bits (I;16)"),
        (lambda mask: Image.merge("LA", (mask, Image.new("L", mask.size, 255))), "transparency (LA)"),
    ],
)
def test_masks_that_were_saved_as_pictures(voc, tiny_args, convert, cause, capsys):
    for image_id, classes in voc.shows.items():
        convert(Image.fromarray(voc.truth(classes))).save(voc.mask(image_id))
    names = [f"n{number}" for number in range(20)]
    voc.annotate(names)
    for error in label_error(voc, capsys), refusal(voc.arguments(tiny_args, "eval_cam"), capsys):
        assert cause in error


def test_masks_as_jpeg(voc, tiny_args, capsys):
    for image_id, classes in voc.shows.items():
        voc.mask(image_id).unlink()
        as_colours(Image.fromarray(voc.truth(classes))).save(voc.mask(image_id).with_suffix(".jpg"))
    for error in label_error(voc, capsys), refusal(voc.arguments(tiny_args, "eval_cam"), capsys):
        assert "'2008_000002.jpg' is there, but JPEG changes class numbers" in error


def test_cocos_category_ids(coco, tiny_args, capsys):
    """All of them are below 80, so that each is the number of some class."""
    coco.number(lambda c: COCO_IDS[c - 1])
    assert "COCO's category IDs on 3 of 3 images" in refusal(coco.arguments(tiny_args, "eval_cam"), capsys)
    coco.annotate([f"thing{number}" for number in COCO_IDS])
    assert "COCO's category IDs on 3 of 3 images" in label_error(coco, capsys)


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (lambda saliency: 200 - saliency, "3 of 3 saliency maps looked at are inverted"),
        (lambda saliency: saliency * 0 + 7, "3 of 3 saliency maps looked at hold one value everywhere"),
        (lambda saliency: saliency * 0, None),
    ],
)
def test_saliency_maps_that_tell_nothing(balls, tiny_args, change, cause, capsys):
    for path in (balls.root / "Sal").glob("*.png"):
        write_grey(path, change(np.array(Image.open(path))).astype(np.uint8))
    arguments = balls.arguments(tiny_args, "make_boundary_label")
    if cause:
        assert cause in refusal(arguments, capsys)
        assert main([*arguments, "--method=bes"]) == 0  # which reads none
    else:
        assert main(arguments) == 0
        assert "3 of 3 saliency maps looked at are blank" in capsys.readouterr().out


def test_lists_beside_train(balls, tiny_args, capsys):
    """Masks of sweep_list, of another evaluation list and of the second stage's are looked at as well."""
    for image_id in balls.shows:
        write_mask(balls.mask(image_id), balls.truth([9]))
    (balls.lists / "train.txt").rename(balls.lists / "val.txt")
    (balls.lists / "train.txt").write_text("a1\n")
    write_mask(balls.mask("a1"), balls.truth([1]))
    assert main(balls.arguments(tiny_args, "eval_cam")) == 0
    capsys.readouterr()
    for changes in {"sweep_list": balls.lists / "val.txt"}, {"chainer_eval_set": "val"}:
        error = refusal(balls.arguments(tiny_args, "eval_cam", **changes), capsys)
        assert "2 of 3 masks looked at hold numbers above 2" in error
    second = [*balls.arguments(tiny_args, deeplab_eval_set="val"), "--eval_deeplab_seg_pass=true"]
    assert main(second) == 2
    assert "2 of 3 masks looked at hold numbers above 2" in capsys.readouterr().err


def test_masks_of_others_for_the_second_stage(balls):
    """A network that learns from them would learn other classes than the set's."""
    balls.name("classes.txt", ["ball", "egg", "cup"])
    values = {
        "voc12_root": balls.root,
        "class_names": balls.root / "classes.txt",
        "cls_labels": balls.root / "labels.csv",
    }
    args = Config(
        **{name: str(path) for name, path in values.items()},
        deeplab_mask_dir=str(balls.root / "SegmentationClass"),
        deeplab_mask_suffix="none",
    )
    found = []
    for shift in 0, 1:
        balls.number(lambda c, shift=shift: c + shift)
        MasksToLearnFrom(args, DataSet(args), list(balls.shows)).look(preflight := Preflight())
        found.append(preflight.problems)
    right, (shifted,) = found
    assert right == [] and "labels + 1 on 3 of 3 images" in shifted


def test_training_images_without_a_class(balls, tiny_args, capsys):
    (balls.root / "labels.csv").write_text("image_id,classes\na1,\na2,\na3,\n")
    error = refusal(balls.arguments(tiny_args, "train_cam"), capsys)
    assert "labels.csv: none of 3 training images has a class" in error
    balls.number(lambda c: 0)
    assert "none of 3 images shows a class" in label_error(balls, capsys)


def test_the_generated_set_passes_in_silence(tmp_path, caplog):
    generate(tmp_path, seed=3, train_images=40, val_images=1, side=64)
    data, preflight = DataSet(Config(voc12_root=str(tmp_path))), Preflight()
    ids = [path.stem for path in sorted((tmp_path / "Sal").glob("*.png"))]
    caplog.set_level("INFO")
    look_at_truth(preflight, data, ids)
    look_at_saliency_maps(preflight, data, ids)
    assert preflight.problems == [] and "41 of 41 masks looked at" in caplog.text
    assert not [record for record in caplog.records if record.levelname == "WARNING"]
