"""What the benchmarks run on: generated images, CAMs and saliency in VOC layout, formula weights, random grids.

Everything is a function of its number, so both sides, and each fresh process, get the same.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from scipy.ndimage import gaussian_filter
from scipy.special import softmax

from misc.config import Config
from misc.formats.cam_file import CAM, write_cam
from misc.formats.images import write_mask
from misc.method.boundary_labels import boundary_label
from misc.pixels import normalise, stride4
from net.resnet50_cam import ResNet50CAM
from net.resnet50_sbe import ResNet50SBE
from tests.golden.formula_weights import fill
from voc12.generated_set import make_sample
from voc12.image_set import PROJECT

N_CLASSES = 20
SEED = 5
Size = tuple[int, int]  # height, width


@dataclass(frozen=True)
class Scale:
    """How large everything is."""

    image: Size = (375, 500)
    images: int = 8  # of our step, a measurement
    slow_images: int = 1  # of the published make_sem_seg, a measurement
    grid: Size = (94, 125)  # the stride-4 grid of `image`
    crop: int = 512
    steps: int = 2  # training steps a measurement
    large: Size = (3000, 4000)


TINY = Scale(image=(60, 80), images=2, grid=(12, 15), crop=64, steps=1, large=(120, 160))


def picture(size: Size, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[int]]:
    """An image (H, W, 3), its mask and its saliency map, all uint8, and two classes, from 0, sorted."""
    sample = make_sample(SEED, number, max(64, min(max(size), 500)))
    resize = Image.Resampling
    image, mask, saliency = (
        np.array(Image.fromarray(array).resize(size[::-1], method))
        for array, method in (
            (sample.image, resize.BICUBIC), (sample.mask, resize.NEAREST), (sample.saliency, resize.BILINEAR),
        )
    )  # fmt: skip
    shown = [int(c) - 1 for c in np.unique(sample.mask) if 0 < c <= N_CLASSES]
    absent = [c for c in range(N_CLASSES) if c not in shown]
    return image, mask, saliency, sorted((shown + absent)[:2])


def smooth_cam(mask: np.ndarray, keys: list[int], number: int) -> CAM:
    """Blurred objects plus soft noise, each map's maximum 1: what a classifier gives, roughly."""
    rng = np.random.default_rng([SEED, number])
    step = max(1, max(mask.shape) // 500)
    coarse = mask[::step, ::step]
    spread = max(coarse.shape) / 25
    maps = []
    for key in keys:
        noise = gaussian_filter(rng.normal(size=coarse.shape), spread)
        scores = gaussian_filter((coarse == key + 1).astype(np.float64), spread) + 0.15 * np.abs(noise) / noise.std()
        maps.append(scores / scores.max())
    cam = torch.from_numpy(np.stack(maps).astype(np.float32))[None]
    full, strided = (
        F.interpolate(cam, size, mode="bilinear", align_corners=False)[0].numpy()
        for size in (mask.shape, (stride4(mask.shape[0]), stride4(mask.shape[1])))
    )
    return CAM(np.array(keys, np.int64), strided, full)


def write_set(root: Path, size: Size, images: int) -> None:
    """Write images, saliency, masks, CAMs, boundary labels, list.txt and labels.txt, unless they are there."""
    done = root / "done"
    if done.exists():
        return
    for folder in ("JPEGImages", "Sal", "SegmentationClass", "cams", "boundary_label"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    lines = []
    for number in range(images):
        name = f"bench_{number:03d}"
        image, mask, saliency, keys = picture(size, number)
        Image.fromarray(image).save(root / "JPEGImages" / f"{name}.jpg", quality=92)
        Image.fromarray(saliency).save(root / "Sal" / f"{name}.png")
        write_mask(root / "SegmentationClass" / f"{name}.png", mask)
        Image.fromarray(label_of(mask, saliency)).save(root / "boundary_label" / f"{name}.png")
        write_cam(root / "cams" / f"{name}.npy", smooth_cam(mask, keys, number))
        lines.append(" ".join([name, *map(str, keys)]))
    (root / "labels.txt").write_text("\n".join([*lines, ""]))
    (root / "list.txt").write_text("\n".join([*(line.split()[0] for line in lines), ""]))
    done.touch()


def write_weights(folder: Path) -> None:
    """Write classifier.pth and boundary.pth: the formula weights of the golden arrays."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, network in ("classifier", ResNet50CAM(N_CLASSES)), ("boundary", ResNet50SBE()):
        if not (folder / f"{name}.pth").exists():
            fill(network.state_dict())
            torch.save(network.state_dict(), folder / f"{name}.tmp")
            (folder / f"{name}.tmp").rename(folder / f"{name}.pth")


def settings(root: Path, out: Path, weights: Path, **changes: Any) -> Config:
    """The published settings, pointed at a set of `write_set`, on the CPU."""
    paths = {
        "voc12_root": root,
        "class_names": PROJECT / "voc12" / "class_names.txt",
        "cls_labels": root / "labels.txt",
        **dict.fromkeys(("train_aug_list", "train_list", "val_list", "infer_list"), root / "list.txt"),
        "cam_weights_name": weights / "classifier.pth",
        "bes_weights_name": weights / "boundary.pth",
        "cam_out_dir": root / "cams",
        "cam_vis_dir": out / "cam_vis",
        "boundary_label_dir": out / "boundary_label",
        "sem_seg_out_dir": out / "sem_seg",
        "log_name": out / "log",
    }
    values: dict[str, Any] = {name: str(path) for name, path in paths.items()}
    config = Config(device="cpu", backbone_weights="none", **values)
    return replace(config, **changes)


def walk_input(grid: Size, classes: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    """Smooth maps (K, h, w) in [0, 1] and boundaries (h, w) that close around regions, float32."""
    rng = np.random.default_rng([SEED, *grid])
    spread = max(grid) / 12
    maps = [gaussian_filter(rng.normal(size=grid), spread) for _ in range(classes)]
    cam = np.stack([(m - m.min()) / (m.max() - m.min()) for m in maps])
    level = gaussian_filter(rng.normal(size=grid), spread)
    edge = 0.02 + 0.95 * np.exp(-((level / level.std() / 0.15) ** 2))  # ridges along the zero line
    return torch.from_numpy(cam.astype(np.float32)), torch.from_numpy(edge.astype(np.float32))


def photograph(size: Size, number: int) -> np.ndarray:
    """(H, W, 3) uint8: a golden photograph, enlarged, with grain of 4 of 255: without, it would have half the colours
    of a photograph of this size."""
    with np.load(PROJECT / "tests" / "golden" / "pseudo_masks.npz") as golden:
        small = golden[f"img_{golden['ids'][number]}"]
    enlarged = np.array(Image.fromarray(small).resize(size[::-1], Image.Resampling.BICUBIC), np.float64)
    grain = np.random.default_rng([SEED, number]).normal(0, 4, enlarged.shape)
    return np.clip(enlarged + grain, 0, 255).astype(np.uint8)


def scores(size: Size, n_labels: int, number: int) -> np.ndarray:
    """Smooth probabilities (n_labels, H, W) float32."""
    rng = np.random.default_rng([SEED, number])
    logits = np.stack([gaussian_filter(rng.normal(size=size), max(size) / 30) for _ in range(n_labels)])
    return softmax(2 * logits / logits.std(), axis=0).astype(np.float32)


def label_of(mask: np.ndarray, saliency: np.ndarray) -> np.ndarray:
    """(H, W) uint8: the boundary label of a mask."""
    rules = {"window": 13, "theta_scale": 0.3, "theta_diff": 0.1, "salient_threshold": 0.5}
    return boundary_label(mask, saliency, **rules)  # type: ignore[arg-type]


def classifier_batch(crop: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Two samples (3, crop, crop), (C,) float32."""
    samples = []
    for number in range(2):
        image, _, _, keys = picture((crop, crop), number)
        samples.append((normalise(image), np.isin(np.arange(N_CLASSES), keys).astype(np.float32)))
    return samples


def boundary_batch(crop: int) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Two samples (3, crop, crop) float32, (crop/4, crop/4) uint8, (crop, crop) float32."""
    samples = []
    for number in range(2):
        image, mask, saliency, _ = picture((crop, crop), number)
        label = Image.fromarray(label_of(mask, saliency)).resize((crop // 4, crop // 4), Image.Resampling.NEAREST)
        samples.append((normalise(image), np.array(label), saliency.astype(np.float32) / saliency.max()))
    return samples
