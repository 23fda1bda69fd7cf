import math

import numpy as np
import pytest
import torch

from misc.method.boundary_labels import BoundaryLabel
from misc.method.boundary_loss import boundary_loss, masked_mean


@pytest.mark.parametrize("case", range(3))
def test_golden(golden, case, device):
    g = golden("sbe_loss")
    prediction, label, saliency = (
        torch.from_numpy(g[f"{name}{case}"]).to(device) for name in ("prediction", "label", "saliency")
    )
    loss = boundary_loss(prediction.requires_grad_(), label, saliency)
    loss.total.backward()
    expected = [g[f"loss_{t}{case}"] for t in ("ground", "boundary", "boundary_salient", "boundary_nonsalient")]
    found = [t.item() for t in (loss.ground, loss.boundary, loss.boundary_salient, loss.boundary_nonsalient)]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_allclose(prediction.grad.cpu(), g[f"grad{case}"], rtol=1e-5, atol=1e-9)


def test_bes_by_hand():
    p = torch.tensor([[[[0.5, 0.2, 0.9, 0.4]]]])
    label = torch.tensor([[[0, 50, 150, 200]]], dtype=torch.uint8)
    loss = boundary_loss(p, label, None)
    ground = (-math.log(0.5) / 2 - math.log(0.8) / 2) / 2  # each mean divides by count + 1, then halved
    assert loss.ground.item() == pytest.approx(ground, rel=1e-6)
    assert loss.boundary.item() == pytest.approx(-math.log(0.9) * math.sqrt(0.9) / 2, rel=1e-6)
    assert loss.total.item() == pytest.approx(loss.ground.item() + loss.boundary.item())


def test_blank_saliency_counts_as_not_salient():
    p = torch.full((1, 1, 2, 2), 0.3)
    label = torch.full((1, 2, 2), int(BoundaryLabel.BOUNDARY_SALIENT), dtype=torch.uint8)
    loss = boundary_loss(p, label, torch.zeros(1, 8, 8))
    assert loss.boundary_salient.item() == 0
    assert loss.boundary_nonsalient.item() == pytest.approx(-math.log(0.3) * math.sqrt(0.3) * 4 / 5, rel=1e-6)


@pytest.mark.parametrize("extreme", [0.0, 1.0])
def test_certain_predictions_stay_finite(extreme, device):
    p = torch.full((1, 1, 2, 2), extreme, requires_grad=True, device=device)
    label = torch.tensor([[[0, 50], [100, 250]]], dtype=torch.uint8, device=device)
    loss = boundary_loss(p, label, torch.ones(1, 8, 8, device=device)).total
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(p.grad).all()


def test_masked_mean_of_nothing_is_zero():
    assert masked_mean(torch.ones(3), torch.zeros(3, dtype=torch.bool)).item() == 0
