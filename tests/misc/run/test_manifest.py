"""What a manifest says, and how two of them differ."""

import pytest

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


def test_digest_knows_where_a_part_ends():
    assert digest("ab", "c") != digest("a", "bc") != digest("abc")
