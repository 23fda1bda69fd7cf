"""CAMs by any method: which format a file has, and what it says in ours.

The names of a file's entries tell five families apart:

sbe       {"keys", "cam", "high_res"}: IRN, BES, SBE. Without "cam", the strided maps are made of the full ones. A
          compact file of make_cam, {"keys", "size", "scales", "maps_0" …}, is read as if it had these.
classes   {class from 0: (H, W) map}: SEAM, EPS, L2G, MCTformer.
crf       {0: background, class + 1: (H, W) map}: CRF scores of the same methods.
clip-es   {"keys", "attn_highres"}: CLIP-ES, whose keys count from 0 as well, or are [0, class + 1…] where the
          file was made for an argmax with a background in front.
sipe      {"keys": [0, class + 1…], "IS_CAM"}: SIPE, background in front.

A file that has nothing but empty `keys` holds no map: some methods save that of an image without a class.

`classes` and `crf` have the same shape, and the two kinds of CLIP-ES keys too: the image's labels tell which it is,
see `zero_is_background`. Scores are taken as they are, but for what SEAM's formula leaves below 0: see
`_clip_leftovers`. A background channel is left out, since here the background
score is a constant threshold.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from misc.errors import InputError
from misc.formats.cam_file import CAM, Entries, misfit, read_entries
from misc.formats.images import size_remark
from misc.pixels import stride4

FORMATS = {
    "sbe": "keys, cam, high_res (SBE, BES, IRN)",
    "classes": "a map a class, from 0 (SEAM, EPS, L2G, MCTformer)",
    "crf": "0 for background, classes from 1 (CRF scores)",
    "clip-es": "keys, attn_highres (CLIP-ES)",
    "sipe": "keys with background in front, IS_CAM (SIPE)",
}
# Families of files: one entry holds all maps beside `keys`, and KEYED says which (attn_highres comes first, since only
# CLIP-ES has it); or each number has a map of its own, NUMBERED. SETTINGS: what --cam_format may say of each family.
NUMBERED = "numbered"
KEYED = {"attn_highres": "clip-es", "IS_CAM": "sipe", "high_res": "sbe"}
SETTINGS = {"attn_highres": ("clip-es", "crf"), "IS_CAM": ("sipe",), "high_res": ("sbe",), NUMBERED: ("classes", "crf")}
LEFTOVER = 1e-4  # of a map's maximum
SAME, PART, BEYOND, NEITHER = 3, 2, 1, 0  # how well maps agree with the classes that their image shows
NO_CLASSES = "its maps {} are not all of classes (0 to {})"
# remarks, as those of FoundCAM
EMPTY = "hold no map, and so tell no format"
DROPPED = "had maps of classes that their image does not show: dropped"


def says_format(name: str) -> str:
    """The remark that says the format of a file."""
    return f"are {name}: {FORMATS[name]}"


class FoundCAM(NamedTuple):
    """The maps of one image, and remarks on their file, each a phrase that continues '3 of 9 CAM files …'."""

    cam: CAM
    remarks: list[str]


class _Stored(NamedTuple):
    """The channels of a file by the numbers they have there.

    family          an entry of KEYED, or NUMBERED
    full            a map for each number
    strided         the same at stride 4, where the file has them
    background_key  the keys began with a background that has no map; `numbers` leaves it out
    """

    family: str
    numbers: list[int]
    full: list[np.ndarray]
    strided: list[np.ndarray] | None = None
    background_key: bool = False


def read_any_cam(
    path: str | Path,
    *,
    size: tuple[int, int],
    labels: np.ndarray,
    n_classes: int,
    cam_format: str = "auto",
    drop_extra: bool = False,
) -> FoundCAM:
    """Read the maps of an image from a file in any of the FORMATS.

    size        (H, W) of the image
    labels      (K,) integer, the classes the image shows, from 0
    n_classes   C, the number of classes there are
    cam_format  one of FORMATS, or auto: as its content and the labels tell
    drop_extra  leave out maps of classes that the image does not show; else they are an error
    Returns     the maps in the order of their classes; a class of the labels may have none.
    Raises      InputError if the file is missing or unreadable, does not fit, or its format remains in doubt.
    """
    entries = read_entries(path, size=size)
    shown = {int(label) for label in labels}
    try:
        stored = _stored(entries, cam_format, n_classes)
        _check_size(stored, size)  # before the classes: a file of another image mostly differs in these as well
        from_one = _counts_from_one(stored, shown, n_classes, cam_format, drop_extra)
        channels = {n - from_one: i for i, n in enumerate(stored.numbers) if n or not from_one}  # of each class
        if not set(channels) <= set(range(n_classes)):
            raise ValueError(NO_CLASSES.format(sorted(stored.numbers), n_classes - 1))
        extra = sorted(set(channels) - shown)
        if extra and not drop_extra:
            raise ValueError(
                f"it holds maps of classes {extra}, but its image shows {sorted(shown)}: "
                "correct the labels, or say --drop_extra_cams"
            )
        cam, clipped = _cam(stored, {c: channels[c] for c in sorted(shown & set(channels))}, size)
        problem = misfit(cam, size, n_classes)
        if problem:
            raise ValueError(problem)
    except ValueError as error:
        raise InputError(f"{path}: {error}") from error
    name = KEYED.get(stored.family, "crf" if from_one else "classes")
    remarks = {
        EMPTY if not stored.full else says_format(name): True,
        "hold background scores, which are not used: background is the set threshold": len(channels) < len(stored.full),
        DROPPED: bool(extra),
        "have no map for a class that their image shows": len(cam.keys) < len(shown),
        "hold scores a little below 0, or a map of -1 everywhere (SEAM's formula): they count as 0": clipped,
        "hold scores above 1: the thresholds apply to them as they are": bool((cam.cam_full > 1).any()),
    }
    return FoundCAM(cam, [remark for remark, holds in remarks.items() if holds])


def zero_is_background(numbers: set[int], shown: set[int], n_classes: int, *, extra_expected: bool = False) -> bool:
    """Whether maps are numbered {0: background, class + 1} and not by class from 0.

    A reading is possible if its classes exist; the reading with 0 as background needs a 0. Of two possible readings
    the one wins that agrees better with the classes the image shows. The order of agreement: the same classes, some
    of them, all of them and others, anything else. Where maps of other classes are expected, "all and others" is as
    good as "the same": {0, 1} of an image of class 0 may be its CRF scores, or its class and one more.

    numbers         of the maps
    shown           the classes of the image, from 0
    extra_expected  files may hold classes that their image does not show
    Raises          ValueError if no reading is possible, or both agree equally well.
    """
    exist = set(range(n_classes))
    agreement = {}
    if numbers <= exist:
        agreement[False] = _agreement(numbers, shown)
    classes = {number - 1 for number in numbers - {0}}
    if 0 in numbers and classes <= exist:
        agreement[True] = _agreement(classes, shown)
    if not agreement:
        raise ValueError(NO_CLASSES.format(sorted(numbers), n_classes - 1))
    in_doubt = {SAME, BEYOND} if extra_expected else set()
    if len(agreement) == 2 and (agreement[False] == agreement[True] or set(agreement.values()) == in_doubt):
        raise ValueError(
            f"its maps {sorted(numbers)} count classes from 0, or from 1 beside background 0, and the labels "
            f"{sorted(shown)} of its image do not tell which: say --cam_format"
        )
    return max(agreement, key=lambda reading: agreement[reading])


def _agreement(classes: set[int], shown: set[int]) -> int:
    return SAME if classes == shown else PART if classes < shown else BEYOND if classes > shown else NEITHER


def _stored(entries: Entries, cam_format: str, n_classes: int) -> _Stored:
    """Recognise the family by the names of the entries, or take the one that the setting says."""
    if entries.names == ["keys"] and not entries["keys"].size:
        return _Stored(NUMBERED, [], [])
    families = [maps for maps in KEYED if {"keys", maps} <= set(entries.names)]
    if not entries.odd and all(isinstance(name, int) for name in entries.names):
        families.append(NUMBERED)
    if not families:
        known = "; ".join(f"{name}: {text}" for name, text in FORMATS.items())
        raise ValueError(f"no CAM file of a known format: it has {entries.names[:5]}, known are {known}")
    fitting = [family for family in families if cam_format in ("auto", *SETTINGS[family])]
    if not fitting:
        looks = " or ".join(name for family in families for name in SETTINGS[family])
        raise ValueError(f"it is not {cam_format}, as --cam_format says: it looks like {looks}")
    stored = _numbered(entries, n_classes) if fitting[0] == NUMBERED else _keyed(entries, fitting[0], n_classes)
    if len(set(stored.numbers)) < len(stored.numbers):
        raise ValueError("a class occurs twice in its keys")
    return stored


def _numbered(entries: Entries, n_classes: int) -> _Stored:
    numbers = [name for name in entries.names if isinstance(name, int)]
    _check_count(len(numbers), n_classes)
    return _Stored(NUMBERED, numbers, [entries[number] for number in numbers])


def _keyed(entries: Entries, maps: str, n_classes: int) -> _Stored:
    keys, full = entries["keys"], entries[maps]
    strided = entries["cam"] if maps == "high_res" and "cam" in entries.names else None
    if keys.ndim != 1 or (len(keys) and keys.dtype.kind not in "iu"):
        raise ValueError("keys should be a row of integers")
    _check_count(len(keys), n_classes)
    if any(array.ndim != 3 for array in (full, strided) if array is not None):
        raise ValueError(f"{maps} and cam should have 3 dimensions, a map a key")
    numbers = [int(key) for key in keys]
    background_key = maps != "high_res" and numbers[:1] == [0] and len(full) == len(numbers) - 1
    numbers = numbers[background_key:]
    if any(len(array) != len(numbers) for array in (full, strided) if array is not None):
        counts = f"{len(full)} full" + (f" and {len(strided)} strided" if strided is not None else "")
        raise ValueError(f"{len(numbers)} keys, but {counts} maps")
    return _Stored(maps, numbers, list(full), None if strided is None else list(strided), background_key)


def _check_count(n_maps: int, n_classes: int) -> None:
    if n_maps > n_classes + 1:
        raise ValueError(f"it has {n_maps} maps, but there are {n_classes} classes")


def _check_size(stored: _Stored, size: tuple[int, int]) -> None:
    grid = stride4(size[0]), stride4(size[1])
    for maps, shape in (stored.full, size), (stored.strided or [], grid):
        for one in maps:
            if one.shape != shape:
                remark = size_remark(one.shape, shape)
                raise ValueError(f"made for another image size: a map is {one.shape}, expected {shape}{remark}")


def _counts_from_one(stored: _Stored, shown: set[int], n_classes: int, cam_format: str, drop_extra: bool) -> bool:
    """Whether the numbers of the file count classes from 1, 0 being background."""
    if stored.family == "high_res" or stored.background_key:
        return stored.background_key
    if stored.family == "IS_CAM" and 0 in stored.numbers:
        return True
    if cam_format != "auto":
        return cam_format == "crf"
    return zero_is_background(set(stored.numbers), shown, n_classes, extra_expected=drop_extra)


def _cam(stored: _Stored, channels: dict[int, int], size: tuple[int, int]) -> tuple[CAM, bool]:
    """Take some channels of a file as float32; if it has no strided maps, resize the full ones.

    channels  of each class, in the order wanted
    Returns   the maps, and whether scores of them were clipped
    """
    grid = stride4(size[0]), stride4(size[1])
    full, clipped = _stack(stored.full, channels, size)
    if stored.strided is not None:
        cam_s4, also_clipped = _stack(stored.strided, channels, grid)
        clipped = clipped or also_clipped
    elif channels:
        cam_s4 = F.interpolate(torch.from_numpy(full)[None], grid, mode="bilinear", align_corners=False)[0].numpy()
    else:
        cam_s4 = np.zeros((0, *grid), np.float32)
    return CAM(np.array(list(channels), np.int64), cam_s4, full), clipped


def _stack(maps: list[np.ndarray], channels: dict[int, int], shape: tuple[int, int]) -> tuple[np.ndarray, bool]:
    stack = np.zeros((len(channels), *shape), np.float32)
    clipped = False
    for place, (key, channel) in enumerate(channels.items()):
        if maps[channel].dtype.kind != "f":
            raise ValueError(f"the map of class {key} should be floating-point, it is {maps[channel].dtype}")
        with np.errstate(over="ignore"):  # a score too large for float32 becomes infinity, which `misfit` refuses
            stack[place] = maps[channel]
        clipped |= _clip_leftovers(stack[place])
    return stack, clipped


def _clip_leftovers(scores: np.ndarray) -> bool:
    """Set to 0, in place, what SEAM's (s − min − 1e-5) / (max − min + 1e-5) leaves below 0; returns whether it did.

    A pixel at the minimum comes out a little below 0; where all are alike, as in a map without evidence, all are -1.
    """
    lowest, highest = scores.min(), scores.max()
    leftover = lowest < 0 and (lowest >= -LEFTOVER * highest or lowest == highest == -1)
    if leftover:
        np.maximum(scores, 0, out=scores)
    return bool(leftover)
