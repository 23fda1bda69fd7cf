"""Every reader on damaged and on arbitrary files: a result or the project's own error, and no code that runs."""

import io
import os
import pickle
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import CodeType
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from misc.config import read_config
from misc.errors import InputError
from misc.formats.cam_file import CAM, read_cam, write_cam, write_compact_cam
from misc.formats.cam_formats import read_any_cam
from misc.formats.checkpoint import read_state
from misc.formats.compact_cam import ScaleMaps
from misc.formats.images import read_image, read_label_map, read_saliency
from misc.formats.score_file import read_scores, write_scores
from misc.run.manifest import Manifest, Origin
from misc.train.history import read_history
from misc.train.optim import PolySGD
from misc.train.progress import Progress
from tests.conftest import GOLDEN, PROJECT
from voc12.image_labels import ImageLabels, read_class_names
from voc12.image_set import VOCRoot, read_list

pytestmark = pytest.mark.filterwarnings("ignore")  # Pillow warns of what it skips

SENTINEL = "code_has_run"


class Evil:
    """Unpickled by pickle itself, it would run a command."""

    def __reduce__(self):
        return os.system, (f"touch {SENTINEL}",)


def png(array: np.ndarray, kind: str = "PNG", mode: str | None = None) -> bytes:
    file = io.BytesIO()
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(file, format=kind)
    return file.getvalue()


def npy(content: object, protocol: int) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": ()})
    array = np.empty((), object)
    array[()] = content
    return file.getvalue() + pickle.dumps(array, protocol)


def saved(write: Callable[[Path], object], folder: Path) -> bytes:
    write(folder / "sample")
    return (folder / "sample").read_bytes()


def torch_file(content: object) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


class Reader(NamedTuple):
    """What is tried: a function of a path, the file's name, and sound files to damage."""

    read: Callable[[Path], object]
    name: str
    samples: Callable[[Path], list[bytes]]


def cams(folder: Path) -> list[bytes]:
    maps = np.random.default_rng(0).random((2, 2, 3), np.float32)
    full = np.random.default_rng(1).random((2, 6, 9), np.float32)
    content = {"keys": torch.tensor([1, 3]), "cam": torch.from_numpy(maps), "high_res": full}
    ours = saved(lambda path: write_cam(path, CAM(np.array([1, 3]), maps, full)), folder)
    return [ours, npy(content, 2), npy(content, 5), npy(Evil(), 2), npy({"keys": Evil()}, 4)]


def compact_cams(folder: Path) -> list[bytes]:
    rng = np.random.default_rng(0)
    maps = [rng.random((2, 1, 1), np.float32), rng.random((2, 2, 3), np.float32)]
    compact = ScaleMaps(np.array([1, 3]), (16, 24), (0.5, 2.0), maps)
    return [saved(lambda path: write_compact_cam(path, compact), folder), npy(compact.entries(), 2)]


def cams_of_others(folder: Path) -> list[bytes]:
    one = np.random.default_rng(0).random((6, 9), np.float32)
    crf = {0: one, np.int64(2): one, 4: torch.from_numpy(one)}
    clip_es = {"keys": np.array([3, 1]), "attn_highres": np.stack([one, one]).astype(np.float16), "more": [1]}
    evil = npy({Evil(): one}, 4), npy({1: Evil()}, 4)
    return [npy({1: one, 3: one.astype(np.float64)}, 4), npy(crf, 2), npy(crf, 4), npy(clip_es, 3), *evil]


def scores(folder: Path) -> list[bytes]:
    maps = np.random.default_rng(0).random((2, 2, 3), np.float32)
    return [saved(lambda path: write_scores(path, np.array([1, 3]), maps, (6, 9)), folder)]


def checkpoints(folder: Path) -> list[bytes]:
    state = {"layer.weight": torch.ones(2, 3), "layer.bias": torch.zeros(2)}
    old = io.BytesIO()
    torch.save(state, old, _use_new_zipfile_serialization=False)
    return [torch_file(state), old.getvalue(), torch_file({"a": Evil()}), pickle.dumps(Evil())]


def safetensors_file(folder: Path) -> list[bytes]:
    from safetensors.torch import save

    return [save({"layer.weight": torch.ones(2, 3), "layer.bias": torch.zeros(2)})]


def images(folder: Path) -> list[bytes]:
    pixels = np.random.default_rng(2).integers(0, 255, (7, 9, 3), np.uint8)
    return [png(pixels, "JPEG"), png(pixels, "JPEG", "CMYK"), png(pixels), png(pixels, "GIF"), png(pixels, "TIFF")]


def grey_maps(folder: Path) -> list[bytes]:
    grey = np.random.default_rng(3).integers(0, 255, (7, 9), np.uint8)
    return [png(grey), png(grey.astype(np.uint16)), png(grey, mode="P"), png(grey, mode="RGBA"), png(grey, mode="1")]


def state_of(model: nn.Module) -> tuple[nn.Module, PolySGD]:
    return model, PolySGD([{"params": model.parameters(), "lr": 0.1, "weight_decay": 0}], max_step=3, momentum=0.1)


def unfinished(folder: Path) -> list[bytes]:
    model, optimizer = state_of(nn.Linear(2, 1))
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    progress = Progress(folder / "net", minutes=1)
    progress.save(1, model, optimizer, {"count": 1, "loss": 0.5})
    return [(folder / "net.unfinished").read_bytes(), torch_file({"step": 1, "model": 3, "optimizer": [], "sums": {}})]


