"""CAM files in the community's format (IRN, BES, SBE), read without running any code in them, and compact ones.

What they hold: docs/method.md, section 2. `misc.formats.cam_formats` reads those of other methods as well.
"""

import io
import math
import os
import pickle
import re
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from misc.errors import InputError, reason
from misc.files import replacing
from misc.formats.compact_cam import ScaleMaps, from_entries, is_compact
from misc.formats.images import size_remark
from misc.pixels import stride4

ENTRIES = ("keys", "cam", "high_res")
LARGEST = np.finfo(np.float32).max  # a float64 score beyond it would become infinity


class CAM(NamedTuple):
    """The maps of one image, a channel for each of its K classes, each divided by its maximum.

    keys       (K,) int64, classes from 0, each once
    cam_s4     (K, h, w) float32 at stride 4, finite; ours lie in [0, 1]
    cam_full   (K, H, W) float32 at the size of the image, likewise
    """

    keys: np.ndarray
    cam_s4: np.ndarray
    cam_full: np.ndarray


def write_cam(path: str | Path, cam: CAM) -> None:
    """Save as the published code does: a pickled dict, `keys` and `cam` torch tensors, `high_res` an array."""
    content = {
        "keys": torch.from_numpy(cam.keys),
        "cam": torch.from_numpy(cam.cam_s4),
        "high_res": cam.cam_full,
    }
    _write(path, content)


def write_compact_cam(path: str | Path, maps: ScaleMaps) -> None:
    """Save the maps of each scale: a pickled dict of arrays, about 1/36 of a published file's bytes."""
    _write(path, maps.entries())


def _write(path: str | Path, content: dict[str, Any]) -> None:
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": ()})
        ArrayPickler(file, protocol=4).dump(np.array(content, dtype=object))


class ArrayPickler(pickle.Pickler):
    """Writes equal arrays and tensors as equal bytes that any NumPy and any torch can load.

    Their own pickles hold the address of a tensor's storage, and the name of a module that NumPy 1
    does not have.
    """

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, torch.Tensor):
            return {torch.int64: torch.LongTensor, torch.float32: torch.FloatTensor}[obj.dtype], (obj.numpy(),)
        if isinstance(obj, np.ndarray) and obj.dtype == object:
            return np.array, (obj.item(), "O")
        if isinstance(obj, np.ndarray):
            return np.ndarray, (obj.shape, obj.dtype.str, bytearray(np.ascontiguousarray(obj)))
        return NotImplemented


def read_cam(path: str | Path, *, size: tuple[int, int] | None = None, n_classes: int | None = None) -> CAM:
    """Read a CAM file, published or compact.

    size       (H, W) of the image the maps must fit, if known
    n_classes  C, if the keys are to be checked
    Raises     InputError if the file is missing, unreadable, holds anything but arrays, or does not fit.
    """
    entries = read_entries(path, size=size)
    for name in ENTRIES:
        if name not in entries.names:
            raise InputError(f"{path}: not a CAM file, it has no {name!r}")
    cam = CAM(*(entries[name] for name in ENTRIES))
    problem = misfit(cam, size, n_classes)
    if problem:
        raise InputError(f"{path}: {problem}")
    return CAM(cam.keys.astype(np.int64), cam.cam_s4.astype(np.float32), cam.cam_full.astype(np.float32))


def misfit(cam: CAM, size: tuple[int, int] | None, n_classes: int | None) -> str | None:
    """What is wrong with the content of a CAM file, if anything."""
    if cam.keys.ndim != 1 or cam.cam_s4.ndim != 3 or cam.cam_full.ndim != 3:
        return "keys, cam and high_res should have 1, 3 and 3 dimensions"
    if not len(cam.keys) == len(cam.cam_s4) == len(cam.cam_full):
        return f"{len(cam.keys)} keys, but {len(cam.cam_s4)} strided and {len(cam.cam_full)} full maps"
    if cam.keys.dtype.kind not in "iu" or cam.cam_s4.dtype.kind != "f" or cam.cam_full.dtype.kind != "f":
        return "keys should be integers and the maps floating-point"
    if len(np.unique(cam.keys)) != len(cam.keys):
        return "a class occurs twice in its keys"
    if n_classes is not None and len(cam.keys) and not 0 <= cam.keys.min() <= cam.keys.max() < n_classes:
        return f"keys {cam.keys.tolist()} are not all classes (0 to {n_classes - 1})"
    if size is not None:
        expected = (stride4(size[0]), stride4(size[1])), tuple(size)
        found = cam.cam_s4.shape[1:], cam.cam_full.shape[1:]
        if found != expected:
            remark = size_remark(found[1], expected[1])
            return f"made for another image size: its maps are {found[0]} and {found[1]}, expected {expected}{remark}"
    if not all((abs(maps) <= LARGEST).all() for maps in (cam.cam_s4, cam.cam_full)):
        return "the maps hold NaN or infinity"
    if any((maps < 0).any() for maps in (cam.cam_s4, cam.cam_full)):
        return "the maps hold scores below 0: apply a ReLU and divide each by its maximum"
    return None


