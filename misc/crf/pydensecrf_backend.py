"""The dense CRF by pydensecrf, the published code's: what the other backends are compared with."""

from typing import Any

import numpy as np

from misc.crf.filters import Filters
from misc.errors import InputError


def load() -> Any:
    """The class of pydensecrf; InputError where it is not installed."""
    try:
        from pydensecrf.densecrf import DenseCRF2D
    except ImportError as error:
        raise InputError(
            "the dense CRF's backend pydensecrf is not installed: pip install -r requirements-pydensecrf.txt "
            "(Python 3.12 or older), or take another backend"
        ) from error
    return DenseCRF2D


class PydensecrfBackend:
    """See dense_crf.Backend. Raises InputError where pydensecrf is not installed."""

    def __init__(self, image: np.ndarray, n_labels: int, filters: Filters) -> None:
        height, width = image.shape[:2]
        self.shape, self.n_labels = (height, width), n_labels
        self._crf = load()(width, height, n_labels)
        self._crf.addPairwiseGaussian(sxy=filters.gaussian_sxy, compat=filters.gaussian_compat)
        self._crf.addPairwiseBilateral(sxy=filters.sxy, srgb=filters.srgb, rgbim=image, compat=filters.compat)

    def refine(self, labels: np.ndarray, gain: float, iterations: int) -> np.ndarray:
        numbers = np.arange(self.n_labels)[:, None, None]
        return np.stack([self.infer(np.where(one == numbers, 0, np.float32(gain)), iterations) for one in labels])

    def infer(self, unary: np.ndarray, iterations: int) -> np.ndarray:
        return self.marginals(unary, iterations).argmax(axis=0)

    def marginals(self, unary: np.ndarray, iterations: int) -> np.ndarray:
        self._crf.setUnaryEnergy(np.ascontiguousarray(unary.reshape(self.n_labels, -1)))
        return np.array(self._crf.inference(iterations)).reshape(self.n_labels, *self.shape)
