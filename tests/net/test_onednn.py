"""Weights that are laid out beforehand give the same, and only where they may be used."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from net import onednn
from net.folded import FoldedConv2d
from net.onednn import LaidOut, convolved, geometry
from net.winograd import WinogradConv2d

pytestmark = pytest.mark.skipif(not onednn.AVAILABLE, reason="torch without oneDNN")


@pytest.mark.parametrize("convolution", [nn.Conv2d(8, 12, 1), nn.Conv2d(8, 12, 3, 2, 1, groups=4)])
@torch.no_grad()
def test_laid_out_weights(convolution):
    x, kept = torch.randn(2, 8, 9, 7), LaidOut()
    like = geometry(convolution)
    weight = kept.of(convolution.weight, x.shape, like)
    torch.testing.assert_close(convolved(x, weight, convolution.bias, like), convolution(x))
    assert kept.of(convolution.weight, x.shape, like) is weight
    shortcut = torch.randn_like(convolution(x))
    expected = F.relu(convolution(x) + shortcut)
    result = convolved(x, weight, convolution.bias, like, relu=True, shortcut=shortcut)
    torch.testing.assert_close(result, expected)
    convolution.weight.mul_(2)
    torch.testing.assert_close(
        convolved(x, kept.of(convolution.weight, x.shape, like), convolution.bias, like), convolution(x)
    )


def test_only_for_the_first_shape_and_not_in_inference():
    convolution, kept = nn.Conv2d(4, 4, 1), LaidOut()
    like = geometry(convolution)
    assert kept.of(convolution.weight, torch.Size((1, 4, 6, 6)), like) is not None
    assert kept.of(convolution.weight, torch.Size((1, 4, 6, 5)), like) is None
    with torch.inference_mode():
        assert kept.of(convolution.weight, torch.Size((1, 4, 6, 6)), like) is None


@torch.no_grad()
def test_modules_use_them_and_can_be_copied(monkeypatch):
    used = []

    def of(self, *given, of=LaidOut.of):
        used.append(of(self, *given))
        return used[-1]

    monkeypatch.setattr(onednn.LaidOut, "of", of)
    x = torch.randn(2, 16, 40, 40)
    folded = FoldedConv2d(nn.Conv2d(16, 16, 1).eval(), nn.BatchNorm2d(16).eval())
    for module in (WinogradConv2d(16, 16, 3, padding=1), folded):
        first = module(x)
        assert used.pop() is not None
        torch.testing.assert_close(copy.deepcopy(module)(x), first)
        with torch.inference_mode():
            torch.testing.assert_close(module(x), first, rtol=0, atol=1e-5)
