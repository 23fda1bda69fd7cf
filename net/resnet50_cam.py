"""Attention-pooling classifier and the class activation maps it gives (docs/method.md, sections 1 and 2)."""

import torch
import torch.nn.functional as F
from torch import nn

from net.resnet50 import FrozenNormModule, affordable, resnet50_stride16, stem

FEATURES = 2048
ATTENTION_SCALE = 0.001


class ResNet50CAM(FrozenNormModule):
    """ResNet-50 with a 1×1 classifier. layer3, layer4 and the classifier learn, the rest is frozen.

    n_classes   C ≥ 1, without background
    """

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        self.resnet50 = resnet50_stride16()
        self.classifier = nn.Conv2d(FEATURES, n_classes, 1, bias=False)
        for part in (self.resnet50.conv1, self.resnet50.bn1, self.resnet50.layer1, self.resnet50.layer2):
            part.requires_grad_(False)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) normalised images → (N, 2048, ⌈H/16⌉, ⌈W/16⌉)."""
        with torch.no_grad():  # published: no gradient flows below layer3
            x = self.resnet50.layer2(self.resnet50.layer1(stem(self.resnet50, images)))
        return self.resnet50.layer4(self.resnet50.layer3(x))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Class logits (N, C) of normalised images (N, 3, H, W)."""
        x = self.features(images).float()  # under autocast, a CPU would take the softmax in bfloat16, CUDA would not
        scores = x.detach().flatten(2) * ATTENTION_SCALE
        # softmax times the number of positions: so the mean of x * attention is the sum of x weighted by the softmax
        attention = (scores.softmax(dim=2) * scores.shape[2]).reshape(x.shape)
        return self.classifier((x * attention).mean(dim=(2, 3), keepdim=True)).flatten(1)

    def cam(self, images: torch.Tensor, keys: torch.Tensor, *, apart: bool = False) -> torch.Tensor:
        """Class activation maps of an image and its mirror image, added up; no attention.

        images    (2, 3, H, W) normalised: the image, its mirror image
        keys      (K,) int64, the classes wanted, in [0, C)
        apart     one after the other, which needs half the memory; large images always are
        Returns   (K, ⌈H/16⌉, ⌈W/16⌉) ≥ 0.
        """
        weight = self.classifier.weight[keys]
        cams = [F.relu(F.conv2d(self.features(part), weight)) for part in affordable(images, apart=apart)]
        return cams[0][0] + cams[-1][-1].flip(-1)

    def trained_parameters(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        """Backbone parameters that learn, and those of the classifier, which learns ten times faster."""
        backbone = [p for p in self.resnet50.parameters() if p.requires_grad]
        return backbone, list(self.classifier.parameters())
