"""CAM files of every family, told apart by their content and by the labels of their image."""

import io
import pickle
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from misc.errors import InputError
from misc.formats.cam_file import CAM, read_cam, write_cam
from misc.formats.cam_formats import EMPTY, FORMATS, read_any_cam, zero_is_background

GOLDEN_FILE = Path(__file__).resolve().parents[2] / "golden" / "upstream_cam_file.npy"
SIZE = (6, 9)  # stride-4 grid 2×3
C = 20
SHOWN = [3, 7, 15]
MAPS = np.random.default_rng(0).random((C, *SIZE), np.float32)  # of each class
BACKGROUND = np.full(SIZE, 0.5, np.float32)


def read(path, labels=SHOWN, **changes):
    return read_any_cam(path, **{"size": SIZE, "labels": np.array(labels, np.int64), "n_classes": C, **changes})


def saved(folder, content):
    """As those methods save: np.save of a dict."""
    np.save(folder / "a.npy", content, allow_pickle=True)
    return folder / "a.npy"


def reduced(maps):
    if len(maps) == 0:
        return np.zeros((0, 2, 3), np.float32)
    return F.interpolate(torch.from_numpy(maps)[None], (2, 3), mode="bilinear", align_corners=False)[0].numpy()


def sbe(classes=SHOWN):
    return {"keys": torch.tensor(classes), "cam": torch.from_numpy(reduced(MAPS[classes])), "high_res": MAPS[classes]}


def by_class(classes=SHOWN):
    return {c: MAPS[c] for c in classes}


def crf(classes=SHOWN):
    return {0: BACKGROUND} | {c + 1: MAPS[c] for c in classes}


def clip_es(classes=SHOWN):
    return {"keys": np.array(classes), "attn_highres": MAPS[classes].astype(np.float16), "refined_cam": [1, "more"]}


def clip_es_padded(classes=SHOWN):
    return clip_es(classes) | {"keys": np.pad(np.array(classes, np.int64) + 1, (1, 0))}


def clip_es_with_background(classes=SHOWN):
    maps = np.stack([BACKGROUND, *MAPS[classes]]).astype(np.float16)
    return clip_es_padded(classes) | {"attn_highres": maps}


def sipe(classes=SHOWN):
    """As SIPE saves: the background has a key and a map of its own."""
    keys = np.pad(np.array(classes, np.int64) + 1, (1, 0))
    return {"keys": keys, "IS_CAM": np.stack([BACKGROUND, *MAPS[classes]])}


def sipe_without_background(classes=SHOWN):
    return sipe(classes) | {"IS_CAM": MAPS[classes]}


FAMILIES = {
    "sbe": (sbe, "sbe"),
    "sbe, arrays": (lambda c=SHOWN: {k: np.asarray(v) for k, v in sbe(c).items()}, "sbe"),
    "sbe, no strided maps": (lambda c=SHOWN: {k: v for k, v in sbe(c).items() if k != "cam"}, "sbe"),
    "classes": (by_class, "classes"),
    "classes, NumPy keys": (lambda c=SHOWN: {np.int64(k): v for k, v in by_class(c).items()}, "classes"),
    "classes, small NumPy keys": (lambda c=SHOWN: {np.uint8(k): v for k, v in by_class(c).items()}, "classes"),
    "classes, tensors": (lambda c=SHOWN: {k: torch.from_numpy(v) for k, v in by_class(c).items()}, "classes"),
    "classes, float64": (lambda c=SHOWN: {k: v.astype(np.float64) for k, v in by_class(c).items()}, "classes"),
    "crf": (crf, "crf"),
    "crf, NumPy keys": (lambda c=SHOWN: {np.int32(k): v for k, v in crf(c).items()}, "crf"),
    "clip-es": (clip_es, "clip-es"),
    "clip-es, padded keys": (clip_es_padded, "clip-es"),
    "clip-es, padded keys and maps": (clip_es_with_background, "clip-es"),
    "sipe": (sipe, "sipe"),
    "sipe, no background map": (sipe_without_background, "sipe"),
}
each_family = pytest.mark.parametrize(("make", "name"), FAMILIES.values(), ids=FAMILIES)