class Entries:
    """The entries of a pickled dict, by name (a text) or by class number; an array is made when it is asked for.

    names     the texts and the numbers, in the order of the file
    odd       how many entries have neither for a name
    """

    def __init__(self, path: str | Path, content: dict[Any, Any], what: str = "CAM file") -> None:
        self.path, self.what = path, what
        self.odd = 0
        self._content: dict[str | int, Any] = {}
        for name, value in content.items():
            plain = _name(name)
            if plain is None:
                self.odd += 1
            elif plain in self._content:
                raise ValueError(f"it has {plain!r} twice")
            else:
                self._content[plain] = value
        self.names = list(self._content)

    def __getitem__(self, name: str | int) -> np.ndarray:
        """Raises    InputError if it is anything but an array or a tensor of numbers."""
        try:
            return _array(self._content[name])
        except Exception as error:  # a damaged array can raise anything
            raise InputError(f"{self.path}: cannot be read as a {self.what} ({name}: {reason(error)})") from error


def read_entries(path: str | Path, *, size: tuple[int, int] | None = None) -> Entries:
    """Read a file that np.save made of a dict. Of a compact CAM, these are the entries of the published one.

    size      (H, W) of the image, if known: a compact CAM of another size is not even added up
    Raises    InputError if it is missing or anything else.
    """
    if not os.path.exists(path):
        raise InputError(f"no CAM at {path}: run make_cam first, or point --cam_out_dir at your CAMs")
    entries = read_dict(path, "CAM file")
    if not is_compact(entries.names):
        return entries
    try:
        maps = from_entries(entries)
        if size is not None and maps.size != tuple(size):
            remark = size_remark(maps.size, size)
            raise ValueError(f"made for another image size: {maps.size}, expected {tuple(size)}{remark}")
    except ValueError as error:
        raise InputError(f"{path}: {error}") from error
    return Entries(path, dict(zip(ENTRIES, (maps.keys, *maps.merged()), strict=True)))


def read_dict(path: str | Path, what: str) -> Entries:
    """Read a dict of arrays that np.save pickled, without running code in it.

    what      it is to be, for the error
    Raises    InputError if it is missing or anything else.
    """
    try:
        file = io.BytesIO(Path(path).read_bytes())
        one_byte = np.lib.format.read_magic(file) == (1, 0)
        header = np.lib.format.read_array_header_1_0 if one_byte else np.lib.format.read_array_header_2_0
        shape, _, dtype = header(file)
        if not dtype.hasobject or shape != ():
            raise ValueError("an array, not a dict of arrays")
        content = _item(ArrayUnpickler(file).load())
        if not isinstance(content, dict):
            raise ValueError(f"it holds a {type(content).__name__}, not a dict")
        return Entries(path, content, what)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such {what}") from error
    except Exception as error:  # a damaged pickle can raise anything
        raise InputError(f"{path}: cannot be read as a {what} ({reason(error)})") from error


