"""What masks and image labels say of the same images, whether that can be, and the likely cause if it cannot.

Labels are given by people, and masks are cropped: a few images that disagree are no fault of a set. Most of them are.
"""

from collections.abc import Callable, Sequence
from functools import reduce
from math import gcd
from typing import NamedTuple

from misc.evaluation.confusion import VOID
from misc.formats.palette import voc_palette

COCO_GAPS = frozenset({12, 26, 29, 30, 45, 66, 68, 69, 71, 83})  # COCO's 80 classes have the IDs 1 to 90 without these
COCO_IDS = tuple(number for number in range(1, 91) if number not in COCO_GAPS)
FEW = 2  # images that contradict: fewer may be slips of whoever labelled them
ENOUGH = 5  # images that contradict, of which others do not, or cannot be compared: fewer may be chance
MANY = 0.2  # share of the images from which on contradictions are told
CONVERT = "python -m voc12.convert masks"
BY_VALUES = f"{CONVERT} with --colours FILE renumbers them, its lines being names and values as n,n,n"
TO_COCO = "that run from 1 to 90 for 80 classes: python -m voc12.convert coco makes masks of the annotations"


class Shown(NamedTuple):
    """What the mask and the label of one image hold.

    numbers     of classes in the mask, without 0 and 255
    background  whether the mask holds 0
    void        whether it holds 255
    labels      the image's classes, from 1; None if it has no label
    by_colour   the numbers that VOC gives the colours of a palette mask; None if they are its numbers
    """

    image_id: str
    numbers: frozenset[int]
    background: bool = True
    void: bool = False
    labels: frozenset[int] | None = None
    by_colour: frozenset[int] | None = None


class Finding(NamedTuple):
    """fatal: no result can be right; else it may be meant."""

    text: str
    fatal: bool


class Source(NamedTuple):
    """What the texts name.

    masks         the folder of the masks
    class_names   in the order of their numbers
    names_file    that lists them
    labels_file   of the image labels; None: annotations in XML
    ending        what follows an ID in the name of a mask
    labels_used   whether anything is made of the labels; else they may be old, and masks without them
    """

    masks: str
    class_names: Sequence[str]
    names_file: str
    labels_file: str | None = None
    ending: str = ".png"
    labels_used: bool = True

    def mask(self, image_id: str) -> str:
        return f"{self.masks}/{image_id}{self.ending}"

    def names(self, numbers: frozenset[int]) -> str:
        """The names of classes from 1, numbers without one as they are."""
        known = self.class_names
        return ", ".join(known[n - 1] if 1 <= n <= len(known) else str(n) for n in sorted(numbers)) or "none"


Check = Callable[[Sequence[Shown], Source], Finding | None]


class Reading(NamedTuple):
    """One way of taking the numbers of masks.

    name      of the numbers, read so
    classes   an image → the classes, from 1, that its mask shows then; None if it cannot be read so
    cause     asks what may be the matter
    lowest    number that is a class; those below are background, read so
    """

    name: str
    classes: Callable[[Shown], frozenset[int] | None]
    cause: str
    lowest: int = 1

    def fits(self, shown: Shown) -> bool:
        """Whether the label lists all that the mask shows, read so."""
        classes = self.classes(shown)
        return bool(classes and shown.labels and classes <= shown.labels)

    def is_told(self, shown: Shown) -> bool:
        """Whether it fits, and the label lists no number as a class that is background, read so. Where all pixels have
        a class and people label the main one, a mask of 1 and 2 and a label of 1 are as they should be.
        """
        background = {number for number in shown.numbers if number < self.lowest}
        return self.fits(shown) and not background & (shown.labels or frozenset())


AS_THEY_ARE = Reading("class numbers", lambda shown: shown.numbers, "")


def class_findings(shown: Sequence[Shown], source: Source) -> list[Finding]:
    """What is wrong with the numbers in masks, by themselves and against the image labels; the first cause that
    explains it, or nothing.
    """
    checks = (
        void_alone,
        no_class,
        other_numbers,
        out_of_range,
        no_labels,
        disjoint,
        coco_without_labels,
        other_palette,
    )
    return _first(checks, shown, source)


def label_findings(shown: Sequence[Shown], source: Source) -> list[Finding]:
    """Of that, what only the image labels tell: for masks that a network made, which may miss what there is."""
    return _first((other_numbers, disjoint), shown, source)


def void_alone(shown: Sequence[Shown], source: Source) -> Finding | None:
    """Objects that are written as 255."""
    hit = [one for one in shown if one.void and not one.numbers and one.labels != frozenset()]
    if len(hit) <= len(shown) / 2:
        return None
    text = (
        f"255 is the only number beside 0 in {len(hit)} of {len(shown)} masks looked at, such as "
        f"{source.mask(hit[0].image_id)}: 255 is void, not a class; the classes are 1 to {len(source.class_names)}: "
        f"for one class, {CONVERT} with --binary writes them"
    )
    some = any(one.numbers for one in shown) or (len(shown) <= FEW and any(one.background for one in shown))
    return Finding(text, fatal=not some)


