"""The backbone of both networks: torchvision's ResNet-50 at stride 16, batch norm frozen (SPEC 1, 5)."""

from collections.abc import Sequence
from typing import Self

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
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


def affordable(images: torch.Tensor) -> Sequence[torch.Tensor]:
    """The batch as it is or, where its images are large, image by image, which halves the memory of a pair."""
    return images.split(1) if images[:, 0].numel() > PIXELS_AT_ONCE else (images,)


class FrozenNormModule(nn.Module):
    """A module on `resnet50` whose batch norms use their running statistics in training as well."""

    resnet50: ResNet

    def for_inference(self) -> Self:
        """In eval mode, batch norms folded into their convolutions: the same numbers, a pass over
        the activations less per layer. What is folded cannot be trained or saved afterwards."""
        self.eval()
        fold_batch_norm(self.resnet50)
        return self

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self


def fold_batch_norm(backbone: ResNet) -> None:
    """Replace each batch norm of a backbone in eval mode by a scaled convolution before it."""
    fold(backbone, "conv1", "bn1")
    for layer in (backbone.layer1, backbone.layer2, backbone.layer3, backbone.layer4):
        for block in layer:
            for number in (1, 2, 3):
                fold(block, f"conv{number}", f"bn{number}")
            if block.downsample is not None:
                fold(block.downsample, "0", "1")


def fold(parent: nn.Module, convolution: str, norm: str) -> None:
    fused = fuse_conv_bn_eval(getattr(parent, convolution), getattr(parent, norm))
    setattr(parent, convolution, fused)
    setattr(parent, norm, nn.Identity())
