"""The dense CRF as the settings name it."""

from dataclasses import dataclass
from functools import partial

import numpy as np

from misc.config import Config
from misc.crf.dense_crf import BackendName, DenseCRF, resolve_backend, unary_from_probabilities
from misc.run.device import pick_device
from misc.run.plan import Input
from misc.run.preflight import Preflight

DEEPLAB_FILTERS = {"sxy": 67, "srgb": 3, "compat": 4, "gaussian_sxy": 1, "gaussian_compat": 3}  # published


@dataclass(frozen=True)
class CRFBackend(Input):
    """Who computes the dense CRFs. Backends agree but for ties, so a step's files are of one of them.

    of_network   whether they refine a network's probabilities of all classes
    """

    args: Config
    of_network: bool = False

    def look(self, preflight: Preflight) -> None:
        preflight.attempt(partial(backend_of, self.args, of_network=self.of_network), once="crf_backend")

    def whole(self) -> dict[str, str]:
        return {"crf_backend": backend_of(self.args, of_network=self.of_network)}


def backend_of(args: Config, *, of_network: bool = False) -> BackendName:
    """The backend that the settings mean on their device: never auto. InputError if it is not there.

    For the few labels of an image, the cores beside a card are the faster ones (16 of them took 6.5 ms for 3 labels, an
    H200 14); for the 21 of a network the card is (66 and 25 ms). It is not asked how many cores there are: a run may go
    on on another machine.
    """
    if args.crf_backend == "auto" and of_network and pick_device(args.device).type == "cuda":
        return "torch"
    return resolve_backend(args.crf_backend)


def dense_crf_of(args: Config, image: np.ndarray, n_labels: int, *, sxy: int) -> DenseCRF:
    """The dense CRF of an image (H, W, 3) uint8 RGB; sxy is the reach of its bilateral filter, pixels."""
    return DenseCRF(image, n_labels, sxy=sxy, backend=backend_of(args), device=pick_device(args.device))


def refine_probabilities(args: Config, image: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """The dense CRF on a segmentation network's probabilities, with DeepLab-v2's filters.

    image          (H, W, 3) uint8 RGB; the CRF sees it as BGR, as published: its lattice is not symmetric in colours
    probabilities  (C+1, H, W) float32
    Returns        (H, W) int64, the likeliest labels
    """
    crf = DenseCRF(
        image[:, :, ::-1],
        len(probabilities),
        **DEEPLAB_FILTERS,
        backend=backend_of(args, of_network=True),
        device=pick_device(args.device),
    )
    return crf.infer(unary_from_probabilities(probabilities))