def no_class(shown: Sequence[Shown], source: Source) -> Finding | None:
    """Masks without an object."""
    empty = [one for one in shown if not one.numbers]
    labelled = [one for one in empty if one.labels]
    if len(empty) == len(shown):
        against = f", and the labels of {len(labelled)} of their images list one" if labelled else ""
        text = f"{source.masks}: none of {len(shown)} masks looked at shows a class{against}"
        return Finding(text, fatal=len(labelled) > len(shown) / 2 and len(shown) > FEW)
    if len(labelled) > len(shown) / 2:
        text = (
            f"{len(labelled)} of {len(shown)} masks looked at show no class where the image label lists one, such as "
            f"{source.mask(labelled[0].image_id)}"
        )
        return Finding(text, fatal=False)
    return None


def other_numbers(shown: Sequence[Shown], source: Source) -> Finding | None:
    """Numbers that fit the labels once they are read otherwise: shifted, COCO's, by their colours."""
    compared = [one for one in shown if one.numbers and one.labels]
    if not compared:
        return None
    best = max(readings(source), key=lambda reading: sum(map(reading.fits, compared)))
    fitting = sum(map(best.fits, compared))
    right = sum(map(AS_THEY_ARE.fits, compared))
    gain = fitting - right
    if fitting <= len(compared) / 2 or gain < max(1, len(compared) / 5):
        return None
    text = f"{source.masks}: classes of masks are {best.name} on {fitting} of {len(compared)} images: {best.cause}"
    alike = len({one.labels for one in compared if best.fits(one)}) == 1  # any two numbers have some difference
    told = _no_chance(sum(map(best.is_told, compared)) - right, compared, shown)
    return Finding(text, fatal=told and (source.labels_used or not alike))


def readings(source: Source) -> list[Reading]:
    """The ways in which class numbers come to be others."""
    names, labels = source.names_file, source.labels_file
    in_front = f"does {names} list a background or another name too many in front, or do masks count classes from 0?"
    from_1 = f"does {labels} count classes from 1 (expected: from 0), or {in_front}"
    by_number = labels is not None and not labels.lower().endswith(".csv")
    missing = f"do masks count the background as a class, or lacks {names} a name in front?"
    ways = [
        Reading("those of the labels - 1", _shifted(1), from_1 if by_number else in_front),
        Reading("those of the labels - 2", _shifted(2), f"does {names} list __ignore__ and a background in front?"),
        Reading("those of the labels + 1", _shifted(-1), missing, lowest=2),
        Reading("those of the labels + 2", _shifted(-2), missing, lowest=3),
        Reading(
            "those of the labels by the colours, not by the numbers",
            lambda shown: shown.by_colour,
            f"the palette is in another order than VOC's: {CONVERT} with --colours voc goes by them",
        ),
    ]
    if len(source.class_names) == len(COCO_IDS):
        name = "those of the labels in COCO's category IDs"
        ways.append(Reading(name, _coco_classes, f"IDs {TO_COCO}"))
    return ways


def out_of_range(shown: Sequence[Shown], source: Source) -> Finding | None:
    """Numbers that are no class."""
    classes = len(source.class_names)
    beyond = [one for one in shown if max(one.numbers, default=0) > classes]
    if not beyond:
        return None
    worst = max(beyond, key=lambda one: max(one.numbers))
    text = (
        f"{len(beyond)} of {len(shown)} masks looked at hold numbers above {classes}, such as "
        f"{source.mask(worst.image_id)} ({max(worst.numbers)}): expected 0 to {classes} ({source.names_file}) "
        f"and {VOID}: {_cause_of_range(frozenset().union(*(one.numbers for one in shown)), source)}"
    )
    return Finding(text, fatal=True)


def no_labels(shown: Sequence[Shown], source: Source) -> Finding | None:
    """Labels without a class on images whose masks show one: an evaluation needs none, a training looks for itself."""
    compared = [one for one in shown if one.numbers and one.labels is not None]
    hit = [one for one in compared if not one.labels]
    if len(hit) < FEW or len(hit) <= len(compared) / 2:
        return None
    labels = source.labels_file or "the annotations"
    text = f"{labels}: no class on {len(hit)} of {len(compared)} images whose masks show one, such as {hit[0].image_id}"
    return Finding(text, fatal=False)


