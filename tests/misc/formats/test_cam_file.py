"""CAM files: the community's format, both ways, and nothing in a file ever runs."""

import builtins
import functools
import io
import os
import pickle
import re
import struct
import subprocess
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from misc.errors import InputError
from misc.formats.cam_file import CAM, read_cam, write_cam

UPSTREAM = Path(__file__).resolve().parents[2] / "golden" / "upstream_cam_file.npy"
SIZE = (6, 9)  # stride-4 grid 2×3


def cam_of(k: int = 2) -> CAM:
    rng = np.random.default_rng(k)
    keys = np.arange(k, dtype=np.int64) * 3 + 1
    return CAM(keys, rng.random((k, 2, 3), np.float32), rng.random((k, *SIZE), np.float32))


def content_of(cam: CAM) -> dict:
    return {"keys": torch.from_numpy(cam.keys), "cam": torch.from_numpy(cam.cam_s4), "high_res": cam.cam_full}


def npy(pickled: bytes) -> bytes:
    """A .npy file of one object with this pickle in it."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": ()})
    return file.getvalue() + pickled


def saved(path: Path, content: object, protocol: int = 4) -> Path:
    array = np.empty((), object)
    array[()] = content
    path.write_bytes(npy(pickle.dumps(array, protocol=protocol)))
    return path


def assert_same(found: CAM, expected: CAM) -> None:
    for name, f, e in zip(CAM._fields, found, expected, strict=True):
        assert f.dtype == e.dtype, name
        np.testing.assert_array_equal(f, e)


@pytest.mark.parametrize("k", [0, 1, 3])
def test_round_trip(tmp_path, k):
    path = tmp_path / "new" / "2007_000032.npy"
    write_cam(path, cam_of(k))
    assert_same(read_cam(path, size=SIZE, n_classes=20), cam_of(k))
    assert list(path.parent.iterdir()) == [path]


def test_anybody_can_read_what_is_written(tmp_path):
    cam = cam_of()
    write_cam(tmp_path / "a.npy", CAM(cam.keys, cam.cam_s4, np.asfortranarray(cam.cam_full)))
    content = np.load(tmp_path / "a.npy", allow_pickle=True).item()
    assert list(content) == ["keys", "cam", "high_res"]
    assert isinstance(content["keys"], torch.Tensor) and isinstance(content["cam"], torch.Tensor)
    assert isinstance(content["high_res"], np.ndarray)
    assert (content["keys"].dtype, content["cam"].dtype) == (torch.int64, torch.float32)
    assert content["high_res"].dtype == np.float32
    assert_same(CAM(content["keys"].numpy(), content["cam"].numpy(), content["high_res"]), cam)


def test_a_view_is_saved_without_what_it_is_a_view_of(tmp_path):
    large = np.zeros((1, 2, 1500), np.float32)
    cam = cam_of(1)
    write_cam(tmp_path / "a.npy", CAM(cam.keys, large[:, :, ::500], cam.cam_full))
    assert (tmp_path / "a.npy").stat().st_size < 4000


def test_golden_file_of_the_published_code():
    plain = np.load(UPSTREAM, allow_pickle=True).item()  # made by us: to be trusted here
    found = read_cam(UPSTREAM, size=plain["high_res"].shape[1:], n_classes=20)
    assert_same(found, CAM(plain["keys"].numpy(), plain["cam"].numpy(), plain["high_res"]))


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_other_writers(tmp_path, protocol):
    """Other pickles, other types, odd strides."""
    cam = cam_of()
    wide = torch.arange(48.0).reshape(2, 6, 4)
    content = {
        "keys": cam.keys.astype(">i2"),
        "cam": wide[:, ::2, 1:].transpose(1, 2).transpose(1, 2)[:, :2],
        "high_res": np.asfortranarray(cam.cam_full.astype(np.float64)),
        "more": "ignored",
    }
    found = read_cam(saved(tmp_path / "a.npy", content, protocol), size=SIZE)
    by_hand = np.array([[[1, 2, 3], [9, 10, 11]], [[25, 26, 27], [33, 34, 35]]], np.float32)
    assert_same(found, CAM(cam.keys, by_hand, cam.cam_full))


def test_a_missing_file_names_the_remedy(tmp_path):
    with pytest.raises(InputError, match=r"no CAM at .*2007_000032\.npy: run make_cam first, or .*--cam_out_dir"):
        read_cam(tmp_path / "2007_000032.npy")


def changed(**changes: object) -> dict:
    content = content_of(cam_of()) | changes
    return {name: value for name, value in content.items() if value is not None}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (changed(keys=None), "'keys'"),
        (changed(cam=None), "'cam'"),
        (changed(high_res=None), "'high_res'"),
        (changed(keys=torch.tensor([1])), "1 keys, but 2 strided and 2 full"),
        (changed(keys=torch.tensor([1, 1])), "twice"),
        (changed(keys=torch.tensor([1, 20])), r"\[1, 20\]"),
        (changed(keys=torch.tensor([-1, 2])), r"\[-1, 2\]"),
        (changed(keys=torch.tensor([1.0, 2.0])), "integers"),
        (changed(keys=torch.tensor(1)), "dimensions"),
        (changed(keys=[1, 2]), "list"),
        (changed(keys=np.array(["a", "b"])), "U1"),
        (changed(keys=np.array([1, "b"], dtype=object)), "O8"),
        (changed(cam=torch.zeros(2, 2, 3, dtype=torch.int64)), "floating-point"),
        (changed(cam=torch.zeros(2, 2, 4)), r"\(2, 4\).*expected"),
        (changed(cam=torch.full((2, 2, 3), torch.nan)), "NaN"),
        (changed(high_res=np.full((2, 6, 9), np.inf, np.float32)), "NaN or infinity"),
        (changed(high_res=np.zeros((2, 9, 6), np.float32)), "another image size"),
        (changed(high_res=np.zeros((6, 9), np.float32)), "dimensions"),
        ([1, 2], "list"),
        ({}, "'keys'"),
    ],
)
def test_content_that_does_not_fit(tmp_path, content, message):
    path = saved(tmp_path / "bad.npy", content)
    with pytest.raises(InputError, match=message) as error:
        read_cam(path, size=SIZE, n_classes=20)
    assert "bad.npy" in str(error.value)


def test_no_cam_file_at_all(tmp_path):
    np.save(tmp_path / "array.npy", np.zeros((2, 6, 9), np.float32))
    (tmp_path / "text.npy").write_text("hello")
    (tmp_path / "empty.npy").touch()
    (tmp_path / "folder.npy").mkdir()
    np.save(tmp_path / "objects.npy", np.array([{}, {}], dtype=object), allow_pickle=True)
    for name in ("array.npy", "text.npy", "empty.npy", "objects.npy", "folder.npy"):
        with pytest.raises(InputError, match=re.escape(name)):
            read_cam(tmp_path / name)


class Runs:
    """Its pickle calls a function when it is read."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self):
        return self.call


