"""oneDNN's convolutions with what follows them in the same pass, and with weights laid out beforehand.

These are the calls that torch.compile makes on the CPU. They are not documented, so they are made nowhere else, and
where torch does not have them (`AVAILABLE`), the callers compute the same in several passes.
"""

from typing import Any, NamedTuple, Self

import torch
from torch import nn

AVAILABLE = (
    torch.backends.mkldnn.is_available()
    and hasattr(torch._C._nn, "mkldnn_reorder_conv2d_weight")
    and all(hasattr(torch.ops.mkldnn, f"_convolution_pointwise{place}") for place in ("", "_"))
)
Geometry = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], int]


def geometry(convolution: nn.Conv2d) -> Geometry:
    """Padding, stride, dilation and groups."""
    assert not isinstance(convolution.padding, str)
    return convolution.padding, convolution.stride, convolution.dilation, convolution.groups


def convolved(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    like: Geometry,
    *,
    relu: bool = False,
    shortcut: torch.Tensor | None = None,
) -> torch.Tensor:
    """relu(x ∗ weight + bias + shortcut) in float32, unseen by autograd.

    shortcut  overwritten by the result
    """
    after = "relu" if relu else "none"
    if shortcut is None:
        return torch.ops.mkldnn._convolution_pointwise(x, weight, bias, *like, after, [], "")
    summed = torch.ops.mkldnn._convolution_pointwise_.binary
    return summed(shortcut, x, weight, bias, *like, "add", 1.0, after, [], "")


class LaidOut:
    """Weights in the order in which oneDNN reads them for inputs of one shape.

    For another shape it may read them in another order, and would change it at every call, for longer than the
    convolution takes. So they are laid out for the first shape only, and in training only, where all have it.
    """

    def __init__(self) -> None:
        self._kept: _Kept | None = None

    def of(self, weight: torch.Tensor, shape: torch.Size, like: Geometry) -> torch.Tensor | None:
        """Weights (O, C / groups, kh, kw) for inputs of a shape, laid out anew if they have changed; None if there
        are none."""
        if torch.is_inference_mode_enabled() or weight.is_inference():
            return None
        kept = self._kept
        if kept is None or kept.weight.data_ptr() != weight.data_ptr() or kept.version != weight._version:
            reorder: Any = torch._C._nn.mkldnn_reorder_conv2d_weight
            laid_out = reorder(weight.detach().to_mkldnn(), *like, shape)
            kept = self._kept = _Kept(weight, weight._version, shape, laid_out)
        return kept.laid_out if kept.shape == shape else None

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return type(self)()


class _Kept(NamedTuple):
    weight: torch.Tensor
    version: int
    shape: torch.Size
    laid_out: torch.Tensor