def text(*lines: str) -> Callable[[Path], list[bytes]]:
    return lambda folder: ["\n".join(lines).encode()]


def labels(path: Path) -> None:
    ImageLabels(path, VOCRoot(path.parent / "nowhere"), ["cat", "dog", "cow"])["a"]


def annotation(path: Path) -> None:
    root = path.parents[1]
    (root / "labels.txt").write_text("other 0\n")
    ImageLabels(root / "labels.txt", VOCRoot(root), ["cat", "dog", "cow"])["a"]


ORIGIN = Origin({"fit": {"settings": {"rate": 0.1, "sides": [1, 2]}, "inputs": {"net": "x"}}}, {"ä b": "1"})

READERS = {
    "cam": Reader(lambda p: read_cam(p, size=(6, 9), n_classes=20), "a.npy", cams),
    "published cam": Reader(read_cam, "a.npy", lambda folder: [(GOLDEN / "upstream_cam_file.npy").read_bytes()]),
    "compact cam": Reader(read_cam, "a.npy", compact_cams),
    "cam of another method": Reader(
        lambda p: read_any_cam(p, size=(6, 9), labels=np.array([1, 3]), n_classes=20), "a.npy", cams_of_others
    ),
    "scores": Reader(lambda p: read_scores(p, size=(6, 9), n_classes=20), "a_scores.npz", scores),
    "checkpoint": Reader(read_state, "a.pth", checkpoints),
    "safetensors": Reader(read_state, "a.safetensors", safetensors_file),
    "image": Reader(read_image, "a.jpg", images),
    "saliency": Reader(lambda p: read_saliency(p, (7, 9)), "a.png", grey_maps),
    "label map": Reader(read_label_map, "a.png", grey_maps),
    "list": Reader(read_list, "list.txt", text("2007_000032", "a b", "ä", "")),
    "class names": Reader(read_class_names, "classes.txt", text("cat", "dog", "cow", "")),
    "labels": Reader(labels, "labels.txt", text("a 0 1", "b 2", "ä 0", "")),
    "annotation": Reader(
        annotation,
        "Annotations/a.xml",
        text("<?xml version='1.0' encoding='utf-8'?><annotation><object><name>cat</name></object></annotation>"),
    ),
    "settings": Reader(
        lambda p: read_config(["--config", str(p)]), "a.yaml",
        text("seed: 3", "cam_scales: [1.0, 0.5]", "amp: true", "infer_list: null", "cam_out_dir: 'a b'"),
    ),
    "manifest": Reader(
        Manifest.read, "manifest.json", lambda f: [saved(Manifest("fit", ORIGIN, {"a.npy": "abc"}).write, f)]
    ),
    "history": Reader(read_history, "a.jsonl", text('{"step": 1, "loss": 0.5, "lr": [0.1, 1]}', '{"step": 2}', "")),
    "unfinished": Reader(
        lambda p: Progress(p.with_suffix(""), minutes=1).restore(*state_of(nn.Linear(2, 1))),
        "net.unfinished", unfinished,
    ),
}  # fmt: skip

# where an edit begins, how much it takes away, what it puts there
EDITS = st.lists(
    st.tuples(st.floats(0, 1), st.sampled_from([0, 0, 0, 1, 1, 1, 1, 4, 4, 64, 10**9]), st.binary(max_size=8)),
    max_size=4,
)


def edited(content: bytes, edits: list[tuple[float, int, bytes]]) -> bytes:
    for where, taken, put in edits:
        start = int(where * len(content))
        content = content[:start] + put + content[start + taken :]
    return content


@cache
def watch() -> list[str]:
    """A list that takes down what no reader does; a hook cannot be removed, so there is one."""
    Image.init()  # here, since importing Pillow's plugins makes named tuples, and that executes code
    seen: list[str] = []

    def hook(event: str, arguments: tuple) -> None:
        if event in ("os.system", "subprocess.Popen", "os.exec", "os.fork", "os.posix_spawn", "socket.connect"):
            seen.append(f"{event} {arguments}")
        if event == "exec" and isinstance(arguments[0], CodeType) and not _is_installed(arguments[0].co_filename):
            seen.append(f"exec {arguments[0]}")

    sys.addaudithook(hook)
    return seen


def _is_installed(filename: str) -> bool:
    """Whether code comes from Python, from its packages or from this project: an import, not a file's own code."""
    return filename.startswith((sys.prefix, sys.base_prefix, str(PROJECT), "<frozen"))


@pytest.mark.parametrize("name", READERS)
def test_a_damaged_file_is_refused_or_harmless(name, effort, tmp_path, monkeypatch):
    reader = READERS[name]
    monkeypatch.chdir(tmp_path)
    samples = reader.samples(tmp_path)
    path = tmp_path / reader.name
    path.parent.mkdir(exist_ok=True)
    outcomes = {"read": 0, "refused": 0}
    seen = watch()

    @settings(
        max_examples=effort(100, 10_000), deadline=None, database=None, derandomize=True,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(st.one_of(st.builds(edited, st.sampled_from(samples), EDITS), st.binary(max_size=200)))
    def attempt(content: bytes) -> None:
        path.write_bytes(content)
        del seen[:]
        try:
            reader.read(path)
            outcomes["read"] += 1
        except InputError as error:
            outcomes["refused"] += 1
            assert "\n" not in str(error)
        assert seen == []

    attempt()
    assert not (tmp_path / SENTINEL).exists()
    assert outcomes["read"] and outcomes["refused"]  # both sides were reached
    print(name, outcomes)
