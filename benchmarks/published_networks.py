"""The published way of running and training both networks, written from docs/method.md ("section" is one of its).

What a researcher writes with torch's defaults: float32, NCHW, batch norm as a layer of its own. Tensor names are
those of the checkpoints, so the same files fill these networks and those in `net/`.
"""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models import ResNet, resnet50

MOMENTUM = 1e-4  # Section 1: the weight decay lands in the momentum argument
WEIGHT_DECAY = 1e-4
LABEL_BACKGROUND, LABEL_FOREGROUND, LABELS_BOUNDARY = 0, 50, (100, 150, 250)  # Section 4


def backbone_stride16() -> ResNet:
    """ResNet-50, strides (2, 2, 2, 1), no dilation (Section 1)."""
    network = resnet50(weights=None)
    for layer in (network.layer4[0].conv2, network.layer4[0].downsample[0]):
        layer.stride = (1, 1)
    del network.fc
    return network


def tap1(network: ResNet, images: torch.Tensor) -> torch.Tensor:
    return network.maxpool(network.relu(network.bn1(network.conv1(images))))


class PublishedClassifier(nn.Module):
    """Section 1: attention pooling over layer4; the output of layer2 is detached, conv1 and bn1 are frozen."""

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        self.resnet50 = backbone_stride16()
        self.classifier = nn.Conv2d(2048, n_classes, 1, bias=False)
        self.resnet50.conv1.requires_grad_(False)
        self.resnet50.bn1.requires_grad_(False)
        self.eval()  # batch norm uses its running statistics always

    def features(self, images: torch.Tensor) -> torch.Tensor:
        x = self.resnet50.layer1(tap1(self.resnet50, images))
        x = self.resnet50.layer2(x).detach()
        return self.resnet50.layer4(self.resnet50.layer3(x))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = self.features(images)
        n, channels, h, w = x.shape
        attention = F.softmax(0.001 * x.view(n, channels, -1), dim=2) * (h * w)
        x = x * attention.detach().view(n, channels, h, w)
        return self.classifier(x.mean(dim=(2, 3), keepdim=True)).view(n, -1)

    def all_maps(self, pair: torch.Tensor) -> torch.Tensor:
        """Section 2: (2, 3, H, W), an image and its mirror image → (C, ⌈H/16⌉, ⌈W/16⌉)."""
        maps = F.relu(self.classifier(self.features(pair)))
        return maps[0] + maps[1].flip(-1)


class PublishedBoundaryNetwork(nn.Module):
    """Section 5: five taps, a head each, one logit at stride 4.

    detach_taps   False: the whole network is in the autograd graph and its parameters require gradients, though only
                  the heads are given to the optimiser. True: gradients stop at the taps, a kinder comparison.
    """

    def __init__(self, *, detach_taps: bool = False) -> None:
        super().__init__()
        self.detach_taps = detach_taps
        self.resnet50 = backbone_stride16()
        self.fc_edge1 = self._head(64, 1)
        self.fc_edge2 = self._head(256, 1)
        self.fc_edge3 = self._head(512, 2)
        self.fc_edge4 = self._head(1024, 4)
        self.fc_edge5 = self._head(2048, 4)
        self.fc_edge6 = nn.Conv2d(160, 1, 1)
        self.eval()

    @staticmethod
    def _head(channels: int, factor: int) -> nn.Sequential:
        layers: list[nn.Module] = [nn.Conv2d(channels, 32, 1, bias=False), nn.GroupNorm(4, 32)]
        if factor > 1:
            layers.append(nn.Upsample(scale_factor=factor, mode="bilinear", align_corners=False))
        return nn.Sequential(*layers, nn.ReLU(inplace=True))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) → logits (N, 1, h, w)."""
        taps = [tap1(self.resnet50, images)]
        for layer in (self.resnet50.layer1, self.resnet50.layer2, self.resnet50.layer3, self.resnet50.layer4):
            taps.append(layer(taps[-1]))
        if self.detach_taps:
            taps = [tap.detach() for tap in taps]
        heads = (self.fc_edge1, self.fc_edge2, self.fc_edge3, self.fc_edge4, self.fc_edge5)
        h, w = taps[0].shape[2:]
        edges = [head(tap)[..., :h, :w] for head, tap in zip(heads, taps, strict=True)]
        return self.fc_edge6(torch.cat(edges, dim=1))

    def edge(self, pair: torch.Tensor) -> torch.Tensor:
        """Section 6: (2, 3, H, W), an image and its mirror image → (h, w), mean of the two logits, sigmoid."""
        logits = self(pair)[:, 0]
        return torch.sigmoid(logits[0] / 2 + logits[1].flip(-1) / 2)

    def heads(self) -> list[nn.Parameter]:
        return [p for name, p in self.named_parameters() if name.startswith("fc_edge")]


def sgd(groups: Iterable[dict[str, object]]) -> torch.optim.SGD:
    """The optimiser of Section 1 at its first step: the rate decays outside."""
    return torch.optim.SGD(list(groups), momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)


def classifier_loss(network: PublishedClassifier, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Section 1: multi-label soft margin."""
    return F.multilabel_soft_margin_loss(network(images), labels)