@each_family
@pytest.mark.parametrize("order", [[3, 7, 15], [15, 3, 7]])
def test_every_family_says_the_same(tmp_path, make, name, order):
    cam, remarks = read(saved(tmp_path, make(order)))
    assert cam.keys.tolist() == SHOWN and cam.keys.dtype == np.int64
    half = name == "clip-es"
    np.testing.assert_array_equal(cam.cam_full, MAPS[SHOWN].astype(np.float16 if half else np.float32))
    np.testing.assert_array_equal(cam.cam_s4, reduced(cam.cam_full))
    assert cam.cam_full.dtype == cam.cam_s4.dtype == np.float32
    has_background = make in (crf, clip_es_with_background, sipe) or name == "crf"
    assert [remark.split(":")[0] for remark in remarks] == [
        f"are {name}", *["hold background scores, which are not used"] * has_background
    ]  # fmt: skip


def test_strided_maps_are_resized_from_full_ones(tmp_path):
    """By hand: the middle of a cell of 4 lies between its second and third pixel."""
    row = np.arange(9, dtype=np.float32) / 10
    cam, _ = read(saved(tmp_path, {3: np.tile(row, (6, 1))}), [3])
    # cells of 9/3 = 3 pixels, whose middles are pixels 1, 4, 7
    np.testing.assert_allclose(cam.cam_s4[0], np.tile([0.1, 0.4, 0.7], (2, 1)), rtol=1e-6)


def test_strided_maps_in_the_file_are_kept(tmp_path):
    content = sbe() | {"cam": torch.zeros(3, 2, 3)}
    assert not read(saved(tmp_path, content)).cam.cam_s4.any()


def test_what_we_write_is_read_back(tmp_path):
    cam = CAM(np.array([2, 9]), reduced(MAPS[[2, 9]]), MAPS[[2, 9]])
    write_cam(tmp_path / "a.npy", cam)
    found = read(tmp_path / "a.npy", [2, 9])
    for one, other, plain in zip(found.cam, cam, read_cam(tmp_path / "a.npy"), strict=True):
        np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(one, plain)


def test_golden_file_of_the_published_code():
    plain = read_cam(GOLDEN_FILE)
    found = read(GOLDEN_FILE, plain.keys, size=plain.cam_full.shape[1:])
    for one, other in zip(found.cam, plain, strict=True):
        np.testing.assert_array_equal(one, other)


# --- which of two readings


@pytest.mark.parametrize(
    ("numbers", "shown", "background"),
    [
        # the same classes
        ({3, 7}, {3, 7}, False),
        ({0, 4, 8}, {3, 7}, True),
        ({0}, {0}, False),  # aeroplane, not a background alone
        ({0, 1}, {0}, True),
        ({0, 1}, {0, 1}, False),
        ({0, 1, 2}, {0, 1}, True),
        (set(), set(), False),
        ({0}, set(), True),
        ({19}, {19}, False),
        ({0, 20}, {19}, True),
        (set(range(20)), set(range(20)), False),
        (set(range(21)), set(range(20)), True),
        # some of them
        ({3}, {3, 7}, False),
        (set(), {3}, False),
        ({0, 4}, {3, 7}, True),
        ({0}, {3}, True),
        ({0, 3}, {0, 3, 7}, False),
        ({0, 1, 2}, {0, 1, 4}, True),  # from 0 there would be a class 2
        # all of them and others
        ({3, 7, 9}, {3, 7}, False),
        ({0, 3}, {3}, False),
        ({0, 3, 7}, {3}, False),
        ({0, 4, 9}, {3}, True),
        ({0, 1, 5}, {0, 1}, False),
        # neither, but only one reading is possible
        ({3, 9}, {3, 7}, False),
        ({9}, {3}, False),
        ({0, 20}, {3}, True),  # 20 is no class from 0
        ({5}, set(), False),
    ],
)
def test_the_labels_tell(numbers, shown, background):
    assert zero_is_background(numbers, shown, C) is background


@pytest.mark.parametrize(
    ("numbers", "shown"),
    [
        ({0}, {0, 5}),  # aeroplane without the other, or a background without both
        ({0, 1}, {0, 1, 2}),  # two of three, or one of three
        ({0, 1, 2}, {0}),  # both hold aeroplane and others
        ({0, 5}, {3}),  # none has class 3
        ({0, 3, 9}, {3, 7}),  # class 3 of two and two others, or two others
    ],
)
def test_where_they_do_not_the_user_is_asked(tmp_path, numbers, shown):
    with pytest.raises(ValueError, match="--cam_format"):
        zero_is_background(numbers, shown, C)
    path = saved(tmp_path, dict.fromkeys(numbers, BACKGROUND))
    with pytest.raises(InputError, match=r"a\.npy: .* do not tell which: say --cam_format"):
        read(path, sorted(shown))
    drop = {"labels": sorted(shown), "drop_extra": True}
    assert set(read(path, cam_format="classes", **drop).cam.keys) == numbers & shown
    assert set(read(path, cam_format="crf", **drop).cam.keys) == {n - 1 for n in numbers if n} & shown


