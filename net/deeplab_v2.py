"""DeepLab-v2: a ResNet at stride 8 with dilated convolutions, a head of four rates, three scales of the image.

Source: Chen et al., "DeepLab: Semantic Image Segmentation with Deep Convolutional Nets, Atrous Convolution, and Fully
Connected CRFs" (TPAMI 2018); docs/method.md, section 10.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint
from torchvision.models import ResNet
from torchvision.models.resnet import Bottleneck

from misc.pixels import CAFFE_PIXELS, IMAGENET_PIXELS, Pixels
from net.resnet50 import stem

BLOCKS = {50: [3, 4, 6, 3], 101: [3, 4, 23, 3]}  # of the four stages, by depth
STAGES = {"layer1": (1, 1), "layer2": (2, 1), "layer3": (1, 2), "layer4": (1, 4)}  # stride of the first block, dilation
RATES = {"c0": 6, "c1": 12, "c2": 18, "c3": 24}  # dilations of the head's convolutions
SCALES = (0.5, 0.75)  # of the image, beside 1
FEATURES = 2048

WeightAndBias = tuple[torch.Tensor, torch.Tensor]
Folded = Mapping[nn.Conv2d, WeightAndBias]  # convolution → its weight and bias with its norm applied


class Family(NamedTuple):
    """What a backbone's weights were made for.

    pixels         what the network wants to see
    stride_on_1x1  whether a block with a stride has it on its first 1×1 convolution, not on its 3×3
    """

    name: str
    pixels: Pixels
    stride_on_1x1: bool

    def __str__(self) -> str:
        colours = "BGR" if self.pixels.bgr else "RGB"
        return f"{self.name} has it: {colours} pixels, strides on the {'first 1×1' if self.stride_on_1x1 else '3×3'}"


TORCHVISION = Family("torchvision", IMAGENET_PIXELS, stride_on_1x1=False)
CAFFE = Family("Caffe", CAFFE_PIXELS, stride_on_1x1=True)


class DeepLabV2(nn.Module):
    """Class scores of an image. All convolutions learn; the batch norms are frozen, scale and shift included.

    n_labels       C + 1: the classes and 0, the background
    depth          50 or 101
    family         of the backbone's weights
    checkpointing  in training, keep of a block its input only, and compute the rest again in the backward pass: two
                   thirds of the memory, a third more time, the same gradients
    """

    checkpointing = False

    def __init__(self, n_labels: int, *, depth: int, family: Family) -> None:
        super().__init__()
        self.n_labels, self.depth, self.family = n_labels, depth, family
        self.backbone = resnet_stride8(depth, stride_on_1x1=family.stride_on_1x1)
        self.aspp = ASPP(n_labels)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """(N, 3, H, W) prepared images → logits (N, C+1, h, w) at scale 1, .5 and .75, each at its own size, and their
        maximum at the size of the first. At scale 1 the stride is 8: 41 × 41 of 321 × 321."""
        inputs = (images, *(shrunk(images, scale) for scale in SCALES))
        full, *smaller = map(self.single_scale(), inputs)
        fused = full
        for logits in smaller:
            fused = torch.maximum(fused, F.interpolate(logits, full.shape[2:], mode="bilinear", align_corners=False))
        return full, *smaller, fused

    def single_scale(self) -> Callable[[torch.Tensor], torch.Tensor]:
        """The network at one scale: images → logits. In training its norms go into its weights, once for all scales."""
        b = self.backbone
        if not self.training:  # fast_on_cpu may have folded the parts
            return lambda x: self.aspp(b.layer4(b.layer3(b.layer2(b.layer1(stem(b, x)))))).float()
        folded = {convolution: fold(convolution, norm) for convolution, norm in conv_norms(b)}

        def logits(x: torch.Tensor) -> torch.Tensor:
            x = b.maxpool(F.relu(convolve(x, b.conv1, folded), inplace=True))
            for block in blocks(b):
                given = (x, block, folded)
                x = checkpoint(residual, *given, use_reentrant=False) if self.checkpointing else residual(*given)
            return self.aspp(x).float()  # under autocast, the maximum over the scales as well, on any device

        return logits

    def predict(self, images: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) prepared images → (N, C+1, h, w), the maximum over the scales."""
        return self(images)[-1]

    def parameter_groups(self) -> tuple[list[nn.Parameter], list[nn.Parameter], list[nn.Parameter]]:
        """What learns: the backbone's convolutions, the head's weights, the head's biases."""
        convolutions = [p for p in self.backbone.parameters() if p.requires_grad]
        head = dict(self.aspp.named_parameters())
        weights, biases = ([p for name, p in head.items() if name.endswith(leaf)] for leaf in ("weight", "bias"))
        return convolutions, weights, biases


