"""Dense CRF: snap a label map to the colours of its image (SPEC "Dense CRF")."""

import numpy as np
import pydensecrf.densecrf
from pydensecrf.utils import unary_from_labels

GT_PROB = 0.7  # how sure the label map is taken to be
ITERATIONS = 10
GAUSSIAN = {"sxy": 3, "compat": 3}
BILATERAL = {"srgb": 5, "compat": 10}


class DenseCRF:
    """The CRF of one image. Its filters are built once, then any label maps can be refined.

    image     (H, W, 3) uint8 RGB
    n_labels  number of labels, ≥ 1
    sxy       reach of the colour-sensitive filter, pixels: 50 for boundary labels, 20 for masks
    Source: Krähenbühl & Koltun, NeurIPS 2011; parameters as in IRN.
    """

    def __init__(self, image: np.ndarray, n_labels: int, *, sxy: int) -> None:
        height, width = image.shape[:2]
        self.shape = (height, width)
        self.n_labels = n_labels
        if n_labels > 1:
            self._crf = pydensecrf.densecrf.DenseCRF2D(width, height, n_labels)
            self._crf.addPairwiseGaussian(**GAUSSIAN)
            self._crf.addPairwiseBilateral(sxy=sxy, rgbim=np.array(image, np.uint8, order="C"), **BILATERAL)

    def refine(self, labels: np.ndarray, *, gt_prob: float = GT_PROB, iterations: int = ITERATIONS) -> np.ndarray:
        """Refine a label map.

        labels    (H, W) integer in [0, n_labels)
        gt_prob   probability of the given label, in (0, 1)
        Returns   (H, W) int64 in [0, n_labels).
        Raises    ValueError for another size than the image's.
        """
        if labels.shape != self.shape:
            raise ValueError(f"label map {labels.shape} and image {self.shape} differ in size")
        if self.n_labels == 1:  # nothing to choose from
            return np.zeros(self.shape, np.int64)
        unary = unary_from_labels(labels, self.n_labels, gt_prob=gt_prob, zero_unsure=False)
        self._crf.setUnaryEnergy(np.ascontiguousarray(unary))
        scores = np.array(self._crf.inference(iterations))
        return scores.argmax(axis=0).reshape(self.shape)
