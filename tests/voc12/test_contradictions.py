"""Masks against image labels: what a right set holds passes in silence, what cannot be is named by its cause."""

import numpy as np
import pytest

from voc12.contradictions import COCO_IDS, Finding, Shown, Source, class_findings

NAMES = [f"class{number}" for number in range(1, 21)]
SOURCE = Source("SegmentationClass", NAMES, "names.txt", "labels.csv")
COCO = Source("SegmentationClass", [f"thing{number}" for number in COCO_IDS], "names.txt", "labels.csv")
TRUE = [{1}, {2}, {3, 15}, {15}, {7, 8}, {19}, {20}, {4}]


def of(masks, labels=None, **more) -> list[Shown]:
    """Images whose masks hold the first, and whose labels list the second; None: no labels."""
    labels = [None] * len(masks) if labels is None else labels
    return [
        Shown(f"i{n}", frozenset(mask), labels=None if label is None else frozenset(label), **more)
        for n, (mask, label) in enumerate(zip(masks, labels, strict=True))
    ]


def finding(shown, source=SOURCE) -> Finding:
    (found,) = class_findings(shown, source)
    return found


@pytest.mark.parametrize(
    ("masks", "labels"),
    [
        (TRUE, TRUE),
        (TRUE, None),
        ([], None),
        ([{1}], [{1}]),
        ([{1}] * 5, [{1}] * 5),
        ([set(), {3}, set()], [{2}, {3}, set()]),  # crops, and a counter-example
        ([{3}] * 4, [{1, 2, 3, 4}] * 4),
        ([{1, 15}, {2, 15}, {3, 15}, {4}], [{15}, {15}, {15}, {4}]),  # labelled by one class alone
        ([{1, 2}, {1, 2}, {1, 2}], [{2}, {1}, {2}]),
        ([{5}, {6}, {7}], [{5}, {6}, {9}]),  # a slip
        ([{5}] * 9 + [{6}], [{5}] * 9 + [{7}]),
        ([{1}], [set()]),
        ([{1}] * 4, [{1}, {1}, set(), set()]),
    ],
)
def test_right_sets_pass_in_silence(masks, labels):
    assert class_findings(of(masks, labels), SOURCE) == []


@pytest.mark.parametrize("classes", [1, 2, 3, 20, 80])
def test_incomplete_labels_and_cropped_masks_pass(classes):
    """A third of the classes lost on either side, of sets of 1 to 60 images."""
    rng = np.random.default_rng(classes)
    source = Source("SegmentationClass", [f"c{n}" for n in range(classes)], "names.txt")
    for _ in range(100):
        masks, labels = [], []
        for _ in range(rng.integers(1, 60)):
            shown = rng.choice(np.arange(1, classes + 1), rng.integers(0, min(classes, 4) + 1), replace=False)
            for side in (masks, labels):
                side.append({int(c) for c in shown[rng.random(len(shown)) > 0.33]} or {int(c) for c in shown[:1]})
        assert not any(found.fatal for found in class_findings(of(masks, labels), source))


@pytest.mark.parametrize(
    ("by", "labels_file", "cause"),
    [
        (1, "labels.csv", "labels + 1 on 7 of 7"),
        (2, "labels.csv", "labels + 2 on 7 of 7"),
        (-1, "labels.csv", "labels - 1 on 7 of 7 images: does names.txt list a background"),
        (-1, "labels.txt", "does labels.txt count classes from 1"),
        (-2, "labels.csv", "labels - 2 on 7 of 7 images: does names.txt list __ignore__"),
    ],
)
def test_shifted_numbers(by, labels_file, cause):
    true = [{5}, {6}, {3, 15}, {15}, {7, 8}, {17}, {4}]
    masks = [{number + by for number in one} for one in true]
    found = finding(of(masks, true), SOURCE._replace(labels_file=labels_file))
    assert found.fatal and cause in found.text
    # of two images that slipped alike nothing is concluded in a set of ten
    right = [{9}] * 8
    assert not any(found.fatal for found in class_findings(of(masks[:2] + right, true[:2] + right), SOURCE))


def test_a_background_that_is_counted_as_a_class():
    masks = [{1, *(number + 1 for number in one)} for one in TRUE]
    found = finding(of(masks, TRUE, background=False))
    assert found.fatal and "labels + 1 on 8 of 8 images: do masks count the background" in found.text


@pytest.mark.parametrize(
    ("masks", "labels", "fatal"),
    [
        ([{1, 2}] * 6, [{1}] * 6, False),  # a class everywhere, labels of the main one; or a background as 1
        ([{1, 2, 3}] * 6, [{1, 2}] * 6, False),
        ([{1, 3}] * 6, [{2}] * 6, True),
        ([{1, 2}] * 2 + [{1, 3}] * 5, [{1}] * 2 + [{2}] * 5, True),
    ],
)
def test_scenes_without_background(masks, labels, fatal):
    found = class_findings(of(masks, labels, background=False), SOURCE)
    assert any(one.fatal for one in found) == fatal


