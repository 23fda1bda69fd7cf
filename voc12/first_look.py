"""A look at the values of masks before anything is made of them, of a sample where there are many."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from glob import escape
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from PIL import Image

from misc.errors import InputError
from misc.evaluation.confusion import VOID
from misc.formats.images import image_size, open_image, read_label_map
from misc.formats.palette import voc_palette
from misc.formats.quick_look import image_fault
from misc.run.parallel import ordered_map
from voc12.contradictions import CONVERT, Finding, Shown, Source, class_findings

MASKS_LOOKED_AT = 500  # more take as long as the rest of the first look
MOST_COLOURS = 256  # of a mask in colours; a photograph has more

Item = TypeVar("Item")
Labels = Callable[[str], Sequence[int] | np.ndarray]


@dataclass(frozen=True)
class Masks:
    """The masks to look at, and what they are compared with.

    ids       of all images
    path      ID → mask
    image     ID → image; where there is none, sizes are not compared. None: they do not matter
    labels    ID → its classes from 0, InputError if it has none; None: there are no labels
    source    what the texts name
    """

    ids: Sequence[str]
    path: Callable[[str], Path]
    image: Callable[[str], Path] | None
    labels: Labels | None
    source: Source


class Seen(NamedTuple):
    """What was seen of one mask.

    shown     its numbers and its label; None if it could not be read
    fault     what it is, if it is no label map and a quick look does not tell
    sizes     (H, W) of the mask and of the image, if they differ
    """

    image_id: str
    shown: Shown | None
    fault: str = ""
    sizes: tuple[tuple[int, int], tuple[int, int]] | None = None


def spread(items: Sequence[Item], most: int) -> list[Item]:
    """At most `most` of a list, evenly spread, the first and the last among them."""
    return [items[place] for place in np.linspace(0, len(items) - 1, min(len(items), most)).astype(int)]


def misplaced_mask(path: Path) -> str:
    """What to do about a missing mask if a file of another kind lies in its place, up to an "or"; else empty."""
    other = next(path.parent.glob(f"{escape(path.stem)}.*"), None)
    if other is None:
        return ""
    if other.suffix.lower() in (".jpg", ".jpeg"):
        return f"{other.name!r} is there, but JPEG changes class numbers: make PNGs where the masks were drawn; or "
    return f"{other.name!r} is there, but a mask is a PNG: {CONVERT} makes them; or "


def look_at_masks(masks: Masks, *, workers: int) -> list[Finding]:
    """Read the masks, or MASKS_LOOKED_AT of them, and tell what cannot be right, and what may be meant."""
    seen = list(ordered_map(lambda i: see_mask(masks, i), spread(masks.ids, MASKS_LOOKED_AT), workers=workers))
    shown = [one.shown for one in seen if one.shown is not None]
    return [*_kinds(seen, masks), *_sizes(seen, masks), *class_findings(shown, masks.source)]


def see_mask(masks: Masks, image_id: str) -> Seen:
    """Read one mask and the label of its image."""
    path = masks.path(image_id)
    try:
        mask = read_label_map(path)
    except InputError:
        return Seen(image_id, None, kind_of_mask(path))
    counts = Image.fromarray(mask).histogram()  # in a fifth of NumPy's time
    present = frozenset(number for number, count in enumerate(counts) if count)
    shown = Shown(
        image_id,
        present - {0, VOID},
        background=0 in present,
        void=VOID in present,
        labels=_labels(masks, image_id),
        by_colour=_by_colour(path, present),
    )
    size = _image_size(masks, image_id) or mask.shape
    return Seen(image_id, shown, sizes=None if size == mask.shape else (mask.shape, size))


def kind_of_mask(path: Path) -> str:
    """What an image is that is no label map, and the remedy; empty if a quick look at it tells as much."""
    try:
        image = open_image(path)
    except InputError as error:
        return "" if image_fault(path) else str(error).removeprefix(f"{path}: ")
    if image.mode in ("LA", "PA"):
        return f"are class numbers with transparency ({image.mode}): {CONVERT} leaves it out"
    if image.mode.startswith("I"):
        return f"are numbers of 16 or 32 bits ({image.mode}): {CONVERT} writes them with 8"
    colours = image.convert("RGB").getcolors(MOST_COLOURS)
    if colours is None:
        return f"are pictures of many colours ({image.mode}), not class numbers: no masks, or damaged by JPEG"
    if all(colour in number_of_colour() for _, colour in colours):
        return f"are in VOC's colours ({image.mode}), not class numbers: {CONVERT} makes these of them"
    return (
        f"are in colours ({image.mode}), not class numbers: {CONVERT} makes these of them with --colours FILE, its "
        "lines being names and r,g,b"
    )


def _image_size(masks: Masks, image_id: str) -> tuple[int, int] | None:
    if masks.image is None:
        return None
    try:
        return image_size(masks.image(image_id))
    except InputError:  # what is wrong with images is told elsewhere
        return None


def _labels(masks: Masks, image_id: str) -> frozenset[int] | None:
    if masks.labels is None:
        return None
    try:
        return frozenset(int(label) + 1 for label in masks.labels(image_id))
    except InputError:
        return None


@cache
def number_of_colour() -> dict[tuple[int, ...], int]:
    """The numbers that VOC gives its colours."""
    palette = voc_palette()
    return {tuple(palette[3 * number : 3 * number + 3]): number for number in range(256)}


def _by_colour(path: Path, present: frozenset[int]) -> frozenset[int] | None:
    """The numbers that VOC gives the colours of a palette mask; None if they are its numbers, or are no VOC colours."""
    with Image.open(path) as image:
        if image.mode != "P" or image.palette is None or image.palette.mode != "RGB":
            return None
        palette = image.palette.palette or b""  # getpalette() would decode the pixels
    found = [number_of_colour().get(tuple(palette[3 * n : 3 * n + 3]), -1) for n in present]
    others = frozenset(found) - {0, VOID}
    return others if others and -1 not in others and others != present - {0, VOID} else None


def _kinds(seen: Sequence[Seen], masks: Masks) -> list[Finding]:
    """Masks that are no label maps, by what they are instead."""
    by_fault: dict[str, list[str]] = {}
    for one in seen:
        if one.fault:
            by_fault.setdefault(one.fault, []).append(one.image_id)
    return [
        Finding(f"{len(ids)} of {len(seen)} masks looked at, such as {masks.path(ids[0])}, {fault}", fatal=True)
        for fault, ids in by_fault.items()
    ]


def _sizes(seen: Sequence[Seen], masks: Masks) -> list[Finding]:
    """Masks that have not the size of their image."""
    other = [(one.image_id, *one.sizes) for one in seen if one.sizes]
    if not other:
        return []
    turned = all(mask == image[::-1] for _, mask, image in other)
    cause = "turned? see EXIF orientation in docs/data.md" if turned else "a mask has the size of its image"
    image_id, (height, width), (image_height, image_width) = other[0]
    text = (
        f"{len(other)} of {len(seen)} masks looked at have another size than their image, such as "
        f"{masks.path(image_id)} ({width}×{height}, image {image_width}×{image_height}): {cause}"
    )
    return [Finding(text, fatal=True)]