@given(st.sets(st.integers(0, C - 1)))
def test_complete_files_are_never_in_doubt(shown):
    assert zero_is_background(shown, shown, C) is False
    assert zero_is_background({0} | {c + 1 for c in shown}, shown, C) is True


@pytest.mark.parametrize(
    ("numbers", "shown"),
    [({0, 1}, {0}), ({0, 1, 2}, {0, 1}), ({0}, set())],
)
def test_where_extra_classes_are_expected_a_complete_file_may_be_one_of_them(tmp_path, numbers, shown):
    """CRF scores of just the classes shown, or those classes and one more."""
    assert zero_is_background(numbers, shown, C) is True
    with pytest.raises(ValueError, match="do not tell which: say --cam_format"):
        zero_is_background(numbers, shown, C, extra_expected=True)
    path = saved(tmp_path, dict.fromkeys(numbers, BACKGROUND))
    assert set(read(path, sorted(shown)).cam.keys) == shown
    with pytest.raises(InputError, match=r"a\.npy: .* say --cam_format"):
        read(path, sorted(shown), drop_extra=True)
    for cam_format in ("classes", "crf"):
        assert set(read(path, sorted(shown), drop_extra=True, cam_format=cam_format).cam.keys) == shown


@given(st.sets(st.integers(0, C - 1)), st.sets(st.integers(0, C)), st.booleans())
def test_a_reading_that_explains_all_is_alone_in_that(shown, numbers, extra_expected):
    """No reading wins against one that holds every class shown, unless that would be an error."""
    try:
        background = zero_is_background(numbers, shown, C, extra_expected=extra_expected)
    except ValueError:
        return
    other = numbers if background else {n - 1 for n in numbers - {0}}
    possible = C not in numbers if background else 0 in numbers
    assert not (extra_expected and possible and other > shown)


@pytest.mark.parametrize("numbers", [{-1}, {21}, {20}, {3, 20}, {0, 21}])
def test_numbers_of_no_class(tmp_path, numbers):
    path = saved(tmp_path, dict.fromkeys(numbers, BACKGROUND))
    for changes in ({}, {"drop_extra": True}, {"cam_format": "classes"}):
        with pytest.raises(InputError, match="not all of classes"):
            read(path, [3], **changes)


# --- more or fewer classes than the image shows


@each_family
def test_classes_beyond_the_labels(tmp_path, make, name):
    path = saved(tmp_path, make([15, 3, 7]))
    with pytest.raises(InputError, match=r"a\.npy: it holds maps of classes \[15\].*\[3, 7\].*--drop_extra_cams"):
        read(path, [3, 7])
    cam, remarks = read(path, [3, 7], drop_extra=True)
    assert cam.keys.tolist() == [3, 7] and "had maps of classes that their image does not show: dropped" in remarks
    np.testing.assert_allclose(cam.cam_full, MAPS[[3, 7]], atol=1e-3)
    assert cam.cam_s4.shape == (2, 2, 3)


@each_family
def test_classes_without_a_map(tmp_path, make, name):
    cam, remarks = read(saved(tmp_path, make([7])), [3, 7])
    assert cam.keys.tolist() == [7] and "have no map for a class that their image shows" in remarks


@each_family
def test_an_image_without_labels(tmp_path, make, name):
    cam, _ = read(saved(tmp_path, make([])), [])
    assert (cam.keys.shape, cam.cam_s4.shape, cam.cam_full.shape) == ((0,), (0, 2, 3), (0, *SIZE))


# --- what the setting says


@pytest.mark.parametrize(
    ("make", "fitting"),
    [
        (sbe, {"sbe"}),
        (by_class, {"classes", "crf"}),
        (crf, {"classes", "crf"}),
        (clip_es, {"clip-es", "crf"}),
        (sipe, {"sipe"}),
    ],
)
@pytest.mark.parametrize("cam_format", FORMATS)
def test_the_setting_is_held_against_the_file(tmp_path, make, fitting, cam_format):
    path = saved(tmp_path, make())
    if cam_format in fitting:
        shift = cam_format == "crf" and make in (by_class, clip_es)
        expected = [c - 1 for c in SHOWN] if shift else SHOWN
        dropping = make is crf and cam_format == "classes"  # 0, 4, 8, 16
        found = read(path, [*expected, 4] if dropping else expected, cam_format=cam_format, drop_extra=dropping)
        assert found.cam.keys.tolist() == ([4] if dropping else expected)
    else:
        with pytest.raises(InputError, match=f"not {cam_format}, as --cam_format says: it looks like"):
            read(path, cam_format=cam_format)


