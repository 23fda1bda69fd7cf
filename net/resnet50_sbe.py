"""Boundary network: one small head on each of five taps of a frozen ResNet-50, one probability map
(docs/method.md, section 5)."""

import torch
import torch.nn.functional as F
from torch import nn

from net.resnet50 import FrozenNormModule, affordable, resnet50_stride16, stem

HEAD_CHANNELS = 32
HEAD_GROUPS = 4


class ResNet50SBE(FrozenNormModule):
    """Predicts boundary probability at stride 4. Only the heads `fc_edge1` … `fc_edge6` learn."""

    def __init__(self) -> None:
        super().__init__()
        self.resnet50 = resnet50_stride16()
        self.resnet50.requires_grad_(False)
        self.fc_edge1 = head(64)
        self.fc_edge2 = head(256)
        self.fc_edge3 = head(512, upsample=2)
        self.fc_edge4 = head(1024, upsample=4)
        self.fc_edge5 = head(2048, upsample=4)
        self.fc_edge6 = nn.Conv2d(5 * HEAD_CHANNELS, 1, 1)

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) normalised images → (N, 1, h, w), h = (H-1)//4+1."""
        with torch.no_grad():
            tap1 = stem(self.resnet50, images)
            tap2 = self.resnet50.layer1(tap1)
            tap3 = self.resnet50.layer2(tap2)
            tap4 = self.resnet50.layer3(tap3)
            tap5 = self.resnet50.layer4(tap4)
        h, w = tap1.shape[2:]
        edges = [
            self.fc_edge1(tap1),
            self.fc_edge2(tap2),
            self.fc_edge3(tap3)[:, :, :h, :w],  # coarse grids reach beyond the border of the image
            self.fc_edge4(tap4)[:, :, :h, :w],
            self.fc_edge5(tap5)[:, :, :h, :w],
        ]
        # the sum over the edges is fc_edge6 of their concatenation, without copying them
        weights, bias = self.fc_edge6.weight.split(HEAD_CHANNELS, dim=1), self.fc_edge6.bias
        parts = [F.conv2d(edges[0], weights[0], bias), *map(F.conv2d, edges[1:], weights[1:])]
        return torch.stack(parts).float().sum(dim=0)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Boundary probability (N, 1, h, w) of normalised images (N, 3, H, W)."""
        return self.logits(images).sigmoid()

    def edge(self, images: torch.Tensor, *, apart: bool = False) -> torch.Tensor:
        """Boundary probability of one image, averaged with its mirror image in the logits.

        images    (2, 3, H, W) normalised: the image, its mirror image
        apart     one after the other, which needs half the memory; large images always are
        Returns   (h, w) in [0, 1].
        """
        logits = [self.logits(part) for part in affordable(images, apart=apart)]
        return ((logits[0][0, 0] + logits[-1][-1, 0].flip(-1)) / 2).sigmoid()

    def trained_parameters(self) -> list[nn.Parameter]:
        return [p for p in self.parameters() if p.requires_grad]


class GroupNormInFloat32(nn.GroupNorm):
    """Under autocast, a CPU would compute it and what follows it in bfloat16, CUDA would not."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.float())


def head(channels: int, *, upsample: int = 1) -> nn.Sequential:
    """1×1 convolution to 32 channels, GroupNorm, bilinear upsampling where asked for, ReLU."""
    layers: list[nn.Module] = [
        nn.Conv2d(channels, HEAD_CHANNELS, 1, bias=False),
        GroupNormInFloat32(HEAD_GROUPS, HEAD_CHANNELS),
    ]
    if upsample > 1:
        layers.append(nn.Upsample(scale_factor=upsample, mode="bilinear", align_corners=False))
    return nn.Sequential(*layers, nn.ReLU())
