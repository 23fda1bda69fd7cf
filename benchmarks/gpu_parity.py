"""The same computation on a CPU and on a card: how far the results are apart, and the times of walk and dense CRF."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from benchmarks import inputs
from benchmarks.card import KernelRecorder, median_seconds
from benchmarks.crf_rows import BOUNDARY_LABELS, DEEPLAB
from benchmarks.inputs import TINY, Scale
from misc.config import Config, available_cores
from misc.crf import c_backend
from misc.crf.dense_crf import DenseCRF, unary_from_probabilities
from misc.formats.checkpoint import load_network
from misc.formats.compact_cam import ScaleMaps
from misc.method.boundary_labels import boundary_label
from misc.method.masks import strongest
from misc.method.random_walk import random_walk
from misc.pixels import rescale, scaled_size
from misc.run.device import autocast, pick_device, to_device, use_device
from net.cpu.fast import fast_on_cpu
from net.resnet50_cam import ResNet50CAM
from net.resnet50_sbe import ResNet50SBE
from step.make_boundary_label import CRF_REACH as LABEL_REACH
from step.make_boundary_label import confident_classes
from step.make_cam import maps_of_scales
from step.make_sem_seg import CRF_REACH as MASK_REACH
from step.make_sem_seg import edge_of, propagated_scores
from voc12.datasets import BICUBIC

PHOTOGRAPHS = 3
CPU = torch.device("cpu")
PUBLISHED = Config()
CRF_LABELS = (3, 21)


class Way(NamedTuple):
    """Where and in which precision something is computed."""

    name: str
    device: torch.device
    tf32: bool = False
    amp: bool = False


class Made(NamedTuple):
    """What the chain makes of one photograph; CAM and edge float32, the others label maps."""

    cam: np.ndarray
    edge: np.ndarray
    boundary_label: np.ndarray
    mask: np.ndarray
    crf_mask: np.ndarray


def scale_of(job: dict[str, Any]) -> Scale:
    return TINY if job["tiny"] else Scale()


def ways_of(device: torch.device) -> list[Way]:
    """How the card, or without one the CPU, computes."""
    if device.type == "cpu":
        return [Way("CPU again", device)]
    return [Way("TF32 off", device), Way("TF32 on", device, tf32=True), Way("bfloat16 (--amp)", device, amp=True)]


def compare(job: dict[str, Any]) -> dict[str, Any]:
    """Photographs from CAMs to masks after the CRF, on the CPU and each way on the card."""
    folder = Path(job["folder"])
    pictures = [inputs.picture(scale_of(job).image, number) for number in range(PHOTOGRAPHS)]
    expected = list(chain(pictures, folder, Way("CPU", CPU)))
    rows = []
    for way in ways_of(pick_device(job["device"])):
        use_device(way.device, tf32=way.tf32)
        rows.append({"way": way.name, **differences(expected, list(chain(pictures, folder, way)))})
    return {"photographs": PHOTOGRAPHS, "size": scale_of(job).image, "rows": rows}


def chain(pictures: list[Any], folder: Path, way: Way) -> Iterator[Made]:
    """What the steps make of each photograph, from the same weights."""
    weights = folder / "weights"
    classifier = load_network(lambda: ResNet50CAM(inputs.N_CLASSES), weights / "classifier.pth").eval()
    boundaries = load_network(ResNet50SBE, weights / "boundary.pth").eval()
    for network in classifier, boundaries:
        to_device(fast_on_cpu(network), way.device)
    for image, _, saliency, keys in pictures:
        yield made(classifier, boundaries, image, saliency, np.array(keys, np.int64), way)


def made(
    classifier: ResNet50CAM,
    boundaries: ResNet50SBE,
    image: np.ndarray,
    saliency: np.ndarray,
    keys: np.ndarray,
    way: Way,
) -> Made:
    size = image.shape[0], image.shape[1]
    crf = partial(DenseCRF, image, len(keys) + 1, device=way.device)
    scaled = [torch.from_numpy(rescale(image, scaled_size(size, s), BICUBIC)) for s in PUBLISHED.cam_scales]
    with autocast(way.device, way.amp):
        maps = maps_of_scales(classifier, scaled, keys, way.device)
    cam = inputs.CAM(keys, *ScaleMaps(keys, size, PUBLISHED.cam_scales, maps).merged())
    conf = confident_classes(
        crf(sxy=LABEL_REACH), cam, foreground=PUBLISHED.conf_fg_thres, background=PUBLISHED.conf_bg_thres
    )
    label = boundary_label(
        conf,
        saliency,
        window=PUBLISHED.window_size,
        theta_scale=PUBLISHED.theta_scale,
        theta_diff=PUBLISHED.theta_diff,
        salient_threshold=PUBLISHED.salbound_thres,
    )
    edge = edge_of(boundaries, torch.from_numpy(image), way.device, amp=way.amp, apart=False)
    _, scores = propagated_scores(
        torch.from_numpy(cam.cam_s4).to(way.device), edge, size, beta=PUBLISHED.beta, exp_times=PUBLISHED.exp_times
    )
    mask = strongest(scores, PUBLISHED.sem_seg_bg_thres)
    return Made(cam.cam_full, edge.cpu().numpy(), label, mask, crf(sxy=MASK_REACH).refine(mask))


def differences(expected: list[Made], found: list[Made]) -> dict[str, float]:
    """Root mean square and largest difference of CAMs and boundaries, shares of pixels whose labels differ."""
    result: dict[str, float] = {}
    for name in ("cam", "edge"):
        apart = np.concatenate([values(a, name) - values(b, name) for a, b in zip(expected, found, strict=True)])
        result |= {f"{name}_rms": float(np.sqrt((apart**2).mean())), f"{name}_max": float(np.abs(apart).max())}
    for name in ("boundary_label", "mask", "crf_mask"):
        differ = np.concatenate([values(a, name) != values(b, name) for a, b in zip(expected, found, strict=True)])
        result |= {name: float(differ.mean())}
    return result


def values(made: Made, name: str) -> np.ndarray:
    return getattr(made, name).astype(np.float64).ravel()


def walk(job: dict[str, Any]) -> dict[str, Any]:
    """Two classes walk over the grid of a photograph on one core, on all, on the card: seconds, and how far apart."""
    device, grid = pick_device(job["device"]), scale_of(job).grid
    cam, edge = inputs.walk_input(grid)
    with cores_of_torch(1):
        exact = random_walk(cam, edge, beta=5, exp_times=8)
        rows = [{"where": "CPU, one core", "seconds": median_seconds(walk_of(cam, edge), CPU, repeats=5)}]
    rows.append(
        {"where": f"CPU, {available_cores()} cores", "seconds": median_seconds(walk_of(cam, edge), CPU, repeats=5)}
    )
    if device.type == "cuda":
        call = walk_of(cam.to(device), edge.to(device))
        rows.append({"where": "card", "seconds": median_seconds(call, device, repeats=20)})
        with KernelRecorder(device) as recorder:
            found = call()
        rows[-1] |= {
            "kernels": recorder.kernels.number if recorder.kernels else None,
            "largest_difference": float((found.cpu() - exact).abs().max()),
        }
    return {"grid": grid, "rows": rows}


def walk_of(cam: torch.Tensor, edge: torch.Tensor) -> Callable[[], torch.Tensor]:
    return lambda: random_walk(cam, edge, beta=5, exp_times=8)


@contextmanager
def cores_of_torch(cores: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(cores)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def crf(job: dict[str, Any]) -> dict[str, Any]:
    """The dense CRF of photographs, filters included, with few labels and many: seconds an image, and equal labels."""
    device = pick_device(job["device"])
    images = [inputs.photograph(scale_of(job).image, number) for number in range(PHOTOGRAPHS)]
    rows = []
    with cores_of_torch(1):  # each thread takes one core
        for n_labels in CRF_LABELS:
            scores = [inputs.scores(image.shape[:2], n_labels, number) for number, image in enumerate(images)]
            calls = {
                name: [
                    partial(labels_of, image, one, backend, where) for image, one in zip(images, scores, strict=True)
                ]
                for name, backend, where in crf_ways(device)
            }
            expected = [call() for call in next(iter(calls.values()))]
            for name, of_images in calls.items():
                found = [call() for call in of_images]
                differ = np.concatenate([(a != b).ravel() for a, b in zip(expected, found, strict=True)])
                rows.append(
                    {
                        "labels": n_labels,
                        "where": name,
                        "differ": float(differ.mean()),
                        "seconds": crf_seconds(of_images, device, 1),
                        "threads": available_cores(),
                        "seconds_threads": crf_seconds(of_images, device, available_cores()),
                    }
                )
    return {"size": scale_of(job).image, "rows": rows}


def crf_ways(device: torch.device) -> list[tuple[str, str, torch.device]]:
    """Name, backend and device of each way; the first is what the others are compared with."""
    ways = [("C, CPU", "c", CPU)] if c_backend.available() else []
    if device.type == "cuda":
        ways.append(("PyTorch, card", "torch", device))
    return ways or [("PyTorch, CPU", "torch", CPU)]


def labels_of(image: np.ndarray, scores: np.ndarray, backend: Any, device: torch.device) -> np.ndarray:
    """Label maps as in make_boundary_label; from 21 labels on, probabilities as in make_deeplab_seg."""
    n_labels = len(scores)
    if n_labels < CRF_LABELS[-1]:
        crf = DenseCRF(image, n_labels, backend=backend, device=device, **BOUNDARY_LABELS)
        return crf.refine(scores.argmax(axis=0))
    crf = DenseCRF(image, n_labels, backend=backend, device=device, **DEEPLAB)
    return crf.infer(unary_from_probabilities(scores))


def crf_seconds(calls: Sequence[Callable[[], np.ndarray]], device: torch.device, threads: int) -> float:
    """Seconds an image where so many threads each refine another; the median of three rounds."""
    work = [calls[number % len(calls)] for number in range(max(len(calls), 2 * threads if threads > 1 else 0))]
    with ThreadPoolExecutor(threads) as pool:
        return median_seconds(lambda: list(pool.map(lambda call: call(), work)), device, repeats=3) / len(work)
