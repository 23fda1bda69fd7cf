"""The README's example: photographs with classes of one's own, no ground truth, no saliency maps."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from run_sample import main
from tests.conftest import PROJECT
from tests.test_chain import error_of, only
from voc12.generated_set import make_sample
from voc12.label_file import CSV_HEADER

IMAGES = {  # file name → classes, by the generated image's own
    "IMG 0012 (1).jpg": "cup;tea pot",
    "Küche 3.JPG": "spoon",
    "IMG 0013.png": "",
    "IMG 0014.jpeg": "cup",
}
CLASSES = ["cup", "spoon", "tea pot"]
SMALL = """
num_workers: 0
device: cpu
cam_crop_size: 64
cam_resize_long: [56, 72]
cam_batch_size: 2
cam_num_epoches: 1
cam_learning_rate: 0.001
cam_scales: [1.0]
bes_crop_size: 64
bes_batch_size: 2
bes_num_epoches: 1
exp_times: 3
"""


@pytest.fixture(scope="module")
def readme() -> str:
    text = (PROJECT / "docs" / "data.md").read_text(encoding="utf-8")
    return re.search(r"^## Your own photographs$(.*?)^## ", text, re.M | re.S)[1]


@pytest.fixture
def photos(tmp_path, monkeypatch, readme, backbone_file) -> list[str]:
    """The folder of the example, as the working directory, and the command line that goes with it."""
    monkeypatch.chdir(tmp_path)
    root = Path("photos")
    (root / "JPEGImages").mkdir(parents=True)
    for index, name in enumerate(IMAGES):
        Image.fromarray(make_sample(3, index, 64).image).save(root / "JPEGImages" / name)
    rows = [f"{Path(name).stem},{classes}" for name, classes in IMAGES.items()]
    (root / "labels.csv").write_text("\n".join([",".join(CSV_HEADER), *rows, ""]), encoding="utf-8")
    (root / "classes.txt").write_text("\n".join(CLASSES))
    for name in ("train.txt", "val.txt"):
        (root / name).write_text("\n".join(Path(image).stem for image in IMAGES), encoding="utf-8")
    Path("photos.yaml").write_text(re.search(r"```yaml\n(.*?)```", readme, re.S)[1], encoding="utf-8")
    Path("small.yaml").write_text(f"{SMALL}backbone_weights: {backbone_file}\n")
    command = re.search(r"^python run_sample\.py (.*)$", readme, re.M)[1].split()
    return [*command, "--config", "small.yaml"]


def test_the_files_the_readme_shows_are_the_ones_used_here(readme, photos):
    shown = re.findall(r"^  (\S+\.txt|\S+\.csv|JPEGImages/.*?\.\w+) ", readme, re.M)
    assert {"classes.txt", "labels.csv", "train.txt", "val.txt"} < set(shown)
    assert all((Path("photos") / name).is_file() for name in shown)
    rows = re.search(r"^image_id,classes\n(.*?)```", readme, re.M | re.S)[1].splitlines()
    assert set(rows) < set(Path("photos/labels.csv").read_text(encoding="utf-8").splitlines())


@pytest.mark.slow
def test_the_example_runs(photos, capsys):
    assert main(photos) == 0, capsys.readouterr().err
    assert "[6/6] make_sem_seg" in capsys.readouterr().out  # all but the evaluations
    for name, classes in IMAGES.items():
        shown = {CLASSES.index(c) + 1 for c in classes.split(";") if c}
        with Image.open(f"photos/JPEGImages/{name}") as image:
            size = image.size
        for ending in ("", "_crf"):
            with Image.open(f"result/sem_seg/{Path(name).stem}{ending}.png") as mask:
                assert mask.size == size and set(np.unique(mask)) <= shown | {0}
        cam = np.load(f"result/cam/{Path(name).stem}.npy", allow_pickle=True).item()
        assert {key + 1 for key in cam["keys"].tolist()} == shown


def test_the_evaluations_say_how_to_go_without(photos, capsys):
    evaluations = ["--eval_cam_pass", "--eval_sem_seg_pass"]
    error = error_of([*photos, *only("eval_cam"), "--no_make_saliency_pass"], capsys)
    assert "photos/ImageSets/Segmentation/train.txt" in error
    assert "without ground truth, say --no_eval_cam_pass --no_eval_sem_seg_pass" in error
    assert main([*photos, *evaluations]) == 2
    assert capsys.readouterr().err.count("without ground truth") == 1  # once, although both miss it
    lists = Path("photos/ImageSets/Segmentation")
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("IMG 0013")
    assert main([*photos, *evaluations]) == 2
    error = capsys.readouterr().err
    assert "ground truth masks missing: photos/SegmentationClass/IMG 0013.png: without ground truth, say" in error


@pytest.mark.parametrize(
    ("file", "old", "new", "expected"),
    [
        ("labels.csv", "spoon", "spon", "labels.csv, line 3: 'spon' of Küche 3 is no class (did you mean 'spoon'?)"),
        ("labels.csv", "image_id,classes", "name;label", "the header is 'name;label', expected 'image_id,classes'"),
        ("labels.csv", "IMG 0013,\n", "", "no label for IMG 0013: neither in photos/labels.csv nor at"),
        ("train.txt", "IMG 0013", "IMG 0013.gif", "images missing: photos/JPEGImages/IMG 0013.gif.jpg"),
        ("train.txt", "IMG 0013", "img 0013", "'IMG 0013.png' is there, spelt otherwise"),
        ("classes.txt", "spoon", "cup", "classes.txt: the class 'cup' occurs twice"),
    ],
)
def test_a_slip_is_told_before_anything_runs(photos, file, old, new, expected, capsys):
    path = Path("photos") / file
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    assert main(photos) == 2
    error = capsys.readouterr().err
    assert error.count(expected) == 1 and "Traceback" not in error
    assert not Path("photos/Sal").exists() and not Path("result").exists()


def test_masks_with_numbers_beyond_the_classes(photos, capsys):
    """Ground truth of another set of classes is refused by the evaluation, naming the mask."""
    folders = {name: Path("photos") / name for name in ("ImageSets/Segmentation", "SegmentationClass")}
    for folder in folders.values():
        folder.mkdir(parents=True)
    (folders["ImageSets/Segmentation"] / "train.txt").write_text("IMG 0014")
    with Image.open("photos/JPEGImages/IMG 0014.jpeg") as image:
        mask = np.full(image.size[::-1], 4, np.uint8)  # there are three classes
    Path("result/sem_seg").mkdir(parents=True)
    for path in ("photos/SegmentationClass/IMG 0014.png", "result/sem_seg/IMG 0014.png"):
        Image.fromarray(mask).save(path)
    Image.fromarray(mask * 0).save("result/sem_seg/IMG 0014_crf.png")
    error = error_of([*photos, *only("eval_sem_seg"), "--no_make_saliency_pass"], capsys)
    assert "photos/SegmentationClass/IMG 0014.png" in error and "4" in error