def test_a_file_of_two_families(tmp_path):
    path = saved(tmp_path, sbe() | {"attn_highres": MAPS[SHOWN][::-1]})
    np.testing.assert_array_equal(read(path).cam.cam_full, MAPS[SHOWN][::-1])
    np.testing.assert_array_equal(read(path, cam_format="sbe").cam.cam_full, MAPS[SHOWN])


# --- what cannot be used


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"keys": np.array([3])}, "no CAM file of a known format"),
        ({"a": BACKGROUND}, "no CAM file of a known format"),
        ({3: BACKGROUND, "b": 1}, "no CAM file of a known format"),
        ({3: BACKGROUND, 7.0: BACKGROUND}, "no CAM file of a known format"),
        ({True: BACKGROUND}, "no CAM file of a known format"),
        ({(1, 2): BACKGROUND}, "no CAM file of a known format"),
        ({np.float64(3): BACKGROUND}, "no CAM file of a known format"),
        (dict.fromkeys(range(22), BACKGROUND), "22 maps"),
        ({3: BACKGROUND.T}, r"another image size: a map is \(9, 6\), expected \(6, 9\): .*EXIF"),
        ({3: BACKGROUND[:, :6]}, r"another image size: a map is \(6, 6\), expected \(6, 9\)$"),
        ({3: BACKGROUND[None]}, r"\(1, 6, 9\)"),
        ({3: np.array(0.5)}, r"is \(\)"),
        ({9: BACKGROUND.T}, "another image size"),  # said before that no class 9 is shown
        ({3: "text"}, "cannot be read"),
        ({3: [0.1, 0.2]}, "cannot be read"),
        ({3: None}, "cannot be read"),
        ({3: np.zeros(SIZE, np.uint8)}, "floating-point"),
        ({3: np.zeros(SIZE, bool)}, "cannot be read"),
        ({3: np.zeros(SIZE, complex)}, "cannot be read"),
        ({3: np.full(SIZE, np.nan)}, "NaN"),
        ({3: np.full(SIZE, np.inf, np.float16)}, "infinity"),
        ({3: np.full(SIZE, 1e300)}, "infinity"),
        ({3: BACKGROUND - 1}, "below 0"),
        ({3: BACKGROUND - (0.50006 * np.eye(*SIZE)).astype(np.float32)}, "below 0"),  # by 1.2e-4 of the maximum
        ({3: np.full(SIZE, -0.5)}, "below 0"),
        (clip_es([3]) | {"keys": np.array([3, 4])}, "2 keys, but 1 full"),
        (clip_es([3]) | {"keys": np.array([[3]])}, "row of integers"),
        (clip_es([3]) | {"keys": np.array([3.0])}, "row of integers"),
        (clip_es([3, 3]), "twice"),
        (clip_es([3]) | {"attn_highres": BACKGROUND}, "3 dimensions"),
        (clip_es([3]) | {"attn_highres": np.zeros(10**6, np.float16)}, "3 dimensions"),
        (clip_es([3]) | {"attn_highres": np.zeros((10**6, 1, 1), np.float16)}, "1 keys, but 1000000 full"),
        (clip_es([3]) | {"keys": np.zeros(10**6, np.uint8)}, "1000000 maps"),
        (clip_es([3]) | {"attn_highres": np.float32(1)}, "cannot be read"),
        (sbe([3]) | {"cam": torch.zeros(2, 2, 3)}, "1 keys, but 1 full and 2 strided"),
        (sbe([3]) | {"cam": torch.zeros(1, 3, 3)}, r"\(3, 3\), expected \(2, 3\)"),
    ],
)
def test_content_that_does_not_fit(tmp_path, content, message):
    with pytest.raises(InputError, match=message) as error:
        read(saved(tmp_path, content), [3], drop_extra=True)
    assert "a.npy" in str(error.value) and "\n" not in str(error.value)


