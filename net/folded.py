"""Frozen convolutions with what follows them: batch norm in their weights, addition and ReLU in their pass."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.models import ResNet
from torchvision.models.resnet import Bottleneck

from net.winograd import WinogradConv2d, in_float32_on_cpu, recorded

# What torch.compile makes of a convolution and what follows it, where torch is built with oneDNN. It is not
# documented; without it the same is computed in two or three passes.
ONEDNN = torch.ops.mkldnn
FUSES = torch.backends.mkldnn.is_available() and all(
    hasattr(ONEDNN, name) for name in ("_convolution_pointwise", "_convolution_pointwise_")
)


class FoldedConv2d(nn.Module):
    """relu(norm(convolution(x)) + shortcut), for inference.

    convolution, norm   in eval mode; copied
    relu                False: no ReLU
    """

    def __init__(self, convolution: nn.Conv2d, norm: nn.BatchNorm2d, *, relu: bool = True) -> None:
        super().__init__()
        self.convolution = fuse_conv_bn_eval(convolution, norm)
        self.relu = relu

    def forward(self, x: torch.Tensor, shortcut: torch.Tensor | None = None) -> torch.Tensor:
        """(N, C, H, W) → (N, out_channels, h, w).

        shortcut  (N, out_channels, h, w), overwritten by the result
        """
        c = self.convolution
        if self._fuses(x):
            geometry = c.padding, c.stride, c.dilation, c.groups
            after = "relu" if self.relu else "none"
            if shortcut is None:
                return ONEDNN._convolution_pointwise(x, c.weight, c.bias, *geometry, after, [], "")
            summed = ONEDNN._convolution_pointwise_.binary
            return summed(shortcut, x, c.weight, c.bias, *geometry, "add", 1.0, after, [], "")
        y = c(x)
        if shortcut is not None:
            y = shortcut.add_(y)
        return F.relu(y, inplace=True) if self.relu else y

    def _fuses(self, x: torch.Tensor) -> bool:
        """Whether all can be computed in one pass over the results."""
        direct = in_float32_on_cpu(x) and not isinstance(self.convolution, WinogradConv2d)
        return FUSES and direct and not recorded(self.convolution, x)


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