class ArrayUnpickler(pickle._Unpickler):
    """Records the calls that a pickle asks for instead of making them.

    It returns plain Python values and `_Call`s. `_array` makes arrays of them by hand, because NumPy's and
    torch's own constructors believe a forged dtype or size and follow its pointers.
    The base class is pickle's Python one, because a large memo index makes the C one fill the memory.
    """

    _KNOWN = {
        # files of NumPy 1 say core, those of NumPy 2 say _core
        ("numpy.core.multiarray", "_reconstruct"): "array",
        ("numpy._core.multiarray", "_reconstruct"): "array",
        ("numpy.core.multiarray", "scalar"): "scalar",
        ("numpy._core.multiarray", "scalar"): "scalar",
        ("numpy", "ndarray"): "ndarray",
        ("numpy", "dtype"): "dtype",
        ("_codecs", "encode"): "bytes",  # protocol 2 writes bytes this way
        ("collections", "OrderedDict"): "hooks",  # the backward hooks of a tensor, always empty
        ("torch._utils", "_rebuild_tensor_v2"): "tensor",
        ("torch.storage", "_load_from_bytes"): "storage",
        # what ArrayPickler writes
        ("numpy", "array"): "wrapped",
        ("builtins", "bytearray"): "bytes",
        ("torch", "LongTensor"): "tensor of",
        ("torch", "FloatTensor"): "tensor of",
    }

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _Recorder(self._KNOWN[module, name])
        except KeyError:
            raise pickle.UnpicklingError(f"refused: it asks for {module}.{name}, arrays need no such thing") from None


class _Call:
    """A call that was not made: what it would have made, its arguments, and the state its result would have got."""

    state: Any = None

    def __init__(self, kind: str, args: tuple[Any, ...]) -> None:
        self.kind, self.args = kind, args

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Recorder:
    """Stands for a function in a pickle."""

    __slots__ = ("kind",)

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __call__(self, *args: Any) -> _Call:
        return _Call(self.kind, args)


def _item(root: Any) -> Any:
    """What np.save wrapped in an array of one object."""
    if isinstance(root, _Call) and root.kind == "wrapped":
        return root.args[0]
    if isinstance(root, _Call) and root.kind == "array":
        _, _, _, _, (item,) = root.state
        return item
    return root


def _name(value: Any) -> str | int | None:
    """The name of an entry: a text, an integer, or an integer of NumPy's; None for anything else."""
    if isinstance(value, _Call) and value.kind == "scalar":
        dtype, data = value.args
        number = np.frombuffer(_bytes(data), _dtype(dtype))
        return int(number[0]) if number.dtype.kind in "iu" and len(number) == 1 else None
    return value if isinstance(value, (str, int)) and not isinstance(value, bool) else None


def _array(value: Any) -> np.ndarray:
    if isinstance(value, np.ndarray):  # of a compact CAM, added up here: a pickle only asks for arrays
        return value
    kind = value.kind if isinstance(value, _Call) else type(value).__name__
    if kind == "tensor of":
        return _array(value.args[0])
    if kind == "ndarray":
        shape, dtype, data = value.args
        return np.frombuffer(_bytes(data), _dtype(dtype)).reshape(shape)
    if kind == "array":
        _, shape, dtype, by_column, data = value.state
        number = _dtype(dtype)  # refuses an array of objects before `_bytes`, since such an array has no bytes
        return np.frombuffer(_bytes(data), number).reshape(shape, order="F" if by_column else "C")
    if kind == "tensor":
        storage, offset, size, stride = value.args[:4]
        # torch.load with weights_only: torch's own _load_from_bytes would run any code in the bytes
        with warnings.catch_warnings():  # torch warns of damaged bytes, and then raises
            warnings.simplefilter("ignore")
            storage = torch.load(io.BytesIO(_bytes(storage.args[0])), map_location="cpu", weights_only=True)
        numbers = torch.empty(0, dtype=storage.dtype).set_(storage)
        if math.prod(size) > len(numbers):
            raise ValueError(f"a tensor of size {size} made of {len(numbers)} numbers")
        values = numbers.as_strided(size, stride, offset)
        return (values.float() if values.dtype == torch.bfloat16 else values).numpy()  # NumPy has no bfloat16
    raise ValueError(f"{kind} where an array should be")


def _dtype(call: _Call | str) -> np.dtype:
    """The type of numbers that a pickled dtype, or its name, stands for; numbers only."""
    name = call if isinstance(call, str) else f"{call.state[1]}{call.args[0]}"
    if not re.fullmatch("[<>|=][iuf][1248]", name):
        raise ValueError(f"an array of type {name!r}")
    return np.dtype(name)


def _bytes(data: Any) -> bytes:
    """The bytes of an array: as such, or in the call that would have made them of a text or a bytearray."""
    if isinstance(data, _Call):
        data = data.args[0] if data.args else b""
    if isinstance(data, str):
        return data.encode("latin1")
    if not isinstance(data, bytes):
        raise ValueError(f"a {type(data).__name__} where the bytes of an array should be")
    return data