CANARY = "canary"
EVIL_STORAGE = Runs(torch.storage._load_from_bytes, pickle.dumps(Runs(os.system, f"touch {CANARY}")))
PAYLOADS = {
    "os.system": Runs(os.system, f"touch {CANARY}"),
    "eval": Runs(builtins.eval, f"open('{CANARY}', 'w').close()"),
    "exec": Runs(builtins.exec, f"open('{CANARY}', 'w').close()"),
    "open": Runs(builtins.open, CANARY, "w"),
    "subprocess": Runs(subprocess.check_call, ["touch", CANARY]),
    "getattr": Runs(builtins.getattr, "text", "upper"),
    "partial": functools.partial(os.system, f"touch {CANARY}"),
    "path": Runs(Path.touch, Path(CANARY)),
    "np.load": Runs(np.load, "other.npy", None, True),
    "torch.load": Runs(torch.load, "other.pth"),
    "tensor subclass": torch.nn.Parameter(torch.zeros(2, 2, 3)),
    "storage": EVIL_STORAGE,
    "tensor": Runs(torch._utils._rebuild_tensor_v2, EVIL_STORAGE, 0, (2,), (1,), False, {}),
}


def object_array(payload: object) -> np.ndarray:
    array = np.empty(1, object)
    array[0] = payload
    return array


WRAPPINGS = {
    "itself": lambda payload: payload,
    "keys": lambda payload: changed(keys=payload),
    "in an array": lambda payload: changed(high_res=object_array(payload)),
    "in a list": lambda payload: changed(more=[(payload,)]),
    "as a name": lambda payload: {payload: 1} | changed(),
    "beside": lambda payload: changed(extra=payload),
}


