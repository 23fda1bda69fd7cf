"""Frozen convolutions with what follows them: batch norm in their weights, addition and ReLU in their pass."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.models import ResNet
from torchvision.models.resnet import Bottleneck

from net import onednn
from net.onednn import LaidOut, convolved, geometry
from net.winograd import WinogradConv2d, in_float32_on_cpu, recorded


class FoldedConv2d(nn.Module):
    """relu(norm(convolution(x)) + shortcut), for inference.

    convolution, norm   in eval mode; copied
    relu                False: no ReLU
    """

    def __init__(self, convolution: nn.Conv2d, norm: nn.BatchNorm2d, *, relu: bool = True) -> None:
        super().__init__()
        self.convolution = fuse_conv_bn_eval(convolution, norm)
        self.relu = relu
        self._laid_out = LaidOut()

    def forward(self, x: torch.Tensor, shortcut: torch.Tensor | None = None) -> torch.Tensor:
        """(N, C, H, W) → (N, out_channels, h, w).

        shortcut  (N, out_channels, h, w), overwritten by the result
        """
        convolution = self.convolution
        if self._in_one_pass(x):
            like = geometry(convolution)
            weight = self._laid_out.of(convolution.weight, x.shape, like)
            weight = convolution.weight if weight is None else weight
            return convolved(x, weight, convolution.bias, like, relu=self.relu, shortcut=shortcut)
        y = convolution(x)
        if shortcut is not None:
            y = shortcut.add_(y)
        return F.relu(y, inplace=True) if self.relu else y

    def _in_one_pass(self, x: torch.Tensor) -> bool:
        direct = in_float32_on_cpu(x) and not isinstance(self.convolution, WinogradConv2d)
        return onednn.AVAILABLE and direct and not recorded(self.convolution, x)


class FoldedBottleneck(nn.Module):
    """A residual block of ResNet-50 for inference."""

    def __init__(self, block: Bottleneck) -> None:
        super().__init__()
        self.conv1 = FoldedConv2d(block.conv1, block.bn1)
        self.conv2 = FoldedConv2d(block.conv2, block.bn2)
        self.conv3 = FoldedConv2d(block.conv3, block.bn3)
        self.downsample = block.downsample and FoldedConv2d(*block.downsample, relu=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) → (N, out_channels, h, w). Without `downsample`, x is overwritten."""
        y = self.conv2(self.conv1(x))
        return self.conv3(y, x if self.downsample is None else self.downsample(x))


def fold(backbone: ResNet) -> None:
    """Fold a backbone in eval mode. What its stem and its layers return is theirs to give: nothing is overwritten
    that another part reads, since the first block of each layer has a `downsample`."""
    backbone.conv1 = FoldedConv2d(backbone.conv1, backbone.bn1)
    backbone.bn1 = backbone.relu = nn.Identity()
    for name in ("layer1", "layer2", "layer3", "layer4"):
        setattr(backbone, name, nn.Sequential(*map(FoldedBottleneck, getattr(backbone, name))))