class ASPP(nn.ModuleDict):
    """Four 3×3 convolutions of different dilation, summed (atrous spatial pyramid pooling)."""

    def __init__(self, n_labels: int) -> None:
        super().__init__({name: nn.Conv2d(FEATURES, n_labels, 3, padding=r, dilation=r) for name, r in RATES.items()})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first, *others = (convolution(x) for convolution in self.values())
        return sum(others, first)


def training_layout(device: torch.device) -> torch.memory_format:
    """How weights and images lie in memory while the network learns: channels last but on a CPU, where the gradients
    of dilated convolutions take longer so (a step of two crops of 81 to 321 pixels, 1.07 to 1.17 times as long).
    """
    return torch.contiguous_format if device.type == "cpu" else torch.channels_last


def blocks(backbone: ResNet) -> Iterator[Bottleneck]:
    return (block for stage in STAGES for block in getattr(backbone, stage))


def conv_norms(backbone: ResNet) -> Iterator[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """Each convolution and the batch norm that follows it."""
    yield backbone.conv1, backbone.bn1
    for block in blocks(backbone):
        yield from ((block.conv1, block.bn1), (block.conv2, block.bn2), (block.conv3, block.bn3))
        if block.downsample is not None:
            yield block.downsample[0], block.downsample[1]


def fold(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> WeightAndBias:
    """Weight and bias that give norm(convolution(x)), with the norm's running statistics.

    The norm multiplies each channel by a constant. Weights are fewer than activations, and of a norm that is applied to
    them nothing has to be kept for the backward pass.
    """
    assert norm.running_mean is not None and norm.running_var is not None
    factor = norm.weight * (norm.running_var + norm.eps).rsqrt()
    return convolution.weight * factor[:, None, None, None], norm.bias - norm.running_mean * factor


def convolve(x: torch.Tensor, convolution: nn.Conv2d, folded: Folded) -> torch.Tensor:
    return F.conv2d(x, *folded[convolution], convolution.stride, convolution.padding, convolution.dilation)


def residual(x: torch.Tensor, block: Bottleneck, folded: Folded) -> torch.Tensor:
    """What torchvision's block computes."""
    y = F.relu(convolve(x, block.conv1, folded), inplace=True)
    y = F.relu(convolve(y, block.conv2, folded), inplace=True)
    shortcut = x if block.downsample is None else convolve(x, block.downsample[0], folded)
    return F.relu(convolve(y, block.conv3, folded).add_(shortcut), inplace=True)


def resnet_stride8(depth: int, *, stride_on_1x1: bool) -> ResNet:
    """A ResNet without `fc`, stride 8, the last two stages dilated by 2 and 4 in every block, batch norms frozen."""
    backbone = ResNet(Bottleneck, BLOCKS[depth])
    backbone.maxpool.ceil_mode = True
    del backbone.fc
    for name, (stride, dilation) in STAGES.items():
        for number, block in enumerate(getattr(backbone, name)):
            strides = (stride, 1) if stride_on_1x1 else (1, stride)
            first, middle = strides if number == 0 else (1, 1)
            block.conv1.stride, block.conv2.stride = (first, first), (middle, middle)
            block.conv2.dilation = block.conv2.padding = (dilation, dilation)
            if block.downsample is not None:
                block.downsample[0].stride = (stride, stride)
    for _, norm in conv_norms(backbone):
        norm.requires_grad_(False)
    return backbone


def shrunk(images: torch.Tensor, scale: float) -> torch.Tensor:
    """Resized to ⌊H·scale⌋ × ⌊W·scale⌋, but not below one pixel.

    The scale itself, not the ratio of the sizes, says where the pixels lie: the ratio would move the logits by .2.
    """
    if min(images.shape[2:]) * scale < 1:
        return images
    return F.interpolate(images, scale_factor=scale, mode="bilinear", align_corners=False)
