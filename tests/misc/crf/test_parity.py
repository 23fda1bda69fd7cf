"""C and PyTorch give pydensecrf's labels: the referee is there where Python is 3.12 or older."""

from itertools import product

import numpy as np
import pytest
import torch
from PIL import Image

from misc.crf import c_backend
from misc.crf.dense_crf import DenseCRF

pytest.importorskip("pydensecrf.densecrf")
LEAST = {"c": 0.9999, "torch": 0.999}  # shares of the pixels of a test
N_LABELS = (2, 3, 4, 5, 21, 22)
REACHES = ((1, 5), (20, 5), (50, 5), (67, 3))


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def generated(kind: str, shape: tuple[int, int], seed: int) -> np.ndarray:
    """Images that are smooth, noise, striped, nearly black, or of one colour: (H, W, 3) uint8."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (max(2, shape[0] // 12), max(2, shape[1] // 12), 3), dtype=np.uint8)
    smooth = np.array(Image.fromarray(coarse).resize(shape[::-1], Image.Resampling.BICUBIC))
    return {
        "smooth": smooth,
        "grain": np.clip(smooth + rng.normal(0, 6, smooth.shape), 0, 255).astype(np.uint8),
        "noise": rng.integers(0, 256, (*shape, 3), dtype=np.uint8),
        "stripes": np.where(np.indices(shape)[1][..., None] // 3 % 2, smooth, 255 - smooth),
        "dark": smooth // 40,  # zeros are ties between the coordinates of a point
        "white": np.full((*shape, 3), 255, np.uint8),
    }[kind]


KINDS = ("smooth", "grain", "noise", "stripes", "dark", "white")


def patches(shape: tuple[int, int], n_labels: int, seed: int) -> np.ndarray:
    """A label map of squares, most of them of label 0 and 1 others."""
    rng = np.random.default_rng(seed)
    side = 9
    coarse = rng.integers(0, n_labels, (-(-shape[0] // side), -(-shape[1] // side)))
    return coarse.repeat(side, axis=0).repeat(side, axis=1)[: shape[0], : shape[1]]


def agreement(image: np.ndarray, n_labels: int, sxy: float, srgb: float, seed: int) -> dict[str, int]:
    """Pixels that differ from pydensecrf's, by backend; from label maps and from energies."""
    labels = patches(image.shape[:2], n_labels, seed)
    rng = np.random.default_rng(seed)
    unary = (rng.normal(size=(n_labels, *image.shape[:2])) - 2 * (labels == np.arange(n_labels)[:, None, None])).astype(
        np.float32
    )
    results = {}
    for backend in ("pydensecrf", *LEAST):
        if backend == "c" and not c_backend.available():
            continue
        crf = DenseCRF(image, n_labels, sxy=sxy, srgb=srgb, backend=backend)
        results[backend] = np.stack([crf.refine(labels), crf.infer(unary)])
    referee = results.pop("pydensecrf")
    return {backend: int((result != referee).sum()) for backend, result in results.items()}


def check(cases) -> None:
    """cases: (image, n_labels, sxy, srgb)"""
    differing, pixels = dict.fromkeys(LEAST, 0), 0
    for seed, (image, *settings) in enumerate(cases):
        pixels += 2 * image.shape[0] * image.shape[1]
        for backend, number in agreement(image, *settings, seed).items():
            differing[backend] += number
    for backend, least in LEAST.items():
        assert differing[backend] <= (1 - least) * pixels, f"{backend}: {differing[backend]} of {pixels}"


@pytest.mark.parametrize("n_labels", N_LABELS)
def test_photographs(golden, n_labels):
    g = golden("pseudo_masks")
    height, width = (75, 101) if n_labels < 20 else (40, 61)
    photographs = [g[f"img_{name}"][:height, :width] for name in g["ids"]]
    check((photographs[(i + n_labels) % 6], n_labels, *reach) for i, reach in enumerate(REACHES))


@pytest.mark.parametrize("kind", KINDS)
def test_generated_images(kind):
    check(
        (generated(kind, (23 + n_labels, 41), n_labels), n_labels, *REACHES[n_labels % 4]) for n_labels in (2, 3, 4, 7)
    )


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (2, 3), (3, 2)])
def test_odd_shapes(shape):
    """More labels than pixels among them."""
    check(
        (generated(kind, shape, 0), n_labels, 20, 5) for kind, n_labels in product(("grain", "dark"), (2, 3, 4, 22, 90))
    )


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "n_labels"), product(KINDS, N_LABELS))
def test_generated_images_of_many_sizes(kind, n_labels):
    sizes = ((17, 90), (64, 64), (75, 101), (120, 33), (110, 150))
    shift = KINDS.index(kind) + n_labels
    check((generated(kind, size, seed), n_labels, *REACHES[(seed + shift) % 4]) for seed, size in enumerate(sizes))


@pytest.mark.slow
@pytest.mark.parametrize("n_labels", N_LABELS)
def test_enlarged_photographs(golden, n_labels):
    g = golden("pseudo_masks")
    for name, reach in zip(g["ids"], REACHES[1:] * 2, strict=True):
        photograph = np.array(Image.fromarray(g[f"img_{name}"]).resize((303, 225), Image.Resampling.BICUBIC))
        check([(photograph, n_labels, *reach)])