def test_scores_above_one_are_taken_and_told(tmp_path):
    cam, remarks = read(saved(tmp_path, {3: BACKGROUND * 9}), [3])
    assert cam.cam_full.max() == 4.5
    assert "hold scores above 1: the thresholds apply to them as they are" in remarks


def seam(evidence):
    """As SEAM's infer step normalises the sum of its maps before it saves them."""
    total = np.maximum(evidence, 0).astype(np.float32)
    high, low = total.max(), total.min()
    total[total < low + 1e-5] = 0
    return (total - low - np.float32(1e-5)) / (high - low + np.float32(1e-5))


def test_what_seam_leaves_below_zero_counts_as_zero(tmp_path):
    evidence = np.tile(np.array([-3, 0, 0, 8, 16, 32, 64, 0, 0], np.float32), (6, 1))
    maps = {3: seam(evidence), 7: seam(np.zeros(SIZE))}
    assert -2e-7 < maps[3].min() < -1e-7 and (maps[7] == -1).all()  # a map without evidence
    cam, remarks = read(saved(tmp_path, maps), [3, 7])
    np.testing.assert_allclose(cam.cam_full[0], np.tile([0, 0, 0, 0.125, 0.25, 0.5, 1, 0, 0], (6, 1)), atol=1e-6)
    assert cam.cam_full.min() == 0 and not cam.cam_full[1].any() and cam.cam_s4.min() >= 0
    np.testing.assert_array_equal(cam.cam_s4, reduced(cam.cam_full))
    assert any("below 0" in remark and "count as 0" in remark for remark in remarks)
    strided = {"keys": np.array([3]), "cam": -1e-7 + MAPS[[3], :2, :3] * 0 + np.eye(2, 3, dtype=np.float32)}
    found = read(saved(tmp_path, strided | {"high_res": MAPS[[3]]}), [3])
    assert found.cam.cam_s4.min() == 0 and any("below 0" in remark for remark in found.remarks)


@pytest.mark.parametrize("keys", [np.zeros(0, np.int64), torch.zeros(0), torch.zeros(0, dtype=torch.int64)])
@pytest.mark.parametrize("cam_format", ["auto", *FORMATS])
def test_a_file_of_empty_keys_alone(tmp_path, keys, cam_format):
    cam, remarks = read(saved(tmp_path, {"keys": keys}), [], cam_format=cam_format)
    assert (cam.keys.shape, cam.cam_s4.shape, cam.cam_full.shape) == ((0,), (0, 2, 3), (0, *SIZE))
    assert remarks == [EMPTY]
    assert any("no map for a class" in remark for remark in read(saved(tmp_path, {"keys": keys}), [3]).remarks)


def test_the_background_of_sipe_is_no_class(tmp_path):
    """Keys {0, 1} of an image of both classes would be these, in a file of maps a class."""
    cam = read(saved(tmp_path, sipe([0])), [0, 1]).cam
    assert cam.keys.tolist() == [0]
    np.testing.assert_array_equal(cam.cam_full, MAPS[[0]])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_every_type_of_score(tmp_path, dtype):
    """As of a network that ran under autocast."""
    maps = torch.from_numpy(MAPS[SHOWN]).to(dtype)
    for content in (sbe() | {"high_res": maps, "cam": maps[:, :2, :3]}, dict(zip(SHOWN, maps, strict=True))):
        cam, _ = read(saved(tmp_path, content))
        np.testing.assert_array_equal(cam.cam_full, maps.float().numpy())


def test_files_of_older_numpy_and_of_other_protocols(tmp_path):
    content = {np.int64(3): MAPS[3], np.int64(7): MAPS[7].astype(np.float16)}
    for protocol in (2, 3, 4):
        array = np.empty((), object)
        array[()] = content
        data = pickle.dumps(array, protocol=protocol).replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
        if protocol == 4:  # there the length of the name stands before it
            data = pickle.dumps(array, protocol=protocol)
        write_pickle(tmp_path / "a.npy", data)
        assert read(tmp_path / "a.npy", [3, 7]).cam.keys.tolist() == [3, 7]


# --- files that mean harm


def write_pickle(path, pickled):
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": ()})
    path.write_bytes(file.getvalue() + pickled)


class Call:
    """Its pickle asks for this call, with this state."""

    def __init__(self, function, *arguments, state=None):
        self.parts = (function, arguments, state) if state is not None else (function, arguments)

    def __reduce__(self):
        return self.parts


def array_of(shape, dtype, data):
    """An array's pickle with a state of one's own."""
    reconstruct = np.zeros(0).__reduce__()[0]
    return Call(reconstruct, np.ndarray, (0,), b"b", state=(1, shape, dtype, False, data))


