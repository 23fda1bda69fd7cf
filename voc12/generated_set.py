"""A small data set in VOC format, generated from a seed: the demo needs no download.

Every object is a silhouette of a few parts. The `key` parts carry the texture that tells the class, the others are
plain and coloured alike in all classes: a CAM lights up only a part of the object, which later stages repair.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import imageio.v3 as iio
import numpy as np
from PIL import Image, ImageDraw
from scipy.ndimage import find_objects, gaussian_filter, maximum_filter, minimum_filter

from misc.errors import InputError
from misc.files import replacing
from misc.formats.images import write_grey, write_mask

VOC_CLASSES = (  # class number = position + 1
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
VOID = 255
ID_PREFIX = "demo_"
MIN_SIDE = 64  # pixels; in smaller images the void rim covers too much of the objects
SUPERSAMPLING = 3
MIN_VISIBLE = 0.025  # share of the image's pixels that each object keeps outside the void rim
Size = tuple[int, int]  # height, width


class Kind(NamedTuple):
    """How the objects of one class look."""

    name: str
    texture: str
    colours: tuple[tuple[int, int, int], tuple[int, int, int]]  # of the texture
    half_size: tuple[float, float]  # range of half the object's extent, as a share of the image's side
    tilt: float  # largest rotation, degrees
    # Paint and outline of each part, from back to front. Outlines are in object coordinates, x right, y down, the
    # object in about [-1, 1]²: a polygon x0, y0, x1, y1, …, or four numbers for an ellipse's centre and radii.
    parts: tuple[tuple[str, tuple[float, ...]], ...]


KINDS = (
    Kind("aeroplane", "stripes", ((40, 90, 220), (225, 235, 250)), (0.25, 0.35), 40, (
        ("body", (-0.7, -0.05, -0.9, -0.48, -1.08, -0.48, -0.98, 0, -1.08, 0.48, -0.9, 0.48, -0.7, 0.05)),
        ("key", (0.42, 0, 0.3, -0.25, -0.22, -0.98, -0.58, -0.98, -0.28, -0.2,
                 -0.28, 0.2, -0.58, 0.98, -0.22, 0.98, 0.3, 0.25)),
        ("body", (0, 0, 1, 0.24)), ("dark", (0.7, 0, 0.14, 0.12)))),
    Kind("bottle", "checks", ((205, 25, 185), (250, 225, 205)), (0.27, 0.37), 18, (
        ("body", (-0.46, 1, 0.46, 1, 0.48, 0, 0.2, -0.42, 0.18, -0.92, -0.18, -0.92, -0.2, -0.42, -0.48, 0)),
        ("dark", (-0.21, -1, 0.21, -1, 0.21, -0.82, -0.21, -0.82)),
        ("key", (-0.48, 0, 0.48, 0, 0.46, 0.76, -0.46, 0.76)))),
    Kind("car", "diagonals", ((245, 205, 30), (40, 35, 30)), (0.24, 0.33), 8, (
        ("body", (-1, 0.38, -1, -0.05, -0.85, -0.14, -0.6, -0.14, -0.38, -0.62,
                  0.36, -0.62, 0.64, -0.14, 0.8, -0.14, 1, 0.02, 1, 0.38)),
        ("pale", (-0.46, -0.14, -0.3, -0.5, -0.04, -0.5, -0.04, -0.14)),
        ("pale", (0.06, -0.14, 0.06, -0.5, 0.3, -0.5, 0.48, -0.14)),
        ("key", (-0.55, 0.36, -0.55, -0.12, 0.52, -0.12, 0.52, 0.36)),
        ("dark", (-0.58, 0.4, 0.23, 0.23)), ("dark", (0.58, 0.4, 0.23, 0.23)))),
    Kind("cow", "blotches", ((25, 22, 25), (245, 242, 238)), (0.25, 0.34), 8, (
        ("body", (-0.66, 0.1, -0.66, 0.85, -0.44, 0.85, -0.42, 0.3, 0.26, 0.3, 0.28, 0.85, 0.5, 0.85, 0.52, 0.1)),
        ("key", (-0.08, 0, 0.7, 0.42)),
        ("body", (0.4, -0.28, 0.7, -0.6, 0.82, -0.1, 0.55, 0.18)), ("body", (0.78, -0.4, 0.26, 0.22)),
        ("pale", (0.58, -0.56, 0.52, -0.82, 0.72, -0.6)), ("dark", (0.95, -0.33, 0.1, 0.12)))),
    Kind("person", "stripes", ((225, 35, 35), (250, 245, 240)), (0.29, 0.39), 10, (
        ("body", (-0.34, 0.2, 0.34, 0.2, 0.4, 1, 0.12, 1, 0, 0.42, -0.12, 1, -0.4, 1)),
        ("body", (-0.3, -0.48, -0.62, 0.1, -0.46, 0.22, -0.2, -0.2, 0.2, -0.2, 0.46, 0.22, 0.62, 0.1, 0.3, -0.48)),
        ("key", (-0.36, -0.5, 0.36, -0.5, 0.36, 0.28, -0.36, 0.28)),
        ("pale", (0, -0.74, 0.23, 0.26)), ("dark", (-0.24, -0.76, -0.16, -0.99, 0.16, -0.99, 0.24, -0.76)))),
    Kind("pottedplant", "dots", ((35, 150, 45), (150, 235, 70)), (0.25, 0.35), 10, (
        ("key", (-0.1, 0.2, -0.88, -0.1, -0.7, -0.6, -0.3, -0.6, 0, 0, 0.3, -0.6, 0.7, -0.6, 0.88, -0.1, 0.1, 0.2)),
        ("key", (0, -0.42, 0.3, 0.56)), ("body", (-0.56, 0.1, 0.56, 0.1, 0.42, 1, -0.42, 1)),
        ("dark", (-0.62, 0.06, 0.62, 0.06, 0.62, 0.22, -0.62, 0.22)))),
)  # fmt: skip
BODY_COLOURS = ((150, 95, 70), (95, 105, 125), (205, 190, 165), (110, 75, 105), (70, 95, 95), (185, 150, 95))
PLAIN_PAINTS = (("dark", (45, 42, 48)), ("pale", (225, 205, 190)))
SCENES = (  # colour of the upper and of the lower part
    ((150, 185, 215), (105, 125, 75)), ((185, 190, 195), (130, 120, 110)), ((200, 185, 160), (120, 90, 65)),
    ((140, 150, 160), (165, 155, 130)), ((120, 140, 120), (85, 100, 70)),
)  # fmt: skip


class Sample(NamedTuple):
    """One image of the set, sizes alike."""

    image: np.ndarray  # (H, W, 3) uint8
    mask: np.ndarray  # (H, W) uint8: class number, 0 background, 255 void
    saliency: np.ndarray  # (H, W) uint8
    objects: list[tuple[str, tuple[int, int, int, int]]]  # name and xmin, ymin, xmax, ymax counted from 1


def generate(root: Path, *, seed: int, train_images: int = 160, val_images: int = 32, side: int = 128) -> None:
    """Write a VOC root with the lists train, val and trainval; a seed's set is the same bytes on every run.

    Image i depends on seed, i and side only; the train list takes the first `train_images`, val the next ones.
    Images measure 0.8 to 1.1 times `side`, each its own height and width. Files that exist are replaced.
    Raises InputError if side < 64, or if a list would be empty.
    """
    if side < MIN_SIDE:
        raise InputError(f"side = {side}: objects would vanish, take {MIN_SIDE} or more")
    if min(train_images, val_images) < 1:
        raise InputError(f"train_images = {train_images}, val_images = {val_images}: each list needs 1 or more")
    ids = [f"{ID_PREFIX}{i:05d}" for i in range(train_images + val_images)]
    for index, image_id in enumerate(ids):
        _write_sample(root, image_id, make_sample(seed, index, side))
    for name, members in ("train", ids[:train_images]), ("val", ids[train_images:]), ("trainval", ids):
        _write(root / "ImageSets" / "Segmentation" / f"{name}.txt", "\n".join([*members, ""]).encode())


def make_sample(seed: int, index: int, side: int) -> Sample:
    """Draw image `index` of the set of `seed`: one to three objects, later ones in front."""
    rng = np.random.default_rng([seed, index])
    size: Size = tuple(rng.integers(round(0.8 * side), round(1.1 * side) + 1, 2).tolist())
    picture = _background(rng, size)
    instances = np.zeros(size, np.uint8)  # 0 background, then the number of the object in front
    kinds: list[Kind] = []
    count = int(rng.choice([1, 2, 3], p=[0.4, 0.45, 0.15]))
    for _ in range(8 * count):  # an object that is hidden, or hides another, is drawn anew
        # The first object goes through the classes in turn: small sets hold every class too.
        kind = KINDS[rng.integers(len(KINDS)) if kinds else index % len(KINDS)]
        colour, coverage = _draw_object(rng, kind, size, side)
        covered = np.where(coverage[..., 0] > 0.5, len(kinds) + 1, instances).astype(np.uint8)
        visible = np.bincount(covered[~_rim(covered)], minlength=len(kinds) + 2)[1:]
        if visible.min() >= MIN_VISIBLE * covered.size:
            picture += coverage * (colour - picture)
            instances, kinds = covered, [*kinds, kind]
        if len(kinds) == count:
            break
    numbers = np.array([0, *(VOC_CLASSES.index(kind.name) + 1 for kind in kinds)], np.uint8)
    mask = np.where(_rim(instances), VOID, numbers[instances]).astype(np.uint8)
    saliency = _saliency(rng, instances, len(kinds), side)
    image = (picture + rng.normal(0, 3, picture.shape)).clip(0, 255).astype(np.uint8)
    boxes = [(xs.start + 1, ys.start + 1, xs.stop, ys.stop) for ys, xs in find_objects(instances)]
    return Sample(image, mask, saliency, [(kind.name, box) for kind, box in zip(kinds, boxes, strict=True)])


def _rim(instances: np.ndarray) -> np.ndarray:
    """True where the 3×3 neighbourhood holds two objects, or object and background."""
    return maximum_filter(instances, 3) != minimum_filter(instances, 3)


def _background(rng: np.random.Generator, size: Size) -> np.ndarray:
    """Sky above ground with soft light, grain and clutter that is of no class: (H, W, 3) float, 0…255."""
    y, x = np.mgrid[: size[0], : size[1]] / max(size)
    horizon = rng.uniform(0.2, 0.8) + rng.uniform(-0.2, 0.2) * (x - 0.5)
    ground = 1 / (1 + np.exp((horizon - y) * rng.uniform(10, 60)))[..., None]
    top, bottom = (np.array(c) + rng.normal(0, 12, 3) for c in SCENES[rng.integers(len(SCENES))])
    light = gaussian_filter(rng.normal(size=(*size, 1)), (size[0] / 9, size[1] / 9, 0))
    grain = gaussian_filter(rng.normal(size=(*size, 1)), (*rng.uniform(0.6, 1.6, 2), 0))
    picture = top + ground * (bottom - top) + 14 * light / light.std() + 7 * ground * grain / grain.std()
    for _ in range(rng.integers(0, 4)):
        scale = rng.uniform(0.05, 0.3) * max(size) * np.array([1, rng.choice([0.1, 0.7])])  # a line or a blob
        coverage = _coverage((0, 0, 1, 1), _axes(rng.uniform(0, 180), scale), rng.uniform(0, size[::-1]), size)
        picture += 0.8 * coverage * (rng.uniform(60, 190) - picture)
    return picture


def _coverage(points: Sequence[float], axes: np.ndarray, centre: np.ndarray, size: Size) -> np.ndarray:
    """Share of each pixel within an outline (see Kind) that axes (2, 2) and centre (2,) take to pixels: (H, W, 1)."""
    corners = np.reshape(points, (-1, 2))
    if len(points) == 4:
        turn = np.linspace(0, 2 * np.pi, 40, endpoint=False)[:, None]
        corners = corners[0] + corners[1] * np.hstack([np.cos(turn), np.sin(turn)])
    canvas = Image.new("L", (size[1] * SUPERSAMPLING, size[0] * SUPERSAMPLING))
    ImageDraw.Draw(canvas).polygon(((corners @ axes.T + centre) * SUPERSAMPLING).ravel().tolist(), fill=255)
    return np.asarray(canvas.reduce(SUPERSAMPLING), np.float64)[..., None] / 255


def _axes(degrees: float, scale: np.ndarray) -> np.ndarray:
    """The (2, 2) matrix from object coordinates to pixels."""
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return np.array([[c, -s], [s, c]]) * scale


def _draw_object(rng: np.random.Generator, kind: Kind, size: Size, side: int) -> tuple[np.ndarray, np.ndarray]:
    """An object at a random pose: its colours (H, W, 3) in 0…255 and its coverage (H, W, 1) in [0, 1]."""
    half = rng.uniform(*kind.half_size)
    centre = rng.uniform(0.8 * half, 1 - 0.8 * half, 2) * size[::-1]  # at times a little beyond the image's border
    scale = half * rng.uniform(0.88, 1.12, 2) * (rng.choice([-side, side]), side)  # mirrored or not
    axes = _axes(rng.uniform(-kind.tilt, kind.tilt), scale)
    y, x = np.mgrid[: size[0], : size[1]]
    u, v = np.einsum("ij,jhw->ihw", np.linalg.inv(axes), np.stack([x - centre[0], y - centre[1]]))
    first, second = (np.array(colour) + rng.normal(0, 14, 3) for colour in kind.colours)
    body = np.array(BODY_COLOURS[rng.integers(len(BODY_COLOURS))]) + rng.normal(0, 12, 3)
    paints = {"key": second + _texture(rng, kind.texture, u, v) * (first - second), "body": body} | dict(PLAIN_PAINTS)
    picture, total = np.zeros((*size, 3)), np.zeros((*size, 1))
    for paint, points in kind.parts:
        coverage = _coverage(points, axes, centre, size)
        picture += coverage * (paints[paint] - picture)
        total = np.maximum(total, coverage)
    # Light from above, and a darker seam along the silhouette: an edge against any background.
    inside = np.clip(2 * gaussian_filter(total, (1.2, 1.2, 0), mode="nearest") - 1, 0, 1)
    return picture * (1.05 - 0.15 * v.clip(-1, 1)[..., None]) * (0.45 + 0.55 * inside), total


def _texture(rng: np.random.Generator, name: str, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """A pattern in object coordinates, random phase and scale: (H, W, 1) in [0, 1]."""
    a, b = rng.uniform(2.4, 3.2) * np.pi * np.stack([u, v]) + rng.uniform(0, 2 * np.pi, (2, 1, 1))
    wave = {
        "stripes": np.sin(1.7 * b),
        "diagonals": np.sin(1.3 * (a + b)),
        "checks": 2 * np.sin(1.2 * a) * np.sin(1.2 * b),
        "dots": 1.2 + 2 * np.sin(1.6 * a) * np.sin(1.6 * b),
        "blotches": np.sin(a + 1.5 * np.sin(0.7 * b)) + np.sin(1.2 * b + 1.5 * np.sin(0.8 * a)),
    }[name]
    return np.clip(0.5 + 2 * wave, 0, 1)[..., None]


def _saliency(rng: np.random.Generator, instances: np.ndarray, count: int, side: int) -> np.ndarray:
    """What a detector would give: soft borders, some objects missed, some background taken, (H, W) uint8."""
    amplitudes = rng.uniform(160, 255, count) * (rng.random(count) > 0.12)
    if not amplitudes.any():  # a blank map would switch the saliency rules off
        amplitudes[np.bincount(instances.ravel())[1:].argmax()] = rng.uniform(80, 130)
    softness = rng.uniform(0.01, 0.025) * side
    layers = [amplitudes[n - 1] * gaussian_filter((instances == n) * 1.0, softness) for n in range(1, count + 1)]
    if rng.random() < 0.2:
        offset = np.indices(instances.shape) - rng.uniform(0, instances.shape)[:, None, None]
        spread = rng.uniform(0.05, 0.12) * side
        layers.append(rng.uniform(80, 200) * np.exp(-((offset / spread) ** 2).sum(0) / 2))
    return np.where(np.max(layers, 0) < 20, 0, np.max(layers, 0)).astype(np.uint8)


def _write_sample(root: Path, image_id: str, sample: Sample) -> None:
    jpeg = iio.imwrite("<bytes>", sample.image, plugin="pillow", extension=".jpg", quality=92)
    _write(root / "JPEGImages" / f"{image_id}.jpg", jpeg)
    write_mask(root / "SegmentationClass" / f"{image_id}.png", sample.mask)
    write_grey(root / "Sal" / f"{image_id}.png", sample.saliency)
    _write(root / "Annotations" / f"{image_id}.xml", _annotation(image_id, sample).encode())


def _annotation(image_id: str, sample: Sample) -> str:
    height, width, depth = sample.image.shape
    size = f"<width>{width}</width><height>{height}</height><depth>{depth}</depth>"
    lines = [f"<filename>{image_id}.jpg</filename>", f"<size>{size}</size>"]
    for name, box in sample.objects:
        bounds = "".join(f"<{tag}>{n}</{tag}>" for tag, n in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
        lines.append(f"<object><name>{name}</name><bndbox>{bounds}</bndbox></object>")
    return "\n".join(["<annotation>", *lines, "</annotation>", ""])


def _write(path: Path, content: bytes) -> None:
    with replacing(path) as temporary:
        temporary.write_bytes(content)
