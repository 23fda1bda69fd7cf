"""Compact CAM files in published form, for the programs of others."""

import numpy as np
import pytest

from misc.expand_cams import main
from misc.formats.cam_file import CAM, write_cam, write_compact_cam
from misc.formats.compact_cam import ScaleMaps

MAPS = ScaleMaps(np.array([3]), (33, 50), (1.0,), [np.random.default_rng(0).random((1, 3, 4), np.float32)])


@pytest.fixture
def folders(tmp_path):
    """A folder with two compact files and a published one, and one that is not there."""
    for name in ("a", "b"):
        write_compact_cam(tmp_path / "cam" / f"{name}.npy", MAPS)
    write_cam(tmp_path / "cam" / "c.npy", CAM(MAPS.keys, *MAPS.merged()))
    (tmp_path / "cam" / "manifest.json").write_text("{}")
    return tmp_path / "cam", tmp_path / "published"


def test_the_files_are_those_that_make_cam_would_have_written(folders, capsys):
    source, target = folders
    before = {path.name: path.read_bytes() for path in source.iterdir()}
    assert main([str(source), str(target)]) == 0
    assert sorted(path.name for path in target.iterdir()) == ["a.npy", "b.npy", "c.npy"]
    assert {path.read_bytes() for path in target.iterdir()} == {before["c.npy"]}
    assert {path.name: path.read_bytes() for path in source.iterdir()} == before
    assert "3 CAM files written" in capsys.readouterr().out


def test_an_interrupted_run_goes_on(folders, capsys):
    source, target = folders
    assert main([str(source), str(target)]) == 0
    whole = (target / "a.npy").read_bytes()
    (target / "a.npy").write_bytes(whole[:100])
    (target / "b.npy").unlink()
    capsys.readouterr()
    assert main([str(source), str(target)]) == 0
    assert "2 CAM files written, 1 were there already" in capsys.readouterr().out
    assert {path.read_bytes() for path in target.iterdir()} == {whole}


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ("nowhere", "published", "nowhere"),
        ("cam", "cam", "another folder"),
        ("empty", "published", "no CAM files"),
        ("damaged", "published", "bad.npy"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(folders, capsys, source, target, message):
    root = folders[0].parent
    for name in ("empty", "damaged"):
        (root / name).mkdir()
    (root / "damaged" / "bad.npy").write_bytes(b"\x93NUMPY")
    assert main([str(root / source), str(root / target)]) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert len(said) == 1 and said[0].startswith("error: ") and message in said[0]
    assert not list((root / "published").glob("*"))


def test_arguments_that_are_none(capsys):
    assert main(["one"]) == 2
    assert "TARGET" in capsys.readouterr().err
