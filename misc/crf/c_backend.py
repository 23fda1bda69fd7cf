"""The dense CRF on one thread of a CPU, in C: the Python side of dense_crf.c. It releases Python's lock."""

import ctypes
import weakref
from ctypes import POINTER, c_double, c_float, c_int, c_int64, c_void_p
from functools import cache, lru_cache
from pathlib import Path

import numpy as np

from misc.crf.filters import Filters
from misc.crf.lattice import Packing, packing
from misc.native import library

SOURCE = Path(__file__).with_name("dense_crf.c")
FLAGS = ("-fno-math-errno",)  # a square root is one instruction
KEPT_SIZES = 4  # a data set has few sizes of images, each at two orientations
LARGEST_KEPT = 2**20  # pixels: 24 bytes each


def available() -> bool:
    """Whether there is a compiled dense_crf.c."""
    return library(SOURCE, *FLAGS) is not None


class CBackend:
    """See dense_crf.Backend."""

    def __init__(self, image: np.ndarray, n_labels: int, filters: Filters) -> None:
        height, width = image.shape[:2]
        self.shape, self.n_labels = (height, width), n_labels
        lattice_of_positions = _kept_lattice if height * width <= LARGEST_KEPT else _lattice_of_positions
        self._positions = lattice_of_positions(height, width, filters.gaussian_sxy, filters.gaussian_compat)
        self._colours = _Lattice(image, self.shape, filters.sxy, filters.srgb, filters.compat)

    def refine(self, labels: np.ndarray, gain: float, iterations: int) -> np.ndarray:
        best = np.empty(labels.shape, np.uint8)
        self._run(iterations, len(labels), given=labels, gain=gain, best=best)
        return best

    def infer(self, unary: np.ndarray, iterations: int) -> np.ndarray:
        best = np.empty(self.shape, np.uint8)
        self._run(iterations, unary=unary, best=best)
        return best

    def marginals(self, unary: np.ndarray, iterations: int) -> np.ndarray:
        marginals = np.empty(unary.shape, np.float32)
        self._run(iterations, unary=unary, marginals=marginals)
        return marginals

    def _run(self, iterations: int, maps: int = 1, gain: float = 0, **arrays: np.ndarray) -> None:
        pointers = {name: array.ctypes.data for name, array in arrays.items()}
        pixels = self.shape[0] * self.shape[1]
        job = _Inference(pixels, self.n_labels, maps, iterations, gain=gain, **pointers)
        if not _compiled().infer(self._positions.pointer, self._colours.pointer, job):
            raise MemoryError("not enough memory for a dense CRF")


class _Lattice:
    """A lattice of dense_crf.c, which is not written to: threads may share it."""

    def __init__(
        self, image: np.ndarray | None, shape: tuple[int, int], sxy: float, srgb: float | None, compat: float
    ) -> None:
        keys = packing(*shape, sxy=sxy, srgb=srgb)
        pixels = None if image is None else image.ctypes.data
        self.pointer = _compiled().make_lattice(keys, pixels, *shape, sxy, srgb or 0, compat)
        if not self.pointer:
            raise MemoryError("not enough memory for the lattice of a dense CRF")
        weakref.finalize(self, _compiled().free_lattice, self.pointer)


def _lattice_of_positions(height: int, width: int, sxy: float, compat: float) -> _Lattice:
    return _Lattice(None, (height, width), sxy, None, compat)


_kept_lattice = lru_cache(KEPT_SIZES)(_lattice_of_positions)


@cache
def _compiled() -> ctypes.CDLL:
    compiled = library(SOURCE, *FLAGS)
    assert compiled is not None, "ask available() first"
    compiled.make_lattice.argtypes = (POINTER(Packing), c_void_p, c_int64, c_int64, c_float, c_float, c_float)
    compiled.make_lattice.restype = c_void_p
    compiled.free_lattice.argtypes = (c_void_p,)
    compiled.free_lattice.restype = None
    compiled.infer.argtypes = (c_void_p, c_void_p, POINTER(_Inference))
    compiled.infer.restype = c_int
    return compiled


class _Inference(ctypes.Structure):
    """As in dense_crf.c."""

    _fields_ = [
        *((name, c_int64) for name in ("pixels", "n_labels", "maps", "iterations")),
        *((name, c_void_p) for name in ("given", "unary")),
        ("gain", c_double),
        *((name, c_void_p) for name in ("best", "marginals")),
    ]
