"""The published way of computing each inference step, written from docs/method.md ("section" is one of its).

Plain and honest: what a researcher writes with torch's and NumPy's defaults, one image after the other, in one
process, float32, NCHW. These functions are also a second, independent reference for the tests.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import scipy.sparse
import torch
import torch.nn.functional as F
from PIL import Image
from scipy.ndimage import convolve

from benchmarks.published_networks import PublishedBoundaryNetwork, PublishedClassifier
from misc.formats.palette import voc_palette

MEAN, STD = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)


def load_pair(path: Path, scale: float) -> tuple[torch.Tensor, tuple[int, int]]:
    """Section 2: the rescaled (bicubic), normalised image with its mirror image (2, 3, H·s, W·s); (H, W)."""
    image = Image.open(path).convert("RGB")
    width, height = image.size
    if scale != 1:
        image = image.resize((round(width * scale), round(height * scale)), Image.Resampling.BICUBIC)
    pixels = ((np.asarray(image, np.float32) / 255 - MEAN) / STD).transpose(2, 0, 1)
    return torch.from_numpy(np.stack([pixels, np.flip(pixels, -1)])), (height, width)


@torch.no_grad()
def make_cam(
    network: PublishedClassifier, image: Path, keys: np.ndarray, target: Path, scales: Sequence[float]
) -> None:
    """Section 2, from file to file: all C channels at each scale, summed, then the image's classes kept."""
    strided, high_res = [], []
    for scale in scales:
        pair, (height, width) = load_pair(image, scale)
        maps = network.all_maps(pair)[None]
        grid, padded = ((height - 1) // 4 + 1, (width - 1) // 4 + 1), (-(-height // 16) * 16, -(-width // 16) * 16)
        strided.append(F.interpolate(maps, grid, mode="bilinear", align_corners=False)[0])
        high_res.append(F.interpolate(maps, padded, mode="bilinear", align_corners=False)[0])
    classes = torch.from_numpy(keys)
    cam = torch.sum(torch.stack(strided), 0)[classes]
    full = torch.sum(torch.stack(high_res), 0)[:, :height, :width][classes]
    cam = cam / (F.adaptive_max_pool2d(cam, (1, 1)) + 1e-5)
    full = full / (F.adaptive_max_pool2d(full, (1, 1)) + 1e-5)
    np.save(target, np.array({"keys": classes, "cam": cam, "high_res": full.numpy()}, dtype=object))


def load_cam(path: Path) -> dict[str, np.ndarray]:
    content = np.load(path, allow_pickle=True).item()  # the benchmark's own file
    return {name: np.asarray(value) for name, value in content.items()}


def dense_crf(image: np.ndarray, labels: np.ndarray, n_labels: int, sxy: int) -> np.ndarray:
    """Section 8: a new CRF, with its own filters, for every label map."""
    from pydensecrf.densecrf import DenseCRF2D  # an extra: requirements-pydensecrf.txt
    from pydensecrf.utils import unary_from_labels

    height, width = labels.shape
    crf = DenseCRF2D(width, height, n_labels)
    crf.setUnaryEnergy(unary_from_labels(labels, n_labels, gt_prob=0.7, zero_unsure=False))
    crf.addPairwiseGaussian(sxy=3, compat=3)
    crf.addPairwiseBilateral(sxy=sxy, srgb=5, rgbim=np.ascontiguousarray(image), compat=10)
    return np.argmax(np.array(crf.inference(10)), axis=0).reshape(height, width)


def dense_crf_of_scores(image: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """The CRF of DeepLab's test: (C, H, W) probabilities."""
    from pydensecrf.densecrf import DenseCRF2D
    from pydensecrf.utils import unary_from_softmax

    crf = DenseCRF2D(image.shape[1], image.shape[0], len(probabilities))
    crf.setUnaryEnergy(unary_from_softmax(probabilities, clip=1e-5))
    crf.addPairwiseGaussian(sxy=1, compat=3)
    crf.addPairwiseBilateral(sxy=67, srgb=3, rgbim=np.ascontiguousarray(image), compat=4)
    return np.argmax(np.array(crf.inference(10)), axis=0).reshape(image.shape[:2])


def make_boundary_label(
    image_path: Path, saliency_path: Path, cam_path: Path, conf_path: Path, label_path: Path, n_classes: int
) -> None:
    """Section 4, from files to files, with the published settings."""
    image, saliency = np.array(Image.open(image_path).convert("RGB")), np.array(Image.open(saliency_path))
    cam = load_cam(cam_path)
    numbers = np.concatenate([[0], cam["keys"] + 1])
    refined = []
    for threshold in (0.30, 0.07):
        scores = np.pad(cam["high_res"], ((1, 0), (0, 0), (0, 0)), mode="constant", constant_values=threshold)
        refined.append(numbers[dense_crf(image, np.argmax(scores, axis=0), len(numbers), sxy=50)])
    conf = refined[0].copy()
    conf[refined[0] == 0] = 255
    conf[refined[0] + refined[1] == 0] = 0
    Image.fromarray(conf.astype(np.uint8)).save(conf_path)
    label = boundary_label(conf, saliency, n_classes)
    Image.fromarray(label).save(label_path)


def boundary_label(conf: np.ndarray, saliency: np.ndarray, n_classes: int) -> np.ndarray:
    """Section 4: a mean filter for the background and for each of the C classes, present or not."""
    masks = torch.from_numpy(np.stack([conf == number for number in range(n_classes + 1)]).astype(np.float32))
    shares = F.avg_pool2d(masks[None], 13, stride=1, padding=6, count_include_pad=False)[0]
    p0 = shares[0].numpy()
    p1, p2 = torch.topk(shares[1:], 2, dim=0).values.numpy()
    label = np.full(conf.shape, 200, np.uint8)
    label[saliency == 0] = 0
    label[(p0 > 0.6) & (p0 - p1 >= 0.2)] = 0
    label[(p1 > 0.6) & (p1 - p0 >= 0.2)] = 50
    label[(np.minimum(p0, p1) > 0.3) & (np.abs(p0 - p1) < 0.1)] = 150
    label[(p2 > 0.3) & (p1 - p2 < 0.1)] = 100
    normalised = saliency.astype(np.float64) / saliency.max()
    sobel = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]], np.float64)
    dx, dy = (convolve(normalised, kernel)[1:-1, 1:-1] for kernel in (sobel, sobel.T))
    magnitude = torch.from_numpy(np.sqrt(dx**2 + dy**2))[None, None]
    edges = F.interpolate(magnitude, conf.shape, mode="bilinear", align_corners=False)[0, 0].numpy()
    label[edges > 0.5] = 250
    return label


