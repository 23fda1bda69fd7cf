"""CAM files in the community's format (IRN, BES, SBE), read without running any code in them (SPEC 2)."""

import collections
import io
import pickle
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy._core.multiarray import _reconstruct, scalar

from misc.errors import InputError
from misc.files import replacing


class CAM(NamedTuple):
    """The maps of one image, a channel for each of its K classes, each divided by its maximum.

    keys       (K,) int64, classes from 0, sorted
    cam_s4     (K, h, w) float32 at stride 4, in [0, 1]
    cam_full   (K, H, W) float32 at the size of the image, in [0, 1]
    """

    keys: np.ndarray
    cam_s4: np.ndarray
    cam_full: np.ndarray


def write_cam(path: str | Path, cam: CAM) -> None:
    """Save as the published code does: a pickled dict, `keys` and `cam` torch tensors, `high_res` an array."""
    content = {
        "keys": torch.from_numpy(cam.keys.copy()),
        # a copy, since pickling a view would store all it is a view of
        "cam": torch.from_numpy(cam.cam_s4.copy()),
        "high_res": np.ascontiguousarray(cam.cam_full),
    }
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.save(file, np.array(content, dtype=object), allow_pickle=True)


def read_cam(path: str | Path, *, size: tuple[int, int] | None = None, n_classes: int | None = None) -> CAM:
    """Read a CAM file.

    size       (H, W) of the image the maps must fit, if known
    n_classes  C, if the keys are to be checked
    Raises     InputError if the file is missing, unreadable, holds anything but arrays, or does not fit.
    """
    content = _read_dict(path)
    try:
        cam = CAM(*(np.asarray(content[name]) for name in ("keys", "cam", "high_res")))
    except KeyError as error:
        raise InputError(f"{path}: not a CAM file, it has no {error}") from error
    problem = _misfit(cam, size, n_classes)
    if problem:
        raise InputError(f"{path}: {problem}")
    return CAM(cam.keys.astype(np.int64), cam.cam_s4.astype(np.float32), cam.cam_full.astype(np.float32))


def _misfit(cam: CAM, size: tuple[int, int] | None, n_classes: int | None) -> str | None:
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
            return f"made for another image size: its maps are {found[0]} and {found[1]}, expected {expected}"
    if not (np.isfinite(cam.cam_s4).all() and np.isfinite(cam.cam_full).all()):
        return "the maps hold NaN or infinity"
    return None


def stride4(side: int) -> int:
    """Side of the stride-4 grid over `side` pixels."""
    return (side - 1) // 4 + 1


def _read_dict(path: str | Path) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            one_byte = np.lib.format.read_magic(file) == (1, 0)
            header = np.lib.format.read_array_header_1_0 if one_byte else np.lib.format.read_array_header_2_0
            shape, _, dtype = header(file)
            if not dtype.hasobject or shape != ():
                raise ValueError("an array, not a dict of arrays")
            content = ArrayUnpickler(file).load()
    except FileNotFoundError as error:
        raise InputError(f"no CAM at {path}: run make_cam first, or point --cam_out_dir at your CAMs") from error
    except Exception as error:  # a damaged pickle can raise anything
        raise InputError(f"{path}: cannot be read as a CAM file ({type(error).__name__}: {error})") from error
    content = content.item() if isinstance(content, np.ndarray) and content.shape == () else content
    if not isinstance(content, dict):
        raise InputError(f"{path}: not a CAM file, it holds a {type(content).__name__}")
    return content


class ArrayUnpickler(pickle.Unpickler):
    """An unpickler that can build NumPy arrays and torch tensors and nothing else.

    Every other global a pickle asks for, and so every call it could make, is refused.
    """

    _ALLOWED = {
        # files of NumPy 1 say core, those of NumPy 2 say _core
        ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
        ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
        ("numpy.core.multiarray", "scalar"): scalar,
        ("numpy._core.multiarray", "scalar"): scalar,
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("_codecs", "encode"): lambda text, encoding: text.encode("latin1"),  # bytes in protocol 2
        ("collections", "OrderedDict"): collections.OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
        # torch's own version of this would unpickle the bytes without restraint
        ("torch.storage", "_load_from_bytes"): lambda data: torch.load(
            io.BytesIO(data), map_location="cpu", weights_only=True
        ),
    }

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self._ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"refused: it asks for {module}.{name}, arrays need no such thing") from None

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("refused: it refers to data outside the file")
