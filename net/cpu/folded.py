"""Frozen convolutions in one pass with what follows them: batch norm, addition of the shortcut, ReLU."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.models.resnet import Bottleneck

from net.cpu.convolution import FrozenConvolution, can_convolve, is_compiled
from net.cpu.winograd import WinogradConv2d, computes_in_float32_on_cpu, needs_gradient


class FoldedConv2d(nn.Module):
    """relu(norm(convolution(x)) + shortcut), for inference.

    convolution.c computes it where it can, torch elsewhere: on CUDA, under autocast, where a gradient is needed, for
    convolutions with dilation or groups, and without a C compiler. The weights must not change after the first call.

    convolution, norm   a pair that `can_fold`; copied
    relu                False: no ReLU
    in_torch            always computed by torch
    """

    def __init__(
        self, convolution: nn.Conv2d, norm: nn.BatchNorm2d, *, relu: bool = True, in_torch: bool = False
    ) -> None:
        super().__init__()
        self.convolution = fuse_conv_bn_eval(convolution, norm)
        self.relu, self.in_torch = relu, in_torch
        self._frozen: FrozenConvolution | None = None

    def forward(self, x: torch.Tensor, shortcut: torch.Tensor | None = None) -> torch.Tensor:
        """(N, C, H, W) → (N, out_channels, h, w).

        shortcut  (N, out_channels, h, w); the result may overwrite it
        """
        if self._is_for_c(x, shortcut):
            if self._frozen is None:
                self._frozen = FrozenConvolution(self.convolution)
            return self._frozen(x, relu=self.relu, shortcut=shortcut)
        y = self.convolution(x)
        if shortcut is not None:
            y = shortcut.add_(y)
        return F.relu(y, inplace=True) if self.relu else y

    def _is_for_c(self, x: torch.Tensor, shortcut: torch.Tensor | None) -> bool:
        tensors = (x, *self.parameters()) if shortcut is None else (x, shortcut, *self.parameters())
        return (
            not self.in_torch
            and computes_in_float32_on_cpu(x)
            and not needs_gradient(*tensors)
            and can_convolve(self.convolution)
            and is_compiled()
        )


class FoldedBottleneck(nn.Module):
    """A residual block of torchvision's ResNets for inference.

    block             one that `can_fold_block`; copied
    overwrites_input  the result may overwrite the input, if the block has no `downsample`
    """

    def __init__(self, block: Bottleneck, *, overwrites_input: bool) -> None:
        super().__init__()
        # what convolution.c gains is in the 3×3; torch's 1×1 alone are as fast, and faster on the large maps of DeepLab
        in_torch = not can_convolve(block.conv2)
        self.conv1 = FoldedConv2d(block.conv1, block.bn1, in_torch=in_torch)
        self.conv2 = FoldedConv2d(block.conv2, block.bn2, in_torch=in_torch)
        self.conv3 = FoldedConv2d(block.conv3, block.bn3, in_torch=in_torch)
        self.downsample = (
            None if block.downsample is None else FoldedConv2d(*block.downsample, relu=False, in_torch=in_torch)
        )
        self.overwrites_input = overwrites_input

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) → (N, out_channels, h, w)."""
        y = self.conv2(self.conv1(x))
        if self.downsample is not None:
            return self.conv3(y, self.downsample(x))
        return self.conv3(y, x if self.overwrites_input else x.clone())


def can_fold(convolution: nn.Module, norm: nn.Module) -> bool:
    """Whether the two are a convolution and a batch norm in eval mode, of the classes that fuse_conv_bn_eval knows."""
    return (
        type(convolution) in (nn.Conv2d, WinogradConv2d)
        and type(norm) is nn.BatchNorm2d
        and norm.running_mean is not None
        and not convolution.training
        and not norm.training
    )


def can_fold_block(block: Any) -> bool:
    """Whether a module is torchvision's Bottleneck, in eval mode, with batch norms and ReLU."""
    if type(block) is not Bottleneck or type(block.relu) is not nn.ReLU:
        return False
    pairs = [(block.conv1, block.bn1), (block.conv2, block.bn2), (block.conv3, block.bn3)]
    if block.downsample is not None:
        pairs.append(tuple(block.downsample))
    return all(len(pair) == 2 and can_fold(*pair) for pair in pairs)
