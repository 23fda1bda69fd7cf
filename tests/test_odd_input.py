"""What people's data sets hold: odd sizes, saliency maps, names. The chain takes it, or says in a line why not."""

import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from misc.formats.cam_file import read_cam
from misc.formats.images import read_label_map
from run_sample import main
from tests.conftest import PROJECT
from tests.test_chain import error_of, only
from tests.test_fuzz import Evil, npy
from voc12.label_file import write_label_file

CLASSES = ["Katze", "Hund", "Straße"]


class OddSet:
    """A VOC root below a folder of an odd name, with images of odd sizes and saliency maps of odd kinds."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "Bilder für späte Tests"
        for name in ("JPEGImages", "Sal", "SegmentationClass"):
            (self.root / name).mkdir(parents=True)
        (self.root / "classes.txt").write_text("\n".join(CLASSES))
        self.labels: dict[str, list[int]] = {}
        self._rng = np.random.default_rng(0)

    def add(self, image_id: str, size: tuple[int, int], classes: list[int], saliency: np.ndarray | Image.Image) -> None:
        pixels = self._rng.integers(0, 255, (*size, 3), np.uint8)
        Image.fromarray(pixels).save(self.root / "JPEGImages" / f"{image_id}.jpg")
        if isinstance(saliency, np.ndarray):
            saliency = Image.fromarray(saliency)
        saliency.save(self.root / "Sal" / f"{image_id}.png")
        self.labels[image_id] = classes

    def saliency(self, size: tuple[int, int]) -> np.ndarray:
        return self._rng.integers(0, 255, size, np.uint8)

    def arguments(self, tiny_args, **changes: object) -> list[str]:
        (self.root / "list.txt").write_text("\n".join(self.labels), encoding="utf-8")
        write_label_file(self.root / "labels.csv", self.labels, CLASSES)
        lists = dict.fromkeys(("train_aug_list", "train_list", "val_list"), self.root / "list.txt")
        names = {"class_names": self.root / "classes.txt", "cls_labels": self.root / "labels.csv"}
        return tiny_args(**{"voc12_root": self.root} | lists | names | changes)


@pytest.fixture
def odd(tmp_path) -> OddSet:
    odd = OddSet(tmp_path)
    odd.add("plain", (40, 52), [0], odd.saliency((40, 52)))
    return odd


CHAIN = only("train_cam", "make_cam", "make_boundary_label", "train_sbe_boundary", "make_sem_seg")


@pytest.mark.slow
def test_odd_sizes_names_and_saliency_maps_go_through_the_chain(odd, tiny_args, tmp_path):
    odd.add("1 × 1", (1, 1), [0], odd.saliency((1, 1)))
    odd.add("lång och smal", (3, 2000), [1, 2], odd.saliency((3, 2000)))
    odd.add("ohne Etikett", (33, 17), [], odd.saliency((33, 17)))
    odd.add("blank", (30, 31), [1], np.zeros((30, 31), np.uint8))
    odd.add("other size", (30, 44), [2], odd.saliency((44, 31)))
    odd.add("16 bit", (30, 31), [1], odd.saliency((30, 31)).astype(np.uint16) * 257)
    odd.add("palette", (30, 31), [1], Image.fromarray(odd.saliency((30, 31))).convert("P"))
    odd.add("RGBA", (30, 31), [0, 1, 2], Image.fromarray(odd.saliency((30, 31))).convert("RGBA"))
    assert main([*odd.arguments(tiny_args, num_workers=2), *CHAIN]) == 0
    for image_id, classes in odd.labels.items():
        with Image.open(odd.root / "JPEGImages" / f"{image_id}.jpg") as image:
            size = image.size[::-1]
        cam = read_cam(tmp_path / "cam_out_dir" / f"{image_id}.npy", size=size, n_classes=3)
        assert cam.keys.tolist() == classes
        assert read_label_map(tmp_path / "boundary_label_dir" / f"{image_id}.png").shape == size
        for ending in ("", "_crf"):
            mask = read_label_map(tmp_path / "sem_seg" / f"{image_id}{ending}.png")
            assert mask.shape == size and set(np.unique(mask)) <= {0, *(c + 1 for c in classes)}
    log = (tmp_path / "log.log").read_text()
    assert "4 saliency maps were converted to grey or resized" in log.replace("3 saliency", "4 saliency")
    assert "1 saliency maps are blank" in log


@pytest.mark.slow
def test_a_photograph_of_4000_by_3000_pixels(odd, tiny_args, tmp_path):
    odd.add("large", (3000, 4000), [0], Image.fromarray(odd.saliency((30, 40))).resize((4000, 3000)))
    arguments = odd.arguments(tiny_args, cam_scales="[0.5]", num_workers=1)
    assert main([*arguments, *CHAIN]) == 0
    assert read_label_map(tmp_path / "sem_seg" / "large_crf.png").shape == (3000, 4000)


@pytest.mark.slow
def test_a_list_of_a_hundred_thousand_ids(odd, tiny_args, capsys):
    """What is missing is said in a line that does not name them all."""
    arguments = odd.arguments(tiny_args)
    ids = ["plain", *(f"photo {number:06d}" for number in range(99_999))]
    (odd.root / "list.txt").write_text("\n".join(ids), encoding="utf-8")
    write_label_file(odd.root / "labels.csv", {image_id: [0, 2] for image_id in ids}, CLASSES)
    error = error_of([*arguments, *only("train_cam")], capsys)
    assert "99999 of 100000 images missing: " in error and error.count(".jpg") == 5


def test_an_id_too_long_for_a_file_name(odd, tiny_args, capsys):
    arguments = odd.arguments(tiny_args)
    (odd.root / "list.txt").write_text("ä" * 130)
    assert "too long for a file name" in error_of([*arguments, *only("train_cam")], capsys)
    long = odd.root / ("x" * 300)
    assert "there is no folder" in error_of(odd.arguments(tiny_args, voc12_root=long), capsys)


def test_two_ids_with_the_same_file(odd, tiny_args, capsys):
    odd.add("plain_crf", (40, 52), [0], odd.saliency((40, 52)))
    error = error_of([*odd.arguments(tiny_args), *CHAIN], capsys)
    assert "1 of 6 output files would be written twice: " in error and "plain_crf.png: rename an image" in error


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        *((line, "is not an image ID") for line in ("..", ".", "../..", "sub/", "a\0b")),
        *((line, "would both be the image 'plain'") for line in ("../plain", "sub/plain", "sub\\plain")),
    ],
)
def test_an_id_does_not_leave_its_folder(line, expected, odd, tiny_args, capsys):
    arguments = odd.arguments(tiny_args)
    (odd.root / "list.txt").write_text(f"plain\n{line}\n", encoding="utf-8")
    assert expected in error_of([*arguments, *only("train_cam")], capsys)


def cam_content(keys: object, full: np.ndarray) -> bytes:
    strided = full[:, ::4, ::4].copy()
    return npy({"keys": keys, "cam": torch.from_numpy(strided), "high_res": full}, 4)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda sound: sound[:-50], "cut short"),
        (lambda sound: npy(Evil(), 4), "refused: it asks for posix.system"),
        (lambda sound: pickle.dumps(Evil()), "not a .npy file"),
        (
            lambda sound: cam_content(torch.tensor([3]), np.ones((1, 40, 52), np.float32)),
            "its maps [3] are not all of classes (0 to 2)",
        ),
        (lambda sound: cam_content(torch.tensor([0]), np.full((1, 40, 52), np.nan, np.float32)), "NaN"),
        (lambda sound: cam_content(torch.tensor([0]), np.ones((1, 41, 52), np.float32)), "another image size"),
        (lambda sound: cam_content(torch.tensor([0, 0]), np.ones((2, 40, 52), np.float32)), "a class occurs twice"),
    ],
)
def test_a_cam_that_is_none(damage, said, odd, tiny_args, tmp_path, capsys):
    (tmp_path / "cam_out_dir").mkdir()
    sound = cam_content(torch.tensor([0]), np.ones((1, 40, 52), np.float32))
    path = tmp_path / "cam_out_dir" / "plain.npy"
    path.write_bytes(sound)
    arguments = [*odd.arguments(tiny_args), *only("make_boundary_label")]
    assert main(arguments) == 0
    shutil.rmtree(tmp_path / "cam_vis_dir")
    shutil.rmtree(tmp_path / "boundary_label_dir")
    path.write_bytes(damage(sound))
    error = error_of(arguments, capsys)
    assert said in error and "plain.npy" in error
    assert not Path("code_has_run").exists()


def test_a_photograph_with_an_exif_orientation_is_used_as_it_is_seen(odd, tiny_args, tmp_path, capsys):
    """A phone held upright: 40 × 52 pixels are stored, 52 × 40 are seen, and what is made of them has that size."""
    path = odd.root / "JPEGImages" / "plain.png"
    disc = np.hypot(*np.mgrid[-20:32, -16:24]) < 12  # in what is seen
    seen = np.where(disc[..., None], np.uint8([200, 60, 50]), np.uint8([140, 150, 160]))
    exif = Image.Exif()
    exif[0x112] = 6
    path.with_suffix(".jpg").unlink()

    def label_of(name: str, full: np.ndarray) -> list[str]:
        """The command line that makes a boundary label of a CAM and a saliency map that show this."""
        (tmp_path / "cam_out_dir").mkdir(exist_ok=True)
        content = cam_content(torch.tensor([0]), full.astype(np.float32)[None])
        (tmp_path / "cam_out_dir" / "plain.npy").write_bytes(content)
        Image.fromarray(full.astype(np.uint8) * 200).save(odd.root / "Sal" / "plain.png")
        folders = {"boundary_label_dir": tmp_path / name, "cam_vis_dir": tmp_path / f"{name} vis"}
        return [*odd.arguments(tiny_args, **folders), *only("make_boundary_label")]

    Image.fromarray(seen).save(path)
    assert main(label_of("upright", disc)) == 0
    Image.fromarray(np.rot90(seen).copy()).save(path, exif=exif)
    assert main(label_of("turned", disc)) == 0
    labels = [read_label_map(tmp_path / name / "plain.png") for name in ("upright", "turned")]
    np.testing.assert_array_equal(*labels)
    assert labels[0].shape == (52, 40) and len(np.unique(labels[0])) > 1
    # of programs that take the pixels as they are stored
    assert main(label_of("flat", np.rot90(disc).copy())) == 2
    error = capsys.readouterr().err
    for kind in "saliency maps looked at", "CAMs looked at":
        assert any(kind in line and "EXIF" in line for line in error.splitlines()), error


@pytest.mark.slow
def test_a_folder_that_may_only_be_read(odd, tiny_args, tmp_path):
    """Refused before anything runs, even to root, who may write where permissions say no."""
    folder = tmp_path / "read only"
    folder.mkdir()
    arguments = [*odd.arguments(tiny_args, cam_out_dir=folder / "cams"), *CHAIN]
    command = subprocess.list2cmdline([sys.executable, str(PROJECT / "run_sample.py"), *arguments])
    script = f"mount -t tmpfs -o ro none '{folder}' || exit 77; {command}"
    if not shutil.which("unshare"):
        pytest.skip("needs unshare")
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script], capture_output=True, text=True
    )
    if done.returncode != 2:
        pytest.skip("a tmpfs cannot be mounted here")
    assert f"cannot write into {folder}/cams: {folder} is not a folder that may be written" in done.stderr
    assert not (tmp_path / "sess").exists()