def boundary_loss(
    network: PublishedBoundaryNetwork, images: torch.Tensor, label: torch.Tensor, saliency: torch.Tensor
) -> torch.Tensor:
    """Section 5, the four terms of SBE: images (N, 3, H, W), label (N, h, w) uint8, saliency (N, H, W)."""
    p = torch.sigmoid(network(images)).squeeze(1).clamp(1e-4, 1 - 1e-4)
    saliency = F.interpolate(saliency.unsqueeze(1), size=p.shape[1:], mode="bilinear", align_corners=False).squeeze(1)
    boundary_mask = torch.zeros_like(p)
    for value in LABELS_BOUNDARY:
        boundary_mask = boundary_mask + (label == value).float()

    def mean(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return torch.sum(values * mask) / (torch.sum(mask) + 1)

    background, foreground = (label == LABEL_BACKGROUND).float(), (label == LABEL_FOREGROUND).float()
    weighted = -torch.log(p) * torch.sqrt(p.detach())
    ground = mean(-torch.log(1 - p), background) + mean(-torch.log(1 - p), foreground)
    salient = mean(weighted, boundary_mask * (saliency > 0).float())
    nonsalient = mean(weighted, boundary_mask * (saliency == 0).float())
    return ground + salient + nonsalient


def training_step(optimizer: torch.optim.Optimizer, network: nn.Module, loss: torch.Tensor) -> float:
    """What follows the forward pass: clear all gradients of the network, backward pass, update."""
    network.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


class PublishedDeepLab(nn.Module):
    """Section 10 with torch's defaults: batch norms are layers, whose scale and shift get gradients that nobody uses.

    backbone, aspp  modules of ours, run as torchvision runs them
    """

    def __init__(self, backbone: ResNet, aspp: nn.Module) -> None:
        super().__init__()
        self.backbone, self.aspp = backbone, aspp
        self.requires_grad_(True)
        self.eval()  # batch norm uses its running statistics always

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        b = self.backbone
        return self.aspp(b.layer4(b.layer3(b.layer2(b.layer1(tap1(b, images))))))

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        def resized(x: torch.Tensor, **size: object) -> torch.Tensor:
            return F.interpolate(x, mode="bilinear", align_corners=False, **size)  # type: ignore[arg-type]

        full = self.logits(images)
        smaller = [self.logits(resized(images, scale_factor=scale)) for scale in (0.5, 0.75)]
        same_size = [full, *(resized(logits, size=full.shape[2:]) for logits in smaller)]
        return [full, *smaller, torch.stack(same_size).max(dim=0).values]
