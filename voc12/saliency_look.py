"""A look at saliency maps before anything is made of them, of a sample where there are many."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from misc.errors import InputError
from misc.formats.images import open_image
from misc.run.parallel import ordered_map
from voc12.contradictions import ENOUGH, FEW, Finding
from voc12.first_look import spread

MAPS_LOOKED_AT = 100
# shares of a saliency map's highest value: its border's, and by how much it is darker inside; less than CLEARLY may be
# a hole in an object that fills the image
BRIGHT, DARKER, CLEARLY = 0.75, 0.05, 0.1


class Map(NamedTuple):
    """What was seen of one saliency map, in its own range.

    border, inside  means of its outermost pixels and of the rest
    coloured        whether its channels differ
    """

    lowest: float
    highest: float
    border: float
    inside: float
    coloured: bool

    @property
    def constant(self) -> bool:
        return self.lowest == self.highest

    @property
    def inverted(self) -> bool:
        """Bright all around and darker inside; an object that fills an image is not."""
        return self._darker_by(DARKER)

    @property
    def clearly_inverted(self) -> bool:
        return self._darker_by(CLEARLY)

    def _darker_by(self, share: float) -> bool:
        around = self.border >= BRIGHT * self.highest
        return not self.constant and around and self.inside <= self.border - share * self.highest


def look_at_saliency(
    ids: Sequence[str], path: Callable[[str], Path], folder: Path, *, workers: int
) -> tuple[int, list[Finding]]:
    """Read the saliency maps, or MAPS_LOOKED_AT of them. Returns how many, and what most of them have wrong.

    path      ID → saliency map
    folder    as the texts name it
    """
    found = ordered_map(lambda i: see_saliency(path(i)), spread(ids, MAPS_LOOKED_AT), workers=workers)
    maps = [one for one in found if one is not None]
    return len(maps), saliency_findings(maps, folder)


def see_saliency(path: Path) -> Map | None:
    """Look at one map; None if it cannot be read, which is told elsewhere."""
    try:
        image = open_image(path)
    except InputError:
        return None
    coloured = image.mode not in ("L", "1", "F", "LA") and not image.mode.startswith("I")
    values = np.asarray(image.convert("RGB") if coloured else image)
    if values.ndim == 3:
        coloured = coloured and bool(np.ptp(values, axis=2).max() > 0)
        values = values[:, :, 0] if not coloured else values.mean(axis=2)
    values = values.astype(np.float32)
    height, width = values.shape
    rim = max(1, min(height, width) // 20)
    inner = values[rim : height - rim, rim : width - rim]
    total, within = values.sum(dtype=np.float64), inner.sum(dtype=np.float64)
    border = (total - within) / (values.size - inner.size)
    inside = within / inner.size if inner.size else border
    return Map(float(values.min()), float(values.max()), float(border), float(inside), coloured)


def saliency_findings(maps: Sequence[Map], folder: Path) -> list[Finding]:
    """What most saliency maps of a folder have wrong."""
    blank = sum(one.constant and one.highest == 0 for one in maps)
    flat = sum(one.constant and one.highest != 0 for one in maps)
    inverted = sum(one.inverted for one in maps)
    clearly = sum(one.clearly_inverted for one in maps)
    told = (
        (
            flat,
            "hold one value everywhere: they tell no object; name another folder (--saliency_dir), or use --method bes",
            _no_chance(flat, maps),
        ),
        (blank, "are blank: those images get the rules of BES", False),
        (
            inverted,
            "are inverted, bright at the border and darker inside: salient is bright; write 255 - value",
            _no_chance(clearly, maps),
        ),
        (
            sum(one.coloured for one in maps),
            "are in colour: are they photographs, masks or heat maps? A saliency map is grey",
            False,
        ),
    )
    return [
        Finding(f"{folder}: {count} of {len(maps)} saliency maps looked at {text}", fatal)
        for count, text, fatal in told
        if count > len(maps) / 2
    ]


def _no_chance(count: int, maps: Sequence[Map]) -> bool:
    """Whether no result can be right if so many maps have a fault: objects may fill one image, or two."""
    return count > len(maps) / 2 and (count >= ENOUGH or FEW < count == len(maps))
