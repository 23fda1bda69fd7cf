"""A quick look finds files that are cut, missing or of another kind."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile
from PIL.TiffImagePlugin import TiffImageFile

from misc.formats.cam_file import CAM, write_cam
from misc.formats.images import write_grey
from misc.formats.quick_look import cam_fault, file_fault, image_fault, scores_fault
from misc.formats.score_file import write_scores


@pytest.fixture
def noise() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8))


@pytest.mark.filterwarnings("ignore:Truncated File Read")
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.bmp", "a.tif"])
@pytest.mark.parametrize("share", [0, 0.01, 0.3, 0.9, 0.97])
def test_cut_images_are_found(tmp_path, noise, name, share):
    path = tmp_path / name
    noise.save(path)
    assert image_fault(path) is None
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    assert image_fault(path)


@pytest.mark.filterwarnings("ignore:Truncated File Read")
@pytest.mark.parametrize("kind", [{}, {"compression": "tiff_lzw"}, {"compression": "packbits"}])
@pytest.mark.parametrize("name", ["a.tif", "a.bmp"])
def test_tiff_and_bmp_are_not_decoded(tmp_path, noise, name, kind, monkeypatch):
    noise.save(tmp_path / name, **kind)
    whole = (tmp_path / name).read_bytes()

    def load(image):
        raise ValueError("decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    monkeypatch.setattr(TiffImageFile, "load", load)
    assert image_fault(tmp_path / name) is None
    (tmp_path / name).write_bytes(whole[:-40])
    assert image_fault(tmp_path / name)


def test_bytes_after_the_end_of_an_image_do_no_harm(tmp_path, noise):
    for name in ("a.jpg", "a.png"):
        noise.save(tmp_path / name)
        with open(tmp_path / name, "ab") as file:
            file.write(b"\0" * 500)
        assert image_fault(tmp_path / name) is None


def test_no_image(tmp_path):
    (tmp_path / "a.jpg").write_text("<html>404</html>")
    assert image_fault(tmp_path / "a.jpg")
    assert image_fault(tmp_path / "none.jpg")


def test_cut_cams_are_found(tmp_path):
    path = tmp_path / "a.npy"
    write_cam(path, CAM(np.array([1]), np.zeros((1, 2, 3), np.float32), np.zeros((1, 6, 9), np.float32)))
    assert cam_fault(path) is None
    whole = path.read_bytes()
    for length in (0, 5, 6, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert cam_fault(path), length
    np.save(path, np.zeros((1, 6, 9)))
    assert cam_fault(path)
    assert cam_fault(tmp_path / "none.npy")


def write_small_scores(path) -> None:
    write_scores(path, np.array([2, 7]), np.zeros((2, 3, 4), np.float32), (10, 13))


def test_cut_scores_are_found(tmp_path):
    path = tmp_path / "a.npz"
    write_small_scores(path)
    assert scores_fault(path) is None
    whole = path.read_bytes()
    for length in (0, 10, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert scores_fault(path), length
    np.savez_compressed(path, scores=np.zeros(3), size=np.zeros(2))
    assert "keys" in scores_fault(path)
    assert scores_fault(tmp_path / "none.npz")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(0), st.binary(min_size=1, max_size=4)), min_size=1, max_size=3))
def test_any_damage_of_scores_is_a_fault_or_none(tmp_path, damage):
    path = tmp_path / "a.npz"
    write_small_scores(path)
    data = bytearray(path.read_bytes())
    for place, new in damage:
        start = place % len(data)
        data[start : start + len(new)] = new
    path.write_bytes(data)
    scores_fault(path)


def test_what_a_step_wrote_is_told_by_its_ending(tmp_path):
    write_cam(tmp_path / "a.npy", CAM(np.zeros(0, np.int64), *np.zeros((2, 0, 2, 3), np.float32)))
    write_small_scores(tmp_path / "a.npz")
    write_grey(tmp_path / "a.png", np.zeros((30, 40), np.uint8))
    for path in list(tmp_path.iterdir()):
        assert file_fault(path) is None
        whole = path.read_bytes()
        for length in (0, len(whole) // 2, len(whole) - 1):
            path.write_bytes(whole[:length])
            assert file_fault(path), (path, length)
        path.unlink()
        assert file_fault(path)