def disjoint(shown: Sequence[Shown], source: Source) -> Finding | None:
    """Masks and labels that share no class, whatever the cause."""
    compared = [one for one in shown if one.numbers and one.labels]
    hit = [one for one in compared if one.labels and not one.numbers & one.labels]
    if len(hit) < FEW or len(hit) < MANY * len(compared):
        return None
    labels = source.labels_file or "annotations"
    first = hit[0]
    text = (
        f"masks and image labels ({labels}) share no class on {len(hit)} of {len(compared)} images, such as "
        f"{source.mask(first.image_id)} (mask: {source.names(first.numbers)}; label: "
        f"{source.names(first.labels or frozenset())}): {_cause_of_disjoint(compared, source)}"
    )
    most = len(hit) == len(compared) or (len(hit) >= ENOUGH and len(hit) > len(compared) / 2)
    return Finding(text, fatal=most and source.labels_used and _no_chance(len(hit), compared, shown))


def coco_without_labels(shown: Sequence[Shown], source: Source) -> Finding | None:
    """COCO's category IDs where no label tells: of many numbers none is one that COCO leaves out."""
    numbers = frozenset().union(*(one.numbers for one in shown))
    if len(source.class_names) != len(COCO_IDS) or any(one.labels for one in shown):
        return None
    if len(numbers) < len(COCO_IDS) / 2 or numbers & COCO_GAPS:
        return None
    text = (
        f"{source.masks}: none of {len(shown)} masks looked at holds a number that COCO's category IDs leave out "
        f"(12, 26, 29 …): are they such IDs, {TO_COCO}"
    )
    return Finding(text, fatal=False)


def other_palette(shown: Sequence[Shown], source: Source) -> Finding | None:
    """Palettes in VOC's colours, but not in their order, where no label tells which counts."""
    hit = [one for one in shown if one.numbers and one.by_colour is not None]
    if len(hit) <= len(shown) / 2 or any(one.labels for one in shown):
        return None
    text = (
        f"{len(hit)} of {len(shown)} masks looked at, such as {source.mask(hit[0].image_id)}, have VOC's colours at "
        f"other numbers than VOC: if the colours are right, {CONVERT} with --colours voc goes by them"
    )
    return Finding(text, fatal=False)


def _first(checks: Sequence[Check], shown: Sequence[Shown], source: Source) -> list[Finding]:
    """The first that is fatal, or else the first."""
    found = (check(shown, source) for check in checks) if shown else ()
    return sorted((finding for finding in found if finding is not None), key=lambda finding: not finding.fatal)[:1]


def _no_chance(count: int, compared: Sequence[Shown], shown: Sequence[Shown]) -> bool:
    """Whether so many images that contradict are enough: a few only where most of the set can be compared."""
    return count >= ENOUGH or (count >= FEW and len(compared) > len(shown) / 2)


def _shifted(by: int) -> Callable[[Shown], frozenset[int] | None]:
    """Class = number + by. A number that becomes 0 may be the background, if the mask has no other."""

    def classes(shown: Shown) -> frozenset[int] | None:
        moved = frozenset(number + by for number in shown.numbers)
        if min(moved, default=1) < 1 and shown.background:
            return None
        return frozenset(number for number in moved if number >= 1)

    return classes


def _coco_classes(shown: Shown) -> frozenset[int] | None:
    if not shown.numbers <= set(COCO_IDS):
        return None
    return frozenset(COCO_IDS.index(number) + 1 for number in shown.numbers)


def _cause_of_range(numbers: frozenset[int], source: Source) -> str:
    classes, highest = len(source.class_names), max(numbers)
    if classes == len(COCO_IDS) and numbers <= set(COCO_IDS):
        return f"are these COCO's category IDs, {TO_COCO}"
    if numbers <= _greys_of_colours(classes):
        return "these are VOC's colours turned grey, some of them alike: take the masks in colour, or as class numbers"
    step = reduce(gcd, numbers)
    if step > 1 and highest // step <= classes:
        return f"all are multiples of {step}, spread out to be seen? {BY_VALUES}"
    if highest <= classes + 2:
        return f"do masks count the background as a class, or lacks {source.names_file} a name?"
    return f"are these masks of other classes, or of objects (SegmentationObject)? {BY_VALUES}"


def _greys_of_colours(classes: int) -> set[int]:
    """The grey values that Pillow gives the colours of VOC's first classes and of void."""
    palette = voc_palette()
    colours = (palette[3 * number : 3 * number + 3] for number in (*range(1, classes + 1), VOID))
    return {(19595 * red + 38470 * green + 7471 * blue + 32768) >> 16 for red, green, blue in colours}


def _cause_of_disjoint(compared: Sequence[Shown], source: Source) -> str:
    if all(one.numbers == {1} for one in compared):
        return "every mask holds the number 1 alone: are these foreground and background, without classes?"
    if all(one.numbers == set(range(1, len(one.numbers) + 1)) for one in compared):
        return "every mask counts 1, 2, 3 …: are these numbers of objects (SegmentationObject), not of classes?"
    return f"is {source.names_file} in the order of the masks' numbers, and are the labels those of these images?"
