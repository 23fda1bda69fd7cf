"""Frozen convolutions with what follows them: batch norm in their weights, addition and ReLU in their pass."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.models import ResNet
from torchvision.models.resnet import Bottleneck

from net.cpu import convolution as compiled
from net.cpu.convolution import FrozenConvolution
from net.cpu.winograd import in_float32_on_cpu, recorded


class FoldedConv2d(nn.Module):
    """relu(norm(convolution(x)) + shortcut), for inference. From its first call on, its weights must not change.

    convolution, norm   in eval mode; copied
    relu                False: no ReLU
    """

    def __init__(self, convolution: nn.Conv2d, norm: nn.BatchNorm2d, *, relu: bool = True) -> None:
        super().__init__()
        self.convolution = fuse_conv_bn_eval(convolution, norm)
        self.relu = relu
        self._frozen: FrozenConvolution | None = None

    def forward(self, x: torch.Tensor, shortcut: torch.Tensor | None = None) -> torch.Tensor:
        """(N, C, H, W) → (N, out_channels, h, w).

        shortcut  (N, out_channels, h, w), may be overwritten by the result
        """
        given = (x,) if shortcut is None else (x, shortcut)
        if in_float32_on_cpu(x) and not recorded(self.convolution, *given) and compiled.is_compiled():
            if self._frozen is None:
                self._frozen = FrozenConvolution(self.convolution)
            return self._frozen(x, relu=self.relu, shortcut=shortcut)
        y = self.convolution(x)
        if shortcut is not None:
            y = shortcut.add_(y)
        return F.relu(y, inplace=True) if self.relu else y


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
