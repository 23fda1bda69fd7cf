"""The comparisons of the dense CRF alone: one thread, CPU time, filters and inference of every image."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from benchmarks import inputs, published
from benchmarks.inputs import Scale, Size
from benchmarks.rows import Call, Row, Target
from misc.crf.dense_crf import DenseCRF, unary_from_probabilities

DEEPLAB = {"sxy": 67, "srgb": 3, "compat": 4, "gaussian_sxy": 1, "gaussian_compat": 3}
BOUNDARY_LABELS = {"sxy": 50}
PHOTOGRAPHS = 3


class DenseCRFRow(Row):
    """Label maps as in make_boundary_label; from 21 labels on, probabilities as in DeepLab's test."""

    clock = "cpu"

    def __init__(
        self,
        scale: Scale,
        folder: Path,
        size: Size | None = None,
        *,
        n_labels: int = 3,
        backend: Literal["c", "torch"] = "c",
        ratio: float | None = None,
    ) -> None:
        super().__init__(scale, folder)
        self.n_labels, self.backend = n_labels, backend
        self.deeplab = n_labels >= 21
        self.title = f"dense CRF, {n_labels} labels, one thread" + (", in PyTorch" if backend == "torch" else "")
        self.targets = (*([Target("ratio", ratio)] if ratio else []), Target("difference", 1e-4))
        self.images = [inputs.photograph(size or scale.image, number) for number in range(1 if size else PHOTOGRAPHS)]
        self.scores = [inputs.scores(image.shape[:2], n_labels, number) for number, image in enumerate(self.images)]

    def published(self) -> Call:
        return Call(lambda: [torch.from_numpy(self._published(*pair)) for pair in self._pairs()], len(self.images))

    def ours(self) -> Call:
        if self.backend == "torch":
            torch.set_num_threads(1)
        return Call(lambda: [torch.from_numpy(self._ours(*pair)) for pair in self._pairs()], len(self.images))

    def differences(self, published: list[torch.Tensor], ours: list[torch.Tensor]) -> dict[str, float]:
        differing = torch.cat([(a != b).flatten() for a, b in zip(published, ours, strict=True)])
        return {"share of pixels": differing.double().mean().item()}

    def _pairs(self) -> Any:
        return zip(self.images, self.scores, strict=True)

    def _published(self, image: np.ndarray, scores: np.ndarray) -> np.ndarray:
        if self.deeplab:
            return published.dense_crf_of_scores(image, scores)
        return published.dense_crf(image, scores.argmax(axis=0), self.n_labels, sxy=50)

    def _ours(self, image: np.ndarray, scores: np.ndarray) -> np.ndarray:
        settings = DEEPLAB if self.deeplab else BOUNDARY_LABELS
        crf = DenseCRF(image, self.n_labels, backend=self.backend, **settings)  # type: ignore[arg-type]
        return crf.infer(unary_from_probabilities(scores)) if self.deeplab else crf.refine(scores.argmax(axis=0))
