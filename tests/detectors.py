"""A small detector as a file: how much the middle of a place differs from its surroundings, by two convolutions."""

import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

CENTRE, SURROUND = 3, 9  # sides of the two means, pixels


class CentreSurround(nn.Module):
    """|mean of 3×3 − mean of 9×9| over RGB, zero outside the image; returns the input as a side output too."""

    def __init__(self) -> None:
        super().__init__()
        self.centre, self.surround = (
            nn.Conv2d(3, 1, side, padding=side // 2, bias=False) for side in (CENTRE, SURROUND)
        )
        for convolution in (self.centre, self.surround):
            nn.init.constant_(convolution.weight, 1 / convolution.weight.numel())

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return (self.centre(images) - self.surround(images)).abs(), images


def save_torchscript(path: Path, network: nn.Module | None = None) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch would rather have torch.export
        torch.jit.script(network or CentreSurround()).save(path)
    return path


def save_onnx(path: Path, *, side: int, channels: int = 1) -> Path:
    """CentreSurround for images of side×side; with `channels` ≠ 1 its map is there several times."""
    weights = [np.full((channels, 3, k, k), 1 / (3 * k * k), np.float32) for k in (CENTRE, SURROUND)]
    nodes = [
        helper.make_node("Conv", ["images", name], [f"{name} mean"], pads=[k // 2] * 4)
        for name, k in (("centre", CENTRE), ("surround", SURROUND))
    ]
    nodes += [
        helper.make_node("Sub", ["centre mean", "surround mean"], ["difference"]),
        helper.make_node("Abs", ["difference"], ["map"]),
    ]
    graph = helper.make_graph(
        nodes,
        "centre-surround",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, side, side])],
        [helper.make_tensor_value_info("map", TensorProto.FLOAT, [1, channels, side, side])],
        [numpy_helper.from_array(w, name) for w, name in zip(weights, ("centre", "surround"), strict=True)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def save_mixer(
    path: Path,
    outputs: dict[str, list[list[float]]],
    *,
    size: tuple[int | str, int | str] = (16, 16),
    half: bool = False,
    channels_last: bool = False,
) -> Path:
    """A network of matrices: each channel of an output is a sum of the input's channels times its row.

    outputs   name → a row of three factors for each of its channels
    size      (height, width) of the input, names where they may vary
    half      float16
    """
    kind, dtype = (TensorProto.FLOAT16, np.float16) if half else (TensorProto.FLOAT, np.float32)

    def shape(channels: int) -> list[int | str]:
        return [1, *size, channels] if channels_last else [1, channels, *size]

    nodes, weights = [], []
    for name, rows in outputs.items():
        matrix = np.array(rows, dtype)
        weights.append(numpy_helper.from_array(matrix.T if channels_last else matrix[:, :, None, None], f"of {name}"))
        nodes.append(helper.make_node("MatMul" if channels_last else "Conv", ["image", f"of {name}"], [name]))
    graph = helper.make_graph(
        nodes,
        "mixer",
        [helper.make_tensor_value_info("image", kind, shape(3))],
        [helper.make_tensor_value_info(name, kind, shape(len(rows))) for name, rows in outputs.items()],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path