@pytest.mark.parametrize(
    ("masks", "labels", "more"),
    [
        ([set()], [{1}], {}),  # a crop
        ([set()] * 2, [{1}] * 2, {}),
        ([set()], [{1}], {"void": True}),
        ([set()] * 2, None, {"void": True}),
        ([{5}, {6}] + [{1}] * 8, [{4}, {5}] + [None] * 8, {}),  # shifted, as far as labels tell
        ([{5}, {6}] + [{1}] * 8, [{9}, {2}] + [None] * 8, {}),
    ],
)
def test_one_or_two_images_are_no_proof(masks, labels, more):
    assert not finding(of(masks, labels, **more)).fatal


def test_a_mask_of_nothing_but_void_cannot_be_evaluated():
    assert finding(of([set()], [{1}], void=True, background=False)).fatal


def test_labels_that_nothing_is_made_of():
    found = finding(of([{3}, {17}, {9}, {5}], [{8}, {4}, {12}, {20}]), SOURCE._replace(labels_used=False))
    assert not found.fatal and "share no class on 4 of 4" in found.text


def test_cocos_ids():
    classes = [{11}, {12}, {25}, {1, 60}, {30, 44}]
    masks = [{COCO_IDS[number - 1] for number in one} for one in classes]
    assert masks[2:4] == [{27}, {1, COCO_IDS[59]}]
    found = finding(of(masks, classes), COCO)
    assert found.fatal and "COCO's category IDs on 5 of 5 images" in found.text
    found = finding(of([*masks, {90}]), COCO)  # without labels, but above 80
    assert found.fatal and "above 80" in found.text and "COCO's category IDs" in found.text
    many = of([{number} for number in COCO_IDS[:60]])
    found = finding(many, COCO)
    assert not found.fatal and "COCO's category IDs" in found.text
    assert class_findings([*many, *of([{12}])], COCO) == []  # a number that is none of COCO's IDs


def test_255_as_the_only_foreground():
    binary = of([set()] * 3, [{1}] * 3, void=True)
    found = finding(binary)
    assert found.fatal and "255 is the only number beside 0 in 3 of 3" in found.text
    assert finding(of([set()] * 3, void=True)).fatal  # no labels
    assert not finding([*binary, *of([{1}], [{1}])]).fatal
    assert class_findings([*of([set()] * 3, [set()] * 3, void=True), *of([{1}], [{1}])], SOURCE) == []
    assert class_findings(of(TRUE, TRUE, void=True), SOURCE) == []


def test_masks_without_a_class():
    found = finding(of([set()] * 3, [{1}, {2}, set()]))
    assert found.fatal and "none of 3 masks" in found.text and "labels of 2" in found.text
    for labels in None, [set()] * 3:  # a list of counter-examples
        assert not finding(of([set()] * 3, labels)).fatal
    found = finding(of([set(), set(), {3}], [{1}, {2}, {3}]))
    assert not found.fatal and "2 of 3" in found.text


def test_labels_without_a_class():
    found = finding(of(TRUE, [set()] * 7 + [{4}]))
    assert not found.fatal and "labels.csv: no class on 7 of 8 images" in found.text
    above = [{21}, *TRUE[1:]]  # what is fatal comes first
    assert "hold numbers above 20" in finding(of(above, [set()] * 7 + [{4}])).text


@pytest.mark.parametrize(
    ("masks", "cause"),
    [
        ([{38}, {75}, {113, 15}, {220}], "turned grey"),  # of VOC's aeroplane, bicycle; …
        ([{80}, {40, 120}], "multiples of 40"),
        ([{1}, {21}], "lacks names.txt a name"),
        ([{7}, {131}], "of other classes"),
    ],
)
def test_numbers_that_are_no_class(masks, cause):
    found = finding(of(masks))
    assert found.fatal and "expected 0 to 20 (names.txt) and 255" in found.text and cause in found.text


@pytest.mark.parametrize(
    ("masks", "labels", "cause"),
    [
        ([{1}] * 5, [{2}, {9}, {4}, {15}, {7}], "the number 1 alone"),
        ([{1}, {1, 2}, {1, 2, 3}, {1}], [{15}, {9}, {14}, {7}], "SegmentationObject"),
        ([{3}, {17}, {9}, {5}], [{8}, {4}, {12}, {20}], "in the order of the masks' numbers"),
    ],
)
def test_sets_that_share_no_class(masks, labels, cause):
    found = finding(of(masks, labels))
    assert found.fatal and "share no class on" in found.text and cause in found.text
    assert "class" in found.text.split("label:")[1]  # the names of one image's
    some = of(masks * 2 + [{6}] * 12, labels * 2 + [{6}] * 12)
    assert not finding(some).fatal  # a part of the set


def test_palettes_in_another_order():
    labels = [{5}, {15}, {2}]
    shown = [
        one._replace(by_colour=frozenset(label)) for one, label in zip(of([{1}, {2}, {3}], labels), labels, strict=True)
    ]
    found = finding(shown)
    assert found.fatal and "by the colours" in found.text
    found = finding([one._replace(labels=None) for one in shown])
    assert not found.fatal and "VOC's colours" in found.text
    assert class_findings([one._replace(labels=one.numbers) for one in shown], SOURCE) == []  # the labels say which