@pytest.mark.parametrize("wrapping", WRAPPINGS.values(), ids=WRAPPINGS)
@pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS)
def test_nothing_in_a_file_runs(tmp_path, monkeypatch, payload, wrapping):
    monkeypatch.chdir(tmp_path)
    path = saved(tmp_path / "bad.npy", wrapping(payload))
    try:
        read_cam(path)
    except InputError as error:
        assert "bad.npy" in str(error)
    else:  # bytes that nobody unpickles, in an entry that nobody reads
        assert wrapping in (WRAPPINGS["in a list"], WRAPPINGS["beside"], WRAPPINGS["as a name"])
    assert os.listdir(tmp_path) == ["bad.npy"]


def test_the_canary_would_sing(tmp_path, monkeypatch):
    """The same files do run in an ordinary unpickler."""
    monkeypatch.chdir(tmp_path)
    np.load(saved(tmp_path / "bad.npy", changed(extra=PAYLOADS["os.system"])), allow_pickle=True)
    assert (tmp_path / CANARY).exists()


@pytest.mark.parametrize("opcode", ["cos\nsystem\n", "cposix\nsystem\n", "cbuiltins\n__import__\n"])
def test_a_refused_function_is_named(tmp_path, opcode):
    (tmp_path / "bad.npy").write_bytes(npy(opcode.encode() + b"."))
    with pytest.raises(InputError, match="refused: it asks for " + opcode.strip().replace("\n", ".")[1:]):
        read_cam(tmp_path / "bad.npy")


def forged_pointer() -> bytes:
    """An array of objects, whose dtype denies that it holds any, out of plain bytes: eight bytes as a pointer."""
    dtype = b"cnumpy\ndtype\n(X\x02\0\0\0O8\x89\x88tR(K\x03X\x01\0\0\0|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb"
    array = b"cnumpy._core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\0\x85C\x01btR"
    return b"\x80\x04" + array + b"(K\x01)" + dtype + b"\x89C\x08" + b"A" * 8 + b"tb."


def forged_tensor(size: int) -> dict:
    """A tensor that claims more numbers than its file holds."""
    call = torch._utils._rebuild_tensor_v2, (torch.zeros(6)._typed_storage(), 0, (2, size, 3), (0, 0, 0), False, {})
    return changed(cam=Runs(call[0], *call[1]))


def test_a_forged_array_is_no_pointer(tmp_path):
    """A process that followed the pointer would be killed by the system, and this one with it."""
    (tmp_path / "bad.npy").write_bytes(npy(forged_pointer()))
    with pytest.raises(InputError):
        read_cam(tmp_path / "bad.npy")


@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")
@pytest.mark.parametrize("size", [2, 10**12])
def test_a_tensor_does_not_exceed_its_file(tmp_path, size):
    path = saved(tmp_path / "bad.npy", forged_tensor(size))
    with pytest.raises(InputError, match="made of 6 numbers"):
        read_cam(path)


def test_a_memo_index_takes_no_memory(tmp_path):
    """pickle's own unpickler makes a table as long as the largest index: up to 64 GiB."""
    (tmp_path / "bad.npy").write_bytes(npy(b"K\x01r" + struct.pack("<I", 2**24) + b"."))
    tracemalloc.start()
    try:
        with pytest.raises(InputError):
            read_cam(tmp_path / "bad.npy")
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()


def test_cut_anywhere(tmp_path):
    path = tmp_path / "cut.npy"
    write_cam(path, cam_of())
    whole = path.read_bytes()
    for length in (*range(0, len(whole), 37), len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"cut\.npy"):
            read_cam(path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0), st.binary(min_size=1, max_size=4)), min_size=1, max_size=3))
def test_any_damage_is_an_input_error_or_harmless(tmp_path, damage):
    path = tmp_path / "damaged.npy"
    if not (tmp_path / "whole.npy").exists():
        write_cam(tmp_path / "whole.npy", cam_of())
    data = bytearray((tmp_path / "whole.npy").read_bytes())
    for place, new in damage:
        start = place % len(data)
        data[start : start + len(new)] = new
    path.write_bytes(data)
    try:
        cam = read_cam(path, size=SIZE, n_classes=20)
    except InputError as error:
        assert "damaged.npy" in str(error)
    else:
        assert (cam.keys.shape, cam.cam_s4.shape, cam.cam_full.shape) == ((2,), (2, 2, 3), (2, *SIZE))
