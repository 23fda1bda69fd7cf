"""Compact CAM files: a fortieth of the bytes, and the maps of the published ones to the last bit."""

import hashlib
import os
import pickle
import subprocess
import sys
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from misc.errors import InputError
from misc.formats.cam_file import CAM, read_cam, write_cam, write_compact_cam
from misc.formats.cam_formats import read_any_cam
from misc.formats.compact_cam import ScaleMaps
from tests.conftest import PROJECT

SCALES = (1.0, 0.5, 1.5, 2.0)


def maps_of(size: tuple[int, int], k: int = 3, scales: tuple[float, ...] = SCALES, seed: int = 0) -> ScaleMaps:
    """Maps as a network gives them: a third of their scores are 0, the others up to about 30."""
    rng = np.random.default_rng(seed)
    shapes = [tuple(-(-max(1, round(side * s)) // 16) for side in size) for s in scales]
    maps = [np.maximum(rng.normal(4, 9, (k, *shape)), 0).astype(np.float32) for shape in shapes]
    return ScaleMaps(np.arange(k, dtype=np.int64) * 2 + 1, size, scales, maps)


def digest(maps: ScaleMaps) -> str:
    return hashlib.sha256(b"".join(array.tobytes() for array in maps.merged())).hexdigest()


def by_hand(values: list[Fraction], target: int, place: int) -> Fraction:
    """A line of values resized to `target` pixels, at one of them: linear between the centres, constant outside."""
    x = min(
        max((place + Fraction(1, 2)) * len(values) / target - Fraction(1, 2), Fraction(0)), Fraction(len(values) - 1)
    )
    first = int(x)
    after = min(first + 1, len(values) - 1)
    return values[first] + (values[after] - values[first]) * (x - first)


def test_the_sum_by_hand():
    """An image of 20 × 40: one map of 2 × 3 and one of 1 × 2, in exact fractions."""
    one = np.array([[[0, 6, 1], [3, 0, 8]]], np.float32)
    half = np.array([[[5, 2]]], np.float32)
    found = ScaleMaps(np.array([4]), (20, 40), (1.0, 0.5), [one, half]).merged()
    for array, resized, part in zip(found, ((5, 10), (32, 48)), ((5, 10), (20, 40)), strict=True):
        exact = [[Fraction(0)] * part[1] for _ in range(part[0])]
        for maps in (one, half):
            rows = [[Fraction(float(value)) for value in row] for row in maps[0]]
            for y in range(part[0]):
                for x in range(part[1]):
                    exact[y][x] += by_hand([by_hand(row, resized[1], x) for row in rows], resized[0], y)
        largest = max(map(max, exact)) + Fraction(1, 10**5)
        expected = np.array([[float(value / largest) for value in row] for row in exact])
        assert array.shape == (1, *part) and array.dtype == np.float32
        np.testing.assert_allclose(array[0], expected, atol=2e-7, rtol=0)


@pytest.mark.parametrize("size", [(1, 1), (16, 16), (17, 250), (375, 500), (480, 640)])
@pytest.mark.parametrize("scales", [SCALES, (1.0,), (0.01, 3.7)])
def test_as_torch_resizes(size, scales):
    """In double precision: in float32, torch rounds the places of the pixels, too."""
    maps = maps_of(size, scales=scales)
    grid, padded = [(side - 1) // 4 + 1 for side in size], [-(-side // 16) * 16 for side in size]
    for found, target in zip(maps.merged(), (grid, padded), strict=True):
        resized = (
            F.interpolate(torch.from_numpy(each)[None].double(), target, mode="bilinear")[0] for each in maps.maps
        )
        total = sum(resized)[:, : found.shape[1], : found.shape[2]]
        expected = total / (total.amax(dim=(1, 2), keepdim=True) + 1e-5)
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected.numpy(), atol=1e-6, rtol=0)
        assert found.min() >= 0 and found.max() <= 1


def test_the_bits_are_those_of_one_operation_after_another():
    """Each pixel in a loop of float32 numbers, rounded after every operation."""
    maps = maps_of((21, 37), k=2)
    found = maps.merged()[1]
    f32 = np.float32
    total = np.zeros((2, 21, 37), f32)
    for each in maps.maps:
        for (k, y, x), before in np.ndenumerate(total):
            places = []
            for place, source, target in ((y, each.shape[1], 32), (x, each.shape[2], 48)):
                at = min(max((place + 0.5) * source / target - 0.5, 0), source - 1)
                places.append((int(at), min(int(at) + 1, source - 1), f32(at - int(at))))
            (top, bottom, down), (left, right, across) = places
            upper, lower = (
                f32(row[left] + f32(f32(row[right] - row[left]) * across)) for row in each[k, [top, bottom]]
            )
            total[k, y, x] = f32(before + f32(upper + f32(f32(lower - upper) * down)))
    expected = np.array([one / f32(one.max() + f32(1e-5)) for one in total])
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("size", [(64, 65), (375, 500)])
def test_threads_do_not_change_a_bit(size):
    maps = maps_of(size, k=5)
    before = torch.get_num_threads()
    found = set()
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            with ThreadPoolExecutor(4) as pool:
                found |= set(pool.map(digest, [maps] * 8))
    finally:
        torch.set_num_threads(before)
    assert len(found) == 1


@pytest.mark.slow
def test_the_processor_does_not_change_a_bit():
    """NumPy and torch are told to leave out what only some processors have."""
    script = "from tests.misc.formats.test_compact_cam import *; print(digest(maps_of((375, 500))))"
    found = set()
    for numpy_without, torch_with in (("", ""), ("AVX512F AVX512_SKX", "avx2"), ("AVX2 FMA3 X86_V3", "default")):
        env = {**os.environ, "PYTHONPATH": str(PROJECT), "PYTHONWARNINGS": "ignore"}
        env |= {"NPY_DISABLE_CPU_FEATURES": numpy_without} if numpy_without else {}
        env |= {"ATEN_CPU_CAPABILITY": torch_with} if torch_with else {}
        run = subprocess.run([sys.executable, "-c", script], env=env, cwd=PROJECT, capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
        found.add(run.stdout)
    assert found == {digest(maps_of((375, 500))) + "\n"}


@pytest.mark.parametrize("k", [0, 1, 3])
@pytest.mark.parametrize("size", [(1, 1), (33, 50), (480, 640)])
def test_every_reader_reads_both(tmp_path, k, size):
    maps = maps_of(size, k) if k else ScaleMaps(np.zeros(0, np.int64), size, (), [])
    cam = CAM(maps.keys, *maps.merged())
    write_cam(tmp_path / "published.npy", cam)
    write_compact_cam(tmp_path / "compact.npy", maps)
    for name in ("published.npy", "compact.npy"):
        for found in (
            read_cam(tmp_path / name),
            read_cam(tmp_path / name, size=size, n_classes=20),
            read_any_cam(tmp_path / name, size=size, labels=maps.keys, n_classes=20).cam,
            read_any_cam(tmp_path / name, size=size, labels=maps.keys, n_classes=20, cam_format="sbe").cam,
        ):
            for array, expected in zip(found, cam, strict=True):
                assert array.dtype == expected.dtype
                np.testing.assert_array_equal(array, expected)
    remarks = [
        read_any_cam(tmp_path / n, size=size, labels=maps.keys, n_classes=20).remarks for n in os.listdir(tmp_path)
    ]
    assert remarks[0] == remarks[1]


def test_a_thirtieth_of_the_bytes(tmp_path):
    maps = maps_of((480, 640))
    write_cam(tmp_path / "published.npy", CAM(maps.keys, *maps.merged()))
    write_compact_cam(tmp_path / "compact.npy", maps)
    assert (tmp_path / "compact.npy").stat().st_size <= (tmp_path / "published.npy").stat().st_size / 30


def test_equal_maps_are_equal_bytes_that_anybody_can_read(tmp_path):
    maps = maps_of((33, 50))
    for name in ("a.npy", "b.npy"):
        write_compact_cam(tmp_path / name, maps)
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()
    content = np.load(tmp_path / "a.npy", allow_pickle=True).item()
    assert list(content) == ["keys", "size", "scales", "maps_0", "maps_1", "maps_2", "maps_3"]
    assert content["size"].tolist() == [33, 50] and content["scales"].tolist() == list(SCALES)
    np.testing.assert_array_equal(content["maps_2"], maps.maps[2])


def entries_of(**changes: object) -> dict[str, object]:
    return {name: value for name, value in {**maps_of((33, 50)).entries(), **changes}.items() if value is not None}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (entries_of(keys=np.array([1.0, 2.0, 3.0])), "integers"),
        (entries_of(keys=np.array([1, 3])), "maps_0"),
        (entries_of(keys=np.array([1, 3, 3])), "twice"),
        (entries_of(keys=np.array([1, 3, 20])), "20"),
        (entries_of(size=np.array([33, 50, 1])), "size"),
        (entries_of(size=np.array([33, 70])), "maps_0"),
        (entries_of(size=np.array([-5, 50])), "maps_0"),
        (entries_of(size=np.array([10**9, 10**9])), "maps_0"),
        (entries_of(size=np.array([33, 49])), "another image size"),
        (entries_of(scales=np.array([1.0, 0.5, 1.5, np.nan])), "scales"),
        (entries_of(scales=np.array([1.0, 0.5, 1.5, np.inf])), "scales"),
        (entries_of(scales=np.array([1e-9, 0.5, 1.5, 2.0])), "scales"),
        (entries_of(scales=np.zeros(0)), "0 scales"),
        (entries_of(maps_3=None), "maps_3"),
        (entries_of(maps_1=np.full((3, 1, 2), np.nan, np.float32)), "NaN"),
        (entries_of(maps_1=np.full((3, 1, 2), np.inf, np.float32)), "NaN or infinity"),
        (
            entries_of(maps_1=np.full((3, 1, 2), 3e38, np.float32), maps_0=np.full((3, 3, 4), 3e38, np.float32)),
            "infinity",
        ),
        (entries_of(maps_1=np.full((3, 1, 2), -1, np.float32)), "below 0"),
        (entries_of(maps_1=np.zeros((3, 1, 2))), "float32"),
    ],
)
def test_content_that_does_not_fit(tmp_path, content, message):
    array = np.empty((), object)
    array[()] = content
    np.save(tmp_path / "bad.npy", array, allow_pickle=True)
    with pytest.raises(InputError, match=message) as error:
        read_any_cam(tmp_path / "bad.npy", size=(33, 50), labels=np.array([1, 3, 5]), n_classes=20)
    assert "bad.npy" in str(error.value)


def test_a_forged_size_takes_no_memory(tmp_path):
    """An image of 40000 × 40000 whose map of 250 × 250 says it is of a hundredth: 26 GB, were it added up."""
    maps = ScaleMaps(np.array([1]), (40000, 40000), (0.1,), [np.zeros((1, 250, 250), np.float32)])
    write_compact_cam(tmp_path / "bad.npy", maps)
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match="another image size"):
            read_any_cam(tmp_path / "bad.npy", size=(33, 50), labels=np.array([1]), n_classes=20)
        assert tracemalloc.get_traced_memory()[1] < 10 * 2**20
    finally:
        tracemalloc.stop()


def test_nothing_in_a_compact_file_runs(tmp_path, monkeypatch):
    class Runs:
        def __reduce__(self):
            return os.system, ("touch canary",)

    monkeypatch.chdir(tmp_path)
    array = np.empty((), object)
    array[()] = entries_of(maps_1=Runs())
    content = pickle.dumps(array)
    with open("bad.npy", "wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": ()})
        file.write(content)
    with pytest.raises(InputError, match=r"bad\.npy"):
        read_cam("bad.npy")
    assert os.listdir() == ["bad.npy"]