def walk_offsets(radius: int) -> list[tuple[int, int]]:
    """Section 6: one of each pair of opposite offsets less than `radius` apart."""
    reach = range(-radius + 1, radius)
    return [(dy, dx) for dy in reach for dx in reach if dy * dy + dx * dx < radius * radius and (dy, dx) > (0, 0)]


def walk_pairs(edge: torch.Tensor, radius: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Section 6 by index tables: for all pairs of interacting pixels, their flat indices and their affinity."""
    h, w = edge.shape
    margin = radius - 1
    outside = F.pad(edge, (margin, margin, 0, margin), value=1.0)
    index = torch.arange(outside.numel()).reshape(outside.shape)[:h, margin : margin + w].reshape(-1)
    y, x = (axis.reshape(-1) for axis in torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij"))
    first, second, affinity = [], [], []
    for dy, dx in walk_offsets(radius):
        path = [
            j * outside.shape[1] + i
            for j in range(min(dy, 0), max(dy, 0) + 1)
            for i in range(min(dx, 0), max(dx, 0) + 1)
            if (dy * i - dx * j) ** 2 / (dy * dy + dx * dx) < 1
        ]
        table = index[None] + torch.tensor(path)[:, None]
        inside = (y + dy < h) & (x + dx >= 0) & (x + dx < w)
        first.append((y * w + x)[inside])
        second.append(((y + dy) * w + x + dx)[inside])
        affinity.append((1 - outside.reshape(-1)[table].amax(dim=0))[inside])
    return torch.cat(first), torch.cat(second), torch.cat(affinity)


@torch.no_grad()
def random_walk_dense(
    cam: torch.Tensor, edge: torch.Tensor, *, beta: float = 5, exp_times: int = 8, radius: int = 5
) -> torch.Tensor:
    """Section 6 as written: the dense (h·w)² transition matrix in float32, squared exp_times times.

    cam (K, h, w), edge (h, w) float32 → (K, h, w) float32.
    """
    first, second, affinity = walk_pairs(edge, radius)
    n = edge.numel()
    transition = torch.zeros(n, n)
    transition[first, second] = affinity
    transition[second, first] = affinity
    transition.fill_diagonal_(1)
    transition = transition**beta
    transition = transition / transition.sum(dim=0, keepdim=True)
    for _ in range(exp_times):
        transition = torch.matmul(transition, transition)
    return torch.matmul((cam * (1 - edge)).reshape(len(cam), -1), transition).reshape(cam.shape)


def random_walk_double(
    cam: np.ndarray, edge: np.ndarray, *, beta: float = 5, exp_times: int = 8, radius: int = 5
) -> np.ndarray:
    """Section 6 in double precision, step by step: what both sides of the benchmark are measured against."""
    first, second, affinity = (part.numpy() for part in walk_pairs(torch.from_numpy(edge).double(), radius))
    n = edge.size
    upper = scipy.sparse.csr_array((affinity**beta, (first, second)), shape=(n, n))
    weights = (upper + upper.T + scipy.sparse.eye_array(n)).tocsr()
    transposed = (weights @ scipy.sparse.diags_array(1 / weights.sum(axis=0))).T.tocsr()
    walked = (cam.astype(np.float64) * (1 - edge.astype(np.float64))).reshape(len(cam), -1).T
    for _ in range(2**exp_times):
        walked = transposed @ walked
    return walked.T.reshape(cam.shape)


@torch.no_grad()
def make_sem_seg(network: PublishedBoundaryNetwork, image_path: Path, cam_path: Path, folder: Path) -> None:
    """Section 6, from files to files, with the published settings."""
    cam = load_cam(cam_path)
    pair, (height, width) = load_pair(image_path, 1)
    edge = network.edge(pair)
    walked = random_walk_dense(torch.from_numpy(cam["cam"]), edge)
    full = F.interpolate(walked[None], scale_factor=4, mode="bilinear", align_corners=False)[0][:, :height, :width]
    full = F.pad(full / full.max(), (0, 0, 0, 0, 1, 0), value=0.21)
    winners = torch.argmax(full, dim=0).numpy()
    numbers = np.concatenate([[0], cam["keys"] + 1]).astype(np.uint8)
    refined = dense_crf(np.array(Image.open(image_path).convert("RGB")), winners, len(numbers), sxy=20)
    for ending, labels in ("", winners), ("_crf", refined):
        mask = Image.fromarray(numbers[labels]).convert("P")
        mask.putpalette(voc_palette())
        mask.save(folder / f"{image_path.stem}{ending}.png")
    Image.fromarray((edge * 255).numpy().astype(np.uint8)).save(folder / f"{image_path.stem}_edge.png")
