"""Dense CRF: snap a label map, or the scores of a network, to the colours of its image (docs/method.md)."""

import math
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from misc.crf.filters import Filters
from misc.errors import InputError

if TYPE_CHECKING:
    import torch

GT_PROB = 0.7  # how sure the label map is taken to be
ITERATIONS = 10
GAUSSIAN = {"sxy": 3, "compat": 3}
BILATERAL = {"srgb": 5, "compat": 10}
MOST_LABELS = 255
SMALLEST_PROBABILITY = 1e-5  # published value of DeepLab's CRF: what is less likely is as unlikely as this

BackendName = Literal["auto", "c", "torch", "pydensecrf"]


class Backend(Protocol):
    """A way of computing; its filters are built by its constructor. Energies are natural logarithms."""

    def refine(self, labels: np.ndarray, gain: float, iterations: int) -> np.ndarray:
        """(maps, H, W) uint8 labels, whose energy lies `gain` below that of all others → (maps, H, W) labels."""

    def infer(self, unary: np.ndarray, iterations: int) -> np.ndarray:
        """(C, H, W) float32 energies, contiguous → (H, W) labels."""

    def marginals(self, unary: np.ndarray, iterations: int) -> np.ndarray:
        """(C, H, W) float32 energies, contiguous → (C, H, W) float32 probabilities."""


class DenseCRF:
    """The CRF of one image. Its filters are built once, then any label maps and scores can be refined.

    image      (H, W, 3) uint8; the colours' order matters a little: RGB, but BGR for DeepLab
    n_labels   number of labels, 1 to 255
    sxy        reach of the colour-sensitive filter, pixels: 50 for boundary labels, 20 for masks, 67 for DeepLab
    srgb       its reach in colours, of 255; `compat` its weight
    gaussian   reach in pixels, and weight, of the filter that sees positions only
    backend    "c": on one thread of a CPU, without Python's lock; "torch": on `device`; "pydensecrf": the published
               code's; "auto": c, and torch where there is no C compiler. All give the same labels, but for ties in
               float32.
    device     of the backend torch: a torch.device or its name
    Source     Krähenbühl & Koltun, NeurIPS 2011; parameters as in IRN. Kernels are normalised symmetrically.
    Raises     ValueError for another image, number of labels or reach than these; InputError where a backend asked
               for is not there.
    """

    def __init__(
        self,
        image: np.ndarray,
        n_labels: int,
        *,
        sxy: float,
        srgb: float = BILATERAL["srgb"],
        compat: float = BILATERAL["compat"],
        gaussian_sxy: float = GAUSSIAN["sxy"],
        gaussian_compat: float = GAUSSIAN["compat"],
        backend: BackendName = "auto",
        device: "torch.device | str" = "cpu",
    ) -> None:
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
            raise ValueError(f"the image of a dense CRF is (H, W, 3) uint8, not {image.shape} {image.dtype}")
        if not 1 <= n_labels <= MOST_LABELS:
            raise ValueError(f"a dense CRF has 1 to {MOST_LABELS} labels, not {n_labels}")
        filters = Filters(gaussian_sxy, gaussian_compat, sxy, srgb, compat)
        if not all(0 < value < math.inf for value in filters):
            raise ValueError(f"reaches and weights of a dense CRF are positive, not {filters}")
        self.shape = image.shape[:2]
        self.n_labels = n_labels
        self._backend: Backend | None = None
        if n_labels > 1:
            self._backend = _backend(np.ascontiguousarray(image), n_labels, filters, backend, device)

    def refine(self, labels: np.ndarray, *, gt_prob: float = GT_PROB, iterations: int = ITERATIONS) -> np.ndarray:
        """Refine a label map, or several at once, which takes less time than one after the other.

        labels    (H, W) or (maps, H, W), integers in [0, n_labels)
        gt_prob   probability of the given label, in (0, 1); the other labels share the rest
        Returns   uint8 in [0, n_labels), of the same shape; each map's as if it were refined alone.
        Raises    ValueError for another size than the image's, or other labels; MemoryError.
        """
        if labels.shape[-2:] != self.shape or labels.ndim not in (2, 3):
            raise ValueError(f"label map {labels.shape} and image {self.shape} differ in size")
        if not 0 < gt_prob < 1:
            raise ValueError(f"gt_prob is in (0, 1), not {gt_prob}")
        if labels.size and not 0 <= labels.min() <= labels.max() < self.n_labels:
            raise ValueError(f"labels are 0 to {self.n_labels - 1}, not {labels.min()} to {labels.max()}")
        if self._backend is None or not labels.size:  # nothing to choose from
            return np.zeros(labels.shape, np.uint8)
        gain = math.log(gt_prob) - math.log((1 - gt_prob) / (self.n_labels - 1))
        maps = np.ascontiguousarray(labels.reshape(-1, *self.shape), np.uint8)
        return self._backend.refine(maps, gain, iterations).reshape(labels.shape).astype(np.uint8, copy=False)

    def infer(self, unary: np.ndarray, *, iterations: int = ITERATIONS) -> np.ndarray:
        """The best labels for given energies, such as unary_from_probabilities'.

        unary     (n_labels, H, W) float32, finite: minus the logarithms of probabilities, up to a constant a pixel
        Returns   (H, W) uint8.
        Raises    ValueError for another shape or energies that are not finite; MemoryError.
        """
        energies = self._checked(unary)
        if self._backend is None:
            return np.zeros(self.shape, np.uint8)
        return self._backend.infer(energies, iterations).astype(np.uint8, copy=False)

    def marginals(self, unary: np.ndarray, *, iterations: int = ITERATIONS) -> np.ndarray:
        """The probabilities of all labels, (n_labels, H, W) float32. `infer` gives the likeliest, in less time."""
        energies = self._checked(unary)
        if self._backend is None:
            return np.ones((1, *self.shape), np.float32)
        return self._backend.marginals(energies, iterations)

    def _checked(self, unary: np.ndarray) -> np.ndarray:
        if unary.shape != (self.n_labels, *self.shape):
            raise ValueError(f"energies {unary.shape} are not of {self.n_labels} labels and an image {self.shape}")
        energies = np.ascontiguousarray(unary, np.float32)
        if not all(np.isfinite(one).all() for one in energies):
            raise ValueError("energies are finite: clip the probabilities before the logarithm")
        return energies


