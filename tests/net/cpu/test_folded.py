"""Folded blocks give what their blocks give, by compiled convolutions and without them."""

import os
import shutil

import pytest
import torch
from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from net.cpu import convolution
from net.cpu.folded import FoldedBottleneck, FoldedConv2d, can_fold_block


def random_norm(channels: int) -> nn.BatchNorm2d:
    made = nn.BatchNorm2d(channels)
    for values in (made.weight, made.bias, made.running_mean):
        nn.init.normal_(values)
    nn.init.uniform_(made.running_var, 0.5, 2)
    return made.eval()


def block(*, stride: int = 1, **kind: int) -> Bottleneck:
    torch.manual_seed(0)
    downsample = nn.Sequential(nn.Conv2d(32, 32, 1, stride, bias=False), random_norm(32)) if stride > 1 else None
    made = Bottleneck(32, 8, stride, downsample, **kind).eval()
    width = made.conv2.out_channels
    made.bn1, made.bn2, made.bn3 = random_norm(width), random_norm(width), random_norm(32)
    return made


@pytest.fixture(params=["compiled", "not compiled"])
def ways(request, monkeypatch):
    if request.param == "not compiled":
        monkeypatch.setattr(convolution, "library", lambda source: None)
    elif not shutil.which(os.environ.get("CC") or "cc"):
        pytest.skip("no C compiler")


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@torch.inference_mode()
def test_block(stride, memory_format, ways):
    given = block(stride=stride)
    x = torch.randn(2, 32, 9, 11).to(memory_format=memory_format)
    expected = given(x)
    torch.testing.assert_close(
        FoldedBottleneck(given, overwrites_input=True).to(memory_format=memory_format)(x.clone()), expected
    )


@pytest.mark.parametrize("kind", [{"dilation": 2}, {"dilation": 4}, {"groups": 2, "base_width": 128}])
@torch.inference_mode()
def test_dilation_and_groups(kind, ways):
    given, x = block(**kind), torch.randn(2, 32, 9, 11)
    torch.testing.assert_close(FoldedBottleneck(given, overwrites_input=False)(x), given(x))


@pytest.mark.parametrize(("given", "overwrites"), [(block(stride=2), True), (block(), False)])
@torch.inference_mode()
def test_the_input_stays_the_same(given, overwrites, ways):
    """Where the block has a downsample, and where the input must not be overwritten."""
    x = torch.randn(1, 32, 8, 8).to(memory_format=torch.channels_last)
    kept = x.clone()
    FoldedBottleneck(given, overwrites_input=overwrites)(x)
    assert torch.equal(x, kept)


@torch.inference_mode()
def test_the_compiled_way_is_taken(monkeypatch):
    if not shutil.which(os.environ.get("CC") or "cc"):
        pytest.skip("no C compiler")
    made = FoldedConv2d(nn.Conv2d(4, 4, 1).eval(), random_norm(4))
    monkeypatch.setattr(made.convolution, "forward", None)  # would be called otherwise
    assert made(torch.zeros(1, 4, 2, 2)).shape == (1, 4, 2, 2)


def test_gradients_pass_through(ways):
    given, after = nn.Conv2d(4, 6, 3, padding=1).eval(), random_norm(6)
    x = torch.randn(1, 4, 5, 5, requires_grad=True)
    made = FoldedConv2d(given, after)
    made(x).sum().backward()
    found, x.grad = x.grad, None
    after(given(x)).relu().sum().backward()
    torch.testing.assert_close(found, x.grad)


@torch.inference_mode()
def test_autocast(ways):
    given = block()
    with torch.autocast("cpu", torch.bfloat16):
        assert FoldedConv2d(given.conv1, given.bn1)(torch.randn(1, 32, 8, 8)).dtype == torch.bfloat16
        result = FoldedBottleneck(given, overwrites_input=True)(torch.randn(1, 32, 8, 8).bfloat16())
    assert result.dtype == torch.bfloat16


@torch.inference_mode()
def test_what_is_not_a_number_stays_so(ways):
    """The steps refuse a network whose results are not finite."""
    given = block()
    given.conv3.weight[3] = torch.nan
    result = FoldedBottleneck(given, overwrites_input=True)(torch.randn(1, 32, 8, 8))
    assert result[:, 3].isnan().all() and result[:, :3].isfinite().all()


def test_blocks_that_cannot_be_folded():
    trained = block().train()
    of_another_norm = Bottleneck(32, 8, norm_layer=lambda channels: nn.GroupNorm(2, channels)).eval()
    of_another_activation = block()
    of_another_activation.relu = nn.Hardswish()
    for other in trained, of_another_norm, of_another_activation, BasicBlock(8, 8).eval(), nn.Conv2d(3, 3, 1).eval():
        assert not can_fold_block(other)
    assert can_fold_block(block()) and can_fold_block(block(stride=2, dilation=2))