@pytest.mark.parametrize(
    "value",
    [
        array_of((10**9, 10**9), np.dtype("<f4"), b"1234"),
        array_of((6, 9), np.dtype("<f4"), b"1234"),
        array_of((-1, 9), np.dtype("<f2"), b"12"),
        array_of((0, 10**12), np.dtype("<f4"), b""),
        array_of((6, 9), np.dtype("O"), b"8" * 8 * 54),
        array_of((6, 9), np.dtype("S4"), b"8" * 4 * 54),
        array_of((6, 9), "<f4", [1, 2]),
        array_of(7, np.dtype("<f4"), b""),
        array_of((6, 9), np.dtype([("a", "<f4")]), b"8" * 4 * 54),
    ],
)
@pytest.mark.parametrize("family", ["classes", "clip-es", "keys"])
def test_forged_arrays(tmp_path, value, family):
    content = {"classes": {3: value}, "clip-es": clip_es([3]) | {"attn_highres": value}, "keys": clip_es([3])}[family]
    if family == "keys":
        content["keys"] = value
    array = np.empty((), object)
    array[()] = content
    write_pickle(tmp_path / "a.npy", pickle.dumps(array, protocol=4))
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=r"a\.npy"):
            read(tmp_path / "a.npy", [3])
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "key",
    [
        Call(np.float64(1).__reduce__()[0], np.dtype("<i8"), b"\3"),
        Call(np.float64(1).__reduce__()[0], np.dtype("<i8"), b"\3" * 16),
        Call(np.float64(1).__reduce__()[0], np.dtype("O"), b"\3" * 8),
        Call(np.float64(1).__reduce__()[0], np.dtype("<f8"), b"\3" * 8),
        Call(np.float64(1).__reduce__()[0]),
        10**30,
        np.int64(-3),
    ],
    ids=range(7),
)
def test_forged_keys(tmp_path, key):
    array = np.empty((), object)
    array[()] = {key: BACKGROUND}
    write_pickle(tmp_path / "a.npy", pickle.dumps(array, protocol=4))
    with pytest.raises(InputError, match=r"a\.npy"):
        read(tmp_path / "a.npy", [3])


def test_a_class_under_two_kinds_of_keys(tmp_path):
    """3 and np.int64(3) are one key to Python, but a forged file may hold both."""
    data = pickle.dumps({3: 0.25, np.int64(4): 0.5}, protocol=4)
    forged = data.replace(struct.pack("<q", 4), struct.pack("<q", 3))
    assert forged != data
    write_pickle(tmp_path / "a.npy", forged)
    with pytest.raises(InputError, match="twice"):
        read(tmp_path / "a.npy", [3])


def test_nothing_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for content in ({3: Call(open, "canary", "w")}, {Call(open, "canary", "w"): BACKGROUND}):
        array = np.empty((), object)
        array[()] = content
        write_pickle(tmp_path / "a.npy", pickle.dumps(array, protocol=4))
        with pytest.raises(InputError, match="refused"):
            read(tmp_path / "a.npy", [3])
    assert not (tmp_path / "canary").exists()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None)
@given(
    st.sampled_from([crf, by_class, clip_es]),
    st.lists(st.tuples(st.integers(0), st.binary(min_size=1, max_size=4)), min_size=1, max_size=3),
)
def test_any_damage_is_an_input_error_or_harmless(tmp_path, make, damage):
    path = saved(tmp_path, make())
    data = bytearray(path.read_bytes())
    for place, new in damage:
        start = place % len(data)
        data[start : start + len(new)] = new
    path.write_bytes(data)
    try:
        cam = read(path).cam
    except InputError as error:
        assert "a.npy" in str(error)
    else:
        assert set(cam.keys) <= set(SHOWN)
        assert cam.cam_full.shape == (len(cam.keys), *SIZE) and np.isfinite(cam.cam_full).all()
        assert cam.cam_s4.shape == (len(cam.keys), 2, 3)


def test_an_empty_file_tells_no_format(tmp_path):
    """CRF scores of an image without a class and maps by class of one are the same nothing."""
    np.save(tmp_path / "a.npy", {})
    found = read_any_cam(tmp_path / "a.npy", size=(5, 9), labels=np.zeros(0, np.int64), n_classes=3)
    assert found.cam.cam_full.shape == (0, 5, 9) and found.remarks == [EMPTY]
