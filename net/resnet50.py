"""The backbone of both networks: torchvision's ResNet-50 at stride 16, batch norm frozen (docs/method.md, sections
1 and 5)."""

from collections.abc import Sequence
from typing import Self

import torch
from torch import nn
from torchvision.models import ResNet, resnet50

PIXELS_AT_ONCE = 4_000_000  # about 4 GB of activations


def resnet50_stride16() -> ResNet:
    """A ResNet-50 with strides (2, 2, 2, 1), no dilation and no `fc`; weights at random, each residual
    branch at zero, since with frozen batch norm the activations of 16 random blocks would run away.

    Call its parts (`stem`, `layer1` … `layer4`), not the module itself.
    Source: BES; the stride of layer4 is where it departs from torchvision.
    """
    backbone = resnet50(weights=None, zero_init_residual=True)
    backbone.layer4[0].conv2.stride = (1, 1)
    backbone.layer4[0].downsample[0].stride = (1, 1)
    del backbone.fc
    return backbone


def stem(backbone: ResNet, images: torch.Tensor) -> torch.Tensor:
    """(N, 3, H, W) normalised images → (N, 64, h, w) at stride 4, after the max-pool."""
    return backbone.maxpool(backbone.relu(backbone.bn1(backbone.conv1(images))))


def affordable(images: torch.Tensor, *, apart: bool = False) -> Sequence[torch.Tensor]:
    """The batch in one piece or, if its images are large or are to stay apart, image by image: half the memory of a
    pair."""
    return images.split(1) if apart or images[:, 0].numel() > PIXELS_AT_ONCE else (images,)


class FrozenNormModule(nn.Module):
    """A module with a backbone `resnet50`. Its batch norms use their running statistics, in training as well."""

    resnet50: ResNet

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self
