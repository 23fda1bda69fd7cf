"""The cross entropies of DeepLab-v2's four maps; their gradients are in tests/net/test_deeplab_v2.py."""

import numpy as np
import pytest
import torch

from misc.train.segmentation_loss import labels_at, segmentation_losses

SCALES = ("1.0", "0.5", "0.75", "max")


@pytest.mark.parametrize("batch", ["labels0", "labels1", "labels_square"])
def test_golden_label_sizes(golden, batch, device):
    g = golden("deeplab_loss")
    for scale in SCALES:
        expected = g[f"{batch}_{scale}"]
        found = labels_at(expected.shape[1:], torch.from_numpy(g[batch]).to(device))
        assert np.array_equal(found.cpu(), expected)


def test_golden_losses(golden, device):
    g = golden("deeplab_loss")
    maps = [torch.from_numpy(g[f"logits_square_{scale}"]).to(device) for scale in SCALES]
    labels = torch.from_numpy(g["labels_square"]).to(device)
    np.testing.assert_allclose(segmentation_losses(maps, labels, balanced=False).cpu(), g["ce_square"], rtol=1e-5)
    np.testing.assert_allclose(segmentation_losses(maps, labels, balanced=True).cpu(), g["balanced_square"], rtol=1e-5)


@pytest.mark.parametrize("balanced", [False, True])
def test_a_mean_over_no_pixel_is_zero(balanced):
    logits = torch.randn(2, 4, 3, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    (loss,) = segmentation_losses([logits], torch.full((2, 24, 24), 255, dtype=torch.uint8), balanced=balanced)
    loss.backward()
    assert loss == 0 and not logits.grad.any()


def test_balanced_by_hand():
    logits = torch.zeros(1, 2, 1, 4)
    logits[0, 1] = torch.tensor([0.0, 2.0, 2.0, 2.0])
    labels = torch.tensor([[[0, 0, 1, 255]]], dtype=torch.uint8)
    background = (np.log(2) + np.log(1 + np.exp(2))) / 2
    (loss,) = segmentation_losses([logits], labels, balanced=True)
    assert loss.item() == pytest.approx((background + np.log(1 + np.exp(-2))) / 2)
