"""The look at saliency maps: blank, constant, inverted and coloured ones."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from voc12.contradictions import Finding
from voc12.saliency_look import MAPS_LOOKED_AT, look_at_saliency


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "Sal").mkdir()
    return tmp_path


def blob(side: int = 40) -> np.ndarray:
    """A right map: dark at the border."""
    saliency = np.zeros((side, side), np.uint8)
    saliency[side // 4 : 3 * side // 4, side // 4 : 3 * side // 4] = 200
    return saliency


def looked_at(folder: Path, *maps: np.ndarray | Image.Image) -> tuple[int, list[Finding]]:
    for number, one in enumerate(maps):
        image = one if isinstance(one, Image.Image) else Image.fromarray(one)
        image.save(folder / "Sal" / f"{number}.png")
    ids = [str(number) for number in range(len(maps))]
    return look_at_saliency(ids, lambda i: folder / "Sal" / f"{i}.png", folder / "Sal", workers=1)


def ring(hole: int, side: int = 40) -> np.ndarray:
    """An object that fills the image, with a square hole."""
    saliency = np.full((side, side), 255, np.uint8)
    saliency[8 : 8 + hole, 12 : 12 + hole] = 0
    return saliency


RIGHT, FULL = blob(), np.full((5, 5), 255, np.uint8)
NOISE = np.random.default_rng(0).integers(0, 255, (30, 44), np.uint8)
COLOURED = Image.fromarray(np.stack([NOISE, NOISE // 2, 255 - NOISE], 2))


@pytest.mark.parametrize(
    "maps",
    [
        [blob()],
        [blob().astype(np.uint16) * 257],
        [Image.fromarray(blob()).convert("RGB")] * 2,
        [Image.fromarray(blob()).convert("LA")] * 2,
        [NOISE] * 3,
        [np.roll(blob(), 20, axis=1)] * 3,  # objects at the border
        [np.pad(np.full((36, 36), 255, np.uint8), ((0, 4), (0, 4)))],  # one that fills the image
        [blob(), blob(), 255 - blob()],
        [blob(), blob(), np.zeros((4, 4), np.uint8)],
        [blob(), COLOURED],
        [np.array([[0, 9]], np.uint8)] * 2,
        [],
    ],
)
def test_right_saliency_maps_pass_in_silence(folder, maps):
    assert looked_at(folder, *maps) == (len(maps), [])


@pytest.mark.parametrize(
    ("maps", "fatal", "cause"),
    [
        ([255 - blob()] * 2 + [RIGHT], False, "are inverted"),  # of three, it may be chance
        ([200 - blob()] * 3, True, "are inverted"),
        ([200 - blob()] * 2, False, "are inverted"),
        ([np.roll(255 - blob(), 8, axis=1)] * 3, True, "are inverted"),
        ([ring(10)] * 6, False, "are inverted"),  # 6 % of a close-up, which may be a hole
        ([ring(14)] * 6, True, "are inverted"),
        ([FULL], False, "one value everywhere"),  # an object that fills the image
        ([FULL] * 2 + [RIGHT], False, "one value everywhere"),
        ([FULL] * 3, True, "one value everywhere"),
        ([FULL] * 5 + [RIGHT], True, "one value everywhere"),
        ([np.zeros((5, 5), np.uint8)] * 2 + [RIGHT], False, "are blank"),
        ([COLOURED] * 2, False, "are in colour"),
    ],
)
def test_wrong_saliency_maps(folder, maps, fatal, cause):
    count, (found,) = looked_at(folder, *maps)
    assert count == len(maps) and found.fatal == fatal and cause in found.text
    wrong = count - sum(one is RIGHT for one in maps)
    assert f"{wrong} of {count} saliency maps looked at" in found.text and str(folder / "Sal") in found.text


def test_most_saliency_maps_of_a_set(folder):
    _, (found,) = looked_at(folder, *[255 - blob()] * 5, *[blob()] * 4)
    assert found.fatal and "5 of 9" in found.text
    assert looked_at(folder, *[255 - blob()] * 5, *[blob()] * 5)[1] == []


def test_of_many_saliency_maps_a_sample_is_read(folder):
    count, _ = looked_at(folder, *[blob()] * (MAPS_LOOKED_AT + 20))
    assert count == MAPS_LOOKED_AT
    (folder / "Sal" / "0.png").write_bytes(b"none")  # told elsewhere
    assert look_at_saliency(["0"], lambda i: folder / "Sal" / f"{i}.png", folder, workers=0) == (0, [])
