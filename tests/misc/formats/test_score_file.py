"""Saved scores: small, the same bytes every time, and the masks that follow from them."""

import io
import tracemalloc
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from misc.errors import InputError
from misc.formats.score_file import at_full_size, read_scores, write_scores

SIZE = (10, 13)  # stride-4 grid 3×4
KEYS = np.array([2, 7])
SCORES = np.random.default_rng(0).random((2, 3, 4)).astype(np.float16).astype(np.float32)  # nothing to round


def test_round_trip(tmp_path):
    path = tmp_path / "new" / "a_scores.npz"
    n_bytes = write_scores(path, KEYS, SCORES, SIZE)
    assert n_bytes == path.stat().st_size and list(path.parent.iterdir()) == [path]
    keys, scores = read_scores(path, size=SIZE, n_classes=20)
    np.testing.assert_array_equal(keys, KEYS)
    np.testing.assert_array_equal(scores, at_full_size(torch.from_numpy(SCORES), SIZE).numpy())
    assert scores.shape == (2, *SIZE) and scores.dtype == np.float32


def test_anybody_can_read_them(tmp_path):
    write_scores(tmp_path / "a.npz", KEYS, SCORES, SIZE)
    with np.load(tmp_path / "a.npz", allow_pickle=False) as file:
        assert {name: file[name].dtype for name in file} == {"keys": np.int64, "scores": np.float16, "size": np.int64}
        np.testing.assert_array_equal(file["scores"], SCORES)
        assert file["size"].tolist() == list(SIZE)


def test_equal_scores_are_equal_files(tmp_path, monkeypatch):
    write_scores(tmp_path / "a.npz", KEYS, SCORES, SIZE)
    monkeypatch.setattr("time.time", lambda: 2e9)
    monkeypatch.setattr("time.localtime", lambda *_: (2033, 5, 18, 0, 0, 0, 0, 0, 0))
    write_scores(tmp_path / "b.npz", KEYS, SCORES, SIZE)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_an_image_without_classes(tmp_path):
    write_scores(tmp_path / "a.npz", np.zeros(0, np.int64), np.zeros((0, 3, 4), np.float32), SIZE)
    keys, scores = read_scores(tmp_path / "a.npz", size=SIZE, n_classes=20)
    assert keys.shape == (0,) and scores.shape == (0, *SIZE)


def test_full_size_by_hand():
    """×4: the pixel p of the image lies at (p - 1.5)/4 of the grid, held at the borders."""
    full = at_full_size(torch.tensor([[[0.0, 1.0]]]), (3, 6))
    expected = [0, 0, 0.125, 0.375, 0.625, 0.875]
    np.testing.assert_allclose(full.numpy(), np.tile(expected, (1, 3, 1)))


def test_missing_file_names_the_remedy(tmp_path):
    with pytest.raises(InputError, match="--save_scores"):
        read_scores(tmp_path / "none.npz", size=SIZE, n_classes=20)


def saved(path, **changes):
    arrays = {"keys": KEYS, "scores": SCORES.astype(np.float16), "size": np.array(SIZE)} | changes
    np.savez_compressed(path, **{name: value for name, value in arrays.items() if value is not None})
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": np.array([13, 10])}, r"an image of \[13, 10\], not \[10, 13\]"),
        ({"size": np.array(10)}, "an image of 10"),
        ({"keys": KEYS.astype(np.int32)}, "int64"),
        ({"scores": SCORES}, "float16"),
        ({"keys": np.array([2])}, "do not fit"),
        ({"keys": np.array(2)}, "do not fit"),
        ({"scores": SCORES[:, :2].astype(np.float16)}, "do not fit"),
        ({"keys": np.array([2, 20])}, "not classes"),
        ({"keys": np.array([2, -1])}, "not classes"),
        ({"keys": np.array([2, 2])}, "each once"),
        ({"scores": np.full((2, 3, 4), np.nan, np.float16)}, "NaN"),
        ({"scores": None}, "scores"),
        ({"scores": np.array([{}], object)}, "allow_pickle"),
        ({"more": np.zeros(10**5)}, "more than the scores"),
    ],
)
def test_content_that_does_not_fit(tmp_path, changes, message):
    with pytest.raises(InputError, match=message) as error:
        read_scores(saved(tmp_path / "a.npz", **changes), size=SIZE, n_classes=20)
    assert "a.npz" in str(error.value) and "\n" not in str(error.value)


def forged(path, shape):
    """An archive whose array claims a shape that its bytes do not fill."""
    member = io.BytesIO()
    header = {"descr": "<f2", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(member, header)
    saved(path, scores=None)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("scores.npy", member.getvalue() + b"1234")
    return path


@pytest.mark.parametrize("shape", [(2, 3, 4), (2, 3, 10**9), (10**9, 10**9, 10**9), (-1, 3, 4), (0, 10**12, 4)])
def test_forged_shapes(tmp_path, shape):
    with pytest.raises(InputError, match=r"a\.npz"):
        read_scores(forged(tmp_path / "a.npz", shape), size=SIZE, n_classes=20)


def test_a_bomb_is_not_unpacked(tmp_path):
    saved(tmp_path / "a.npz", scores=np.zeros((2, 3000, 4000), np.float16))
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match="more than the scores"):
            read_scores(tmp_path / "a.npz", size=SIZE, n_classes=20)
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(0), st.binary(min_size=1, max_size=4)), min_size=1, max_size=3))
def test_any_damage_is_an_input_error_or_harmless(tmp_path, damage):
    path = tmp_path / "a.npz"
    write_scores(path, KEYS, SCORES, SIZE)
    data = bytearray(path.read_bytes())
    for place, new in damage:
        start = place % len(data)
        data[start : start + len(new)] = new
    path.write_bytes(data)
    try:
        keys, scores = read_scores(path, size=SIZE, n_classes=20)
    except InputError as error:
        assert "a.npz" in str(error)
    else:
        assert scores.shape == (len(keys), *SIZE)
