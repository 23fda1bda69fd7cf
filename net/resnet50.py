"""The backbone of both networks: torchvision's ResNet-50 at stride 16, batch norm frozen (SPEC 1, 5)."""

import torch
from torch import nn
from torchvision.models import ResNet, resnet50


def resnet50_stride16() -> ResNet:
    """A ResNet-50 with strides (2, 2, 2, 1), no dilation and no `fc`; weights at random.

    Call its parts (`stem`, `layer1` … `layer4`), not the module itself.
    Source: BES; the stride of layer4 is where it departs from torchvision.
    """
    backbone = resnet50(weights=None)
    backbone.layer4[0].conv2.stride = (1, 1)
    backbone.layer4[0].downsample[0].stride = (1, 1)
    del backbone.fc
    return backbone


def stem(backbone: ResNet, images: torch.Tensor) -> torch.Tensor:
    """(N, 3, H, W) normalised images → (N, 64, h, w) at stride 4, after the max-pool."""
    return backbone.maxpool(backbone.relu(backbone.bn1(backbone.conv1(images))))


class FrozenNormModule(nn.Module):
    """A module whose batch norms use their running statistics in training as well."""

    def train(self, mode: bool = True) -> "FrozenNormModule":
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self
