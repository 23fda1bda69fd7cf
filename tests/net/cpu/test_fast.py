"""fast_on_cpu changes no result, in either mode, of any torchvision ResNet, and leaves alone what it does not know."""

from copy import deepcopy

import pytest
import torch
from torch import nn
from torchvision.models import ResNet
from torchvision.models.resnet import BasicBlock, Bottleneck

from net.cpu import convolution, winograd
from net.cpu.fast import fast_on_cpu
from net.cpu.folded import FoldedBottleneck, FoldedConv2d
from net.cpu.winograd import WinogradConv2d

IMAGES = torch.randn(2, 3, 49, 65, generator=torch.Generator().manual_seed(1))
ARCHITECTURES = {
    "strided": {},
    "dilated": {"replace_stride_with_dilation": [False, True, True]},
    "grouped": {"groups": 2},
    "basic blocks": {"block": BasicBlock},
    "without batch norm": {"norm_layer": lambda channels: nn.GroupNorm(2, channels)},
}


def resnet(*, block=Bottleneck, width: int = 8, **kind) -> ResNet:
    """A ResNet whose batch norms have statistics of their own."""
    torch.manual_seed(0)
    widths = {} if block is BasicBlock else {"width_per_group": width}
    network = ResNet(block, [2, 1, 2, 2], num_classes=5, **widths, **kind)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values in module.weight, module.running_var:
                nn.init.uniform_(values, 0.5, 1.5)
            for values in module.bias, module.running_mean:
                nn.init.normal_(values, std=0.1)
    return network


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("kind", ARCHITECTURES)
@torch.inference_mode()
def test_inference(kind, compiled, monkeypatch):
    if not compiled:
        monkeypatch.setattr(convolution, "library", lambda source: None)
    network = resnet(**ARCHITECTURES[kind]).eval()
    expected = network(IMAGES)
    torch.testing.assert_close(fast_on_cpu(network)(IMAGES), expected, rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def test_what_a_layer_returns_stays_the_same():
    """Layers may be tapped: the next layer must not overwrite what it reads, with a downsample or without."""
    network = resnet().eval()
    tapped = nn.Sequential(*(deepcopy(network.layer1[1]) for _ in range(2)))
    x = torch.randn(1, 256, 8, 8).to(memory_format=torch.channels_last)
    kept = x.clone()
    fast_on_cpu(tapped)(x)
    assert torch.equal(x, kept)


def test_inference_folds_all_batch_norms_that_it_knows():
    found = [type(module) for module in fast_on_cpu(resnet(**ARCHITECTURES["dilated"]).eval()).modules()]
    assert nn.BatchNorm2d not in found and found.count(FoldedBottleneck) == 7


def test_folding_twice_changes_nothing():
    network = fast_on_cpu(resnet().eval())
    before = list(network.modules())
    assert all(a is b for a, b in zip(before, fast_on_cpu(network).modules(), strict=True))


@pytest.mark.parametrize("kind", ["strided", "dilated", "grouped"])
def test_training(kind, monkeypatch):
    """Only 3×3 convolutions that learn, of stride 1 and without dilation or groups, are replaced."""
    for name in "WORTHWHILE", "LEAST_CHANNELS":
        monkeypatch.setattr(winograd, name, 0)
    network = resnet(**ARCHITECTURES[kind])
    network.layer1.requires_grad_(False)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()  # batch statistics of few pixels would enlarge rounding errors
    direct = deepcopy(network)
    fast_on_cpu(network)
    replaced = {name for name, module in network.named_modules() if isinstance(module, WinogradConv2d)}
    expected = {"strided": {"layer3.1.conv2", "layer4.1.conv2"}, "dilated": {"layer3.0.conv2"}, "grouped": set()}
    assert replaced == expected[kind]
    assert not any(isinstance(module, FoldedConv2d) for module in network.modules())
    assert list(network.state_dict()) == list(direct.state_dict())
    for each in network, direct:
        each(IMAGES).square().sum().backward()
    for ours, theirs in zip(network.parameters(), direct.parameters(), strict=True):
        if theirs.grad is not None:
            torch.testing.assert_close(ours.grad, theirs.grad, rtol=0, atol=1e-3 * theirs.grad.abs().max().item())


@torch.inference_mode()
def test_a_trained_network_is_folded(monkeypatch):
    monkeypatch.setattr(winograd, "LEAST_CHANNELS", 0)
    network = fast_on_cpu(resnet()).eval()
    expected = network(IMAGES)
    torch.testing.assert_close(fast_on_cpu(network)(IMAGES), expected, rtol=1e-4, atol=1e-4)
