"""From a network's maps to labels, with and without the CRF."""

import numpy as np
import torch

from misc.config import Config
from step.shared.crf import refine_probabilities
from step.shared.deeplab import probabilities_of


def test_golden(golden, device):
    """From the logits on: enlarged, softmax, CRF."""
    g = golden("deeplab_crf")
    image = g["image_bgr"][:, :, ::-1]
    probabilities = probabilities_of([torch.from_numpy(g["logits"])[None].to(device)], image.shape[:2]).cpu().numpy()
    np.testing.assert_allclose(probabilities[:, g["rows"]], g["prob_rows"], atol=1e-5)
    assert np.array_equal(probabilities.argmax(axis=0), g["raw_label"])
    assert (refine_probabilities(Config(device=str(device)), image, probabilities) == g["label"]).mean() >= 0.999


def test_softmaxes_are_averaged():
    one, other = torch.randn(2, 1, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    both, *single = (probabilities_of(maps, (8, 9)) for maps in ([one, other], [one], [other]))
    torch.testing.assert_close(both, (single[0] + single[1]) / 2)