def unary_from_probabilities(probabilities: np.ndarray) -> np.ndarray:
    """Energies for `DenseCRF.infer`: minus the logarithm of (C, H, W) probabilities, at least 1e-5; float32."""
    return -np.log(np.maximum(probabilities, SMALLEST_PROBABILITY, dtype=np.float32))


def resolve_backend(backend: BackendName) -> BackendName:
    """The backend that is meant, for a manifest: never "auto".

    Raises    InputError where a backend is asked for by name and is not there.
    """
    from misc.crf import c_backend, pydensecrf_backend

    if backend == "auto":
        return "c" if c_backend.available() else "torch"
    if backend == "c" and not c_backend.available():
        raise InputError(
            "the dense CRF's backend c needs a C compiler, and there is none that compiles it: install one, name it in "
            "CC, or take the backend torch"
        )
    if backend == "pydensecrf":
        pydensecrf_backend.load()
    return backend


def _backend(
    image: np.ndarray, n_labels: int, filters: Filters, backend: BackendName, device: "torch.device | str"
) -> Backend:
    match resolve_backend(backend):
        case "c":
            from misc.crf.c_backend import CBackend

            return CBackend(image, n_labels, filters)
        case "torch":
            from misc.crf.torch_backend import TorchBackend

            return TorchBackend(image, n_labels, filters, device)
        case "pydensecrf":
            from misc.crf.pydensecrf_backend import PydensecrfBackend

            return PydensecrfBackend(image, n_labels, filters)
        case other:
            raise ValueError(f"no such backend of the dense CRF: {other}")
