"""A classical saliency map: salient is what differs from the background, background what is linked to the border.

Source: W. Zhu, S. Liang, Y. Wei, J. Sun, Saliency Optimization from Robust Background Detection, CVPR 2014:
boundary connectivity (section 3), background weighted contrast and saliency optimisation (section 4). Its
constants are kept. Differences: the image is shrunk first, the superpixels are a SLIC that may leave stray pixels,
and the smoothness term links adjacent superpixels and those of the border.
"""

import numpy as np
from PIL import Image
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import dijkstra

from misc.pixels import rescale, scaled_size, stretched

LONG_SIDE = 300  # pixels; larger images are shrunk to it
SUPERPIXELS = 400
ROUNDS = 5  # of the clustering
COMPACTNESS = 20.0  # a superpixel's width counts as much as this difference of colour
SIGMA_COLOUR = 10.0
SIGMA_BOUNDARY = 1.0
SIGMA_SPACE = 0.25  # of the image's long side
SMOOTHNESS = 0.1  # μ
SRGB_TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def robust_background_saliency(image: np.ndarray) -> np.ndarray:
    """Saliency of an image, from its pixels alone.

    image     (H, W, 3) uint8 RGB
    Returns   (H, W) float32 in [0, 1]; all 0 if the image has one colour.
    """
    size = image.shape[:2]
    scale = min(1, LONG_SIDE / max(size))
    lab = cielab(rescale(image, scaled_size(size, scale), Image.Resampling.BOX))
    patches = superpixels(lab)
    saliency = patch_saliency(*patch_graph(lab, patches))
    return rescale(saliency.astype(np.float32)[patches], size, Image.Resampling.BILINEAR)


def cielab(image: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 sRGB → (H, W, 3) float64 CIELAB under D65."""
    share = image / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    xyz = linear @ (SRGB_TO_XYZ / SRGB_TO_XYZ.sum(axis=1, keepdims=True)).T
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    x, y, z = np.moveaxis(f, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def superpixels(lab: np.ndarray) -> np.ndarray:
    """Patches of like colour by SLIC (Achanta et al., TPAMI 2012): k-means over colour and place, in which
    a pixel may choose among the 3×3 patches around it.

    lab       (H, W, 3)
    Returns   (H, W) int64, the number of its patch, from 0 without gaps.
    """
    height, width = lab.shape[:2]
    side = max(1.0, np.sqrt(height * width / SUPERPIXELS))
    rows, columns = max(1, round(height / side)), max(1, round(width / side))
    y, x = np.indices((height, width))
    row, column = (y * rows // height).ravel(), (x * columns // width).ravel()
    pixels = np.concatenate([lab, np.stack([y, x], axis=-1) * (COMPACTNESS / side)], axis=-1).reshape(-1, 5)
    nearest = row * columns + column
    for _ in range(ROUNDS):
        count = np.bincount(nearest, minlength=rows * columns)
        centres = means(pixels, nearest, rows * columns)
        best = np.full(len(pixels), np.inf)
        for up in (-1, 0, 1):
            for left in (-1, 0, 1):
                patch = (row + up).clip(0, rows - 1) * columns + (column + left).clip(0, columns - 1)
                distance = np.square(pixels - centres[patch]).sum(axis=1)
                closer = (distance < best) & (count[patch] > 0)
                best[closer] = distance[closer]
                nearest[closer] = patch[closer]
    return np.unique(nearest, return_inverse=True)[1].reshape(height, width)


def means(values: np.ndarray, group: np.ndarray, n: int) -> np.ndarray:
    """(n, D) mean of the rows of (N, D) values in each of n groups; 0 for an empty one."""
    count = np.maximum(np.bincount(group, minlength=n), 1)
    return np.stack([np.bincount(group, column, n) for column in values.T], axis=-1) / count[:, None]


def patch_graph(lab: np.ndarray, patches: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Colour distances (N, N), distances of place (N, N), who touches whom (N, N) and the border (N,) as bool."""
    n = patches.max() + 1
    values = np.concatenate([lab, np.moveaxis(np.indices(patches.shape) / max(patches.shape), 0, -1)], axis=-1)
    centres = means(values.reshape(-1, 5), patches.ravel(), n)
    colour, space = (np.linalg.norm(c[:, None] - c[None], axis=-1) for c in (centres[:, :3], centres[:, 3:]))
    touching = np.zeros((n, n), bool)
    touching[patches[1:], patches[:-1]] = touching[patches[:, 1:], patches[:, :-1]] = True
    border = np.zeros(n, bool)
    border[np.concatenate([patches[0], patches[-1], patches[:, 0], patches[:, -1]])] = True
    return colour, space, (touching | touching.T) & ~np.eye(n, dtype=bool), border


def patch_saliency(colour: np.ndarray, space: np.ndarray, touching: np.ndarray, border: np.ndarray) -> np.ndarray:
    """(N,) saliency of the patches, least 0, greatest 1; all 0 where they do not differ."""
    linked = (touching | np.outer(border, border)) & ~np.eye(len(border), dtype=bool)
    background = background_weight(colour, touching, linked, border)
    contrast = stretched((colour * np.exp(-(space**2) / (2 * SIGMA_SPACE**2)) * background).sum(axis=1))
    if not contrast.any():
        return contrast
    # the minimum of Σ background·s² + Σ contrast·(s − 1)² + Σ alike·(sᵢ − sⱼ)²
    alike = linked * (np.exp(-(colour**2) / (2 * SIGMA_COLOUR**2)) + SMOOTHNESS)
    laplacian = np.diag(alike.sum(axis=1)) - alike
    return stretched(np.linalg.solve(np.diag(background + contrast) + laplacian, contrast))


def background_weight(colour: np.ndarray, touching: np.ndarray, linked: np.ndarray, border: np.ndarray) -> np.ndarray:
    """(N,) in [0, 1): how surely a patch is background, by the share of the border its region takes.

    The region of a patch: the patches that are reached from it without much change of colour on the way.
    """
    nearest = np.where(touching, colour, np.inf).min(axis=1)
    noise = nearest[np.isfinite(nearest)].mean() if touching.any() else 0.0
    # less `noise`, the mean step to the most similar neighbour: such steps would add up over a long way
    steps = np.where(linked, np.maximum(colour - noise, 1e-9), 0)  # 0: no link
    geodesic = dijkstra(csr_matrix(steps), directed=False)
    belongs = np.exp(-(geodesic**2) / (2 * SIGMA_COLOUR**2))
    connectivity = belongs[:, border].sum(axis=1) / np.sqrt(belongs.sum(axis=1))
    return 1 - np.exp(-(connectivity**2) / (2 * SIGMA_BOUNDARY**2))
