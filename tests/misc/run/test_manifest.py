"""What a manifest says, and how two of them differ."""

import numpy as np
import pytest
from PIL import Image

from misc.errors import InputError
from misc.run.manifest import Manifest, Origin, difference, digest, sampled


def test_reading_gives_back_what_was_written(tmp_path):
    origin = Origin({"fit": {"settings": {"rate": 0.1}, "inputs": {"net": "x"}}}, {"ä b": "1"})
    Manifest("fit", origin, {"a.npy": "abc"}).write(tmp_path / "m.json")
    assert Manifest.read(tmp_path / "m.json") == Manifest("fit", origin, {"a.npy": "abc"})
    assert Manifest.read(tmp_path / "none.json") is None


def test_difference_of_a_part_that_came_or_went():
    with_fit = Origin({"fit": {"settings": {}, "inputs": {}}, "draw": {"settings": {}, "inputs": {}}}, {})
    without = Origin({"draw": {"settings": {}, "inputs": {}}}, {})
    assert difference(without, with_fit, "draw") == "fit had no part in it then"
    assert difference(with_fit, without, "draw") == "fit had a part in it then"
    assert difference(with_fit, with_fit, "draw") == ""


def test_sampled_sees_length_ends_and_blocks_between(tmp_path):
    path = tmp_path / "file"

    def of(content: bytes) -> str:
        path.write_bytes(content)
        return sampled(path)

    content = bytes(10_000)
    others = [content[:-1], b"x" + content[1:], content[:-1] + b"x", content[:1430] + b"x" + content[1431:], b"", b"x"]
    assert len({of(content), *map(of, others)}) == 7
    assert of(content) == of(content)
    with pytest.raises(InputError, match="missing"):
        sampled(tmp_path / "missing")


@pytest.mark.parametrize("ending", [".bmp", ".tif", ".TIFF"])
def test_an_image_without_compression_is_painted_over(tmp_path, ending):
    pixels = np.full((50, 40, 3), 90, np.uint8)
    digests = set()
    for rows in range(0, 12, 2):
        painted = pixels.copy()
        painted[20 : 20 + rows] = 255, 0, 0
        Image.fromarray(painted).save(tmp_path / f"a{ending}")
        digests.add(sampled(tmp_path / f"a{ending}"))
    assert len(digests) == 6


def test_digest_knows_where_a_part_ends():
    assert digest("ab", "c") != digest("a", "bc") != digest("abc")
