"""What the tests of all formats need: a conversion, what it wrote, and a source that is not touched."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from misc.config import read_config
from voc12.convert.__main__ import main
from voc12.image_labels import ImageLabels, read_class_names
from voc12.image_set import VOCRoot, read_list


def tree(folder: Path) -> dict[str, tuple[Any, ...]]:
    """Everything below a folder: what a file holds, when it was written, where a link points."""
    found: dict[str, tuple[Any, ...]] = {}
    for path in sorted(folder.rglob("*")):
        content = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else None
        found[str(path.relative_to(folder))] = (path.lstat().st_mtime_ns, path.lstat().st_ino, content)
    return found


@pytest.fixture
def picture() -> Callable[..., Path]:
    """picture(path, (H, W)): an image file; more is handed to Pillow, such as exif."""

    def write(path: Path, size: tuple[int, int], **more: Any) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((*size, 3), 128, np.uint8)).save(path, **more)
        return path

    return write


@pytest.fixture
def convert(tmp_path, capsys) -> Callable[..., Path]:
    """convert("labelme", source, "--copy"): the target, whose settings the pipeline reads; source stays as it is.

    The summary is read from convert.said.
    """

    def run(name: str, source: Path, *more: str, target: str = "target") -> Path:
        before = tree(source)
        capsys.readouterr()
        code = main([name, str(source), str(tmp_path / target), "--num_workers=0", *more])
        run.said, error = capsys.readouterr()  # type: ignore[attr-defined]
        assert code == 0, error
        assert tree(source) == before
        return tmp_path / target

    return run


@pytest.fixture
def refused(tmp_path, capsys) -> Callable[..., str]:
    """refused("labelme", source): the one line that a refusal prints; no settings are written, or lost."""

    def run(name: str, source: Path, *more: str, target: str = "target", is_finished: bool = False) -> str:
        before = tree(source)
        capsys.readouterr()
        assert main([name, str(source), str(tmp_path / target), "--num_workers=0", *more]) == 2
        error = capsys.readouterr().err
        lines = [line for line in error.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1 and error.endswith(f"{lines[0]}\n") and "Traceback" not in error, error
        assert tree(source) == before
        assert (tmp_path / target / "set.yaml").exists() is is_finished
        return lines[0]

    return run


@pytest.fixture
def content() -> Callable[[Path], dict[str, Any]]:
    """content(target): classes, labels, lists and masks, as the pipeline reads them through set.yaml."""

    def read(target: Path) -> dict[str, Any]:
        args = read_config(["--voc12_root", str(target), "--config", str(target / "set.yaml")])
        root, names = VOCRoot(Path(args.voc12_root)), read_class_names(args.class_names)
        lists = {path.stem: read_list(path) for path in (target / "ImageSets" / "Segmentation").iterdir()}
        for given in (args.train_aug_list, args.train_list, args.val_list):
            assert Path(given).stem in lists
        ids = {image_id for listed in lists.values() for image_id in listed}
        labels = ImageLabels(args.cls_labels, root, names)
        for image_id in ids:
            with Image.open(root.image(image_id)) as image:
                image.load()
        masks = {}
        for path in (target / "SegmentationClass").glob("*"):
            with Image.open(path) as mask:
                assert mask.mode == "P" and mask.getpalette()[3:9] == [128, 0, 0, 0, 128, 0]  # VOC's red and green
                masks[path.stem] = np.array(mask).tolist()
        return {
            "names": names,
            "lists": lists,
            "labels": {image_id: labels[image_id].tolist() for image_id in sorted(ids)},
            "masks": masks,
            "settings": yaml.safe_load((target / "set.yaml").read_text(encoding="utf-8")),
        }

    return read
