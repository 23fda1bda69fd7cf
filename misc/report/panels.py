"""Pictures of what the chain makes of an image: from arrays to RGB."""

from functools import cache
from typing import NamedTuple

import numpy as np
from matplotlib import colormaps
from PIL import Image

from misc.formats.palette import voc_palette
from misc.method.boundary_labels import BoundaryLabel
from misc.pixels import rescale, stride4

BOUNDARY_COLOURS = {  # greys for regions, Okabe and Ito's colours, which nearly everybody can tell apart, for lines
    BoundaryLabel.BACKGROUND: (0, 0, 0),
    BoundaryLabel.FOREGROUND: (96, 96, 96),
    BoundaryLabel.BOUNDARY_FG_FG: (204, 121, 167),
    BoundaryLabel.BOUNDARY_FG_BG: (230, 159, 0),
    BoundaryLabel.BOUNDARY_SALIENT: (86, 180, 233),
    BoundaryLabel.IGNORE: (208, 208, 208),
}
BOUNDARY_NAMES = {
    BoundaryLabel.BACKGROUND: "background",
    BoundaryLabel.FOREGROUND: "object",
    BoundaryLabel.BOUNDARY_FG_FG: "boundary between classes",
    BoundaryLabel.BOUNDARY_FG_BG: "boundary to the background",
    BoundaryLabel.BOUNDARY_SALIENT: "salient boundary",
    BoundaryLabel.IGNORE: "ignored",
}


class Panel(NamedTuple):
    """One picture of an image's row.

    name      what it shows, "mask + CRF"
    picture   (H, W, 3) uint8, or None where there is nothing to show yet
    missing   where nothing is: what would make it
    flat      a drawing in a few colours, not to be blurred
    """

    name: str
    picture: np.ndarray | None
    missing: str = ""
    flat: bool = False


def grey(values: np.ndarray) -> np.ndarray:
    """(H, W) real ≥ 0 → (H, W, 3) uint8: black for 0, white for the largest value; a blank map is black."""
    scaled = values.astype(np.float64) / (values.max() or 1) * 255
    return np.repeat(scaled.round().astype(np.uint8)[..., None], 3, axis=2)


def boundary_map(edge: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A predicted boundary over its image: each cell of the stride-4 grid becomes 4×4 pixels.

    edge      (h, w) uint8, 255 for 1
    size      (H, W) of the image
    Returns   (H, W, 3) uint8
    Raises    ValueError if the grid is not that of an image of this size.
    """
    if edge.shape != (stride4(size[0]), stride4(size[1])):
        raise ValueError(f"it is {edge.shape}, but the image {tuple(size)}: made for another image size")
    pixels = edge.repeat(4, axis=0).repeat(4, axis=1)[: size[0], : size[1]]
    return np.repeat(pixels[..., None], 3, axis=2)


def cam_overlay(image: np.ndarray, cam_full: np.ndarray) -> np.ndarray:
    """The strongest class's map in colours, red for 1, half transparent over the image.

    image     (H, W, 3) uint8
    cam_full  (K, H, W) real in [0, 1]; K = 0 counts as a map of zeros
    Returns   (H, W, 3) uint8
    """
    strongest = cam_full.max(axis=0, initial=0).clip(max=1)
    colours = colormaps["jet"](strongest)[..., :3] * 255
    return ((image + colours) / 2).round().astype(np.uint8)


def coloured_mask(mask: np.ndarray) -> np.ndarray:
    """(H, W) uint8 class numbers → (H, W, 3) uint8 in VOC's colours; void is pale."""
    return _palette()[mask]


def class_colour(number: int) -> tuple[int, int, int]:
    """The colour of a class number in masks, red, green, blue."""
    red, green, blue = _palette()[number].tolist()
    return red, green, blue


def coloured_boundary_label(label: np.ndarray) -> np.ndarray:
    """(H, W) uint8 of BoundaryLabel → (H, W, 3) uint8 in BOUNDARY_COLOURS; ValueError for another value."""
    strange = np.setdiff1d(label, list(BOUNDARY_COLOURS))
    if strange.size:
        raise ValueError(f"it holds {strange[0]}, which is no boundary label")
    table = np.zeros((256, 3), np.uint8)
    for value, colour in BOUNDARY_COLOURS.items():
        table[value] = colour
    return table[label]


def shrink(panel: Panel, long_side: int) -> Panel:
    """The panel with a picture whose long side is at most `long_side` pixels; never enlarged."""
    if panel.picture is None or max(panel.picture.shape[:2]) <= long_side:
        return panel
    factor = long_side / max(panel.picture.shape[:2])
    height, width = (max(1, round(side * factor)) for side in panel.picture.shape[:2])
    method = Image.Resampling.NEAREST if panel.flat else Image.Resampling.LANCZOS
    return panel._replace(picture=rescale(panel.picture, (height, width), method))


@cache
def _palette() -> np.ndarray:
    return np.array(voc_palette(), np.uint8).reshape(256, 3)
