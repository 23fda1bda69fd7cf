"""Detectors given as files: both formats agree, and whatever is no detector is named."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from misc.errors import InputError
from net.saliency_model import SaliencyModel
from tests.detectors import save_onnx, save_torchscript

CPU = torch.device("cpu")
SIDE = 16


def model(path: Path, **changes: object) -> SaliencyModel:
    settings = {"side": SIDE, "mean": (0.2, 0.2, 0.2), "std": (0.8, 0.8, 0.8), "logits": False}
    return SaliencyModel(path, CPU, **{**settings, **changes})


def dotted() -> np.ndarray:
    """A grey ground that normalises to 0, with one white pixel that normalises to 1."""
    image = np.full((SIDE, SIDE, 3), 51, np.uint8)
    image[5, 9] = 255
    return image


def save(path: Path) -> Path:
    return save_onnx(path, side=SIDE) if path.suffix == ".onnx" else save_torchscript(path)


@pytest.mark.parametrize("name", ["a.pt", "a.pth", "a.TorchScript", "a.onnx"])
def test_a_map_is_the_networks_stretched(tmp_path, name):
    found = model(save(tmp_path / name))(dotted())
    # 1/9 − 1/81 within the 3×3 around the dot, 1/81 within the 9×9, 0 elsewhere
    expected = np.zeros((SIDE, SIDE))
    expected[1:10, 5:14] = 1 / 8
    expected[4:7, 8:11] = 1
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_both_formats_agree_on_an_image_of_any_size(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (23, 40, 3), np.uint8)
    maps = [model(save(tmp_path / name))(image) for name in ("a.pt", "a.onnx")]
    assert maps[0].shape == (23, 40) and maps[0].min() >= 0 and maps[0].max() <= 1 and maps[0].std() > 0.05
    np.testing.assert_allclose(*maps, atol=1e-5)


class Returns(nn.Module):
    """Returns c·mean of RGB, as it is or repeated."""

    def __init__(self, factor: float = 1.0, channels: int = 1) -> None:
        super().__init__()
        self.factor, self.channels = factor, channels

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.factor * images.mean(1, keepdim=True).repeat(1, self.channels, 1, 1)


def test_logits_go_through_a_sigmoid(tmp_path):
    path = save_torchscript(tmp_path / "a.pt", Returns(factor=10))
    with pytest.raises(InputError, match=r"a\.pt returns -?0 to 10, which are no probabilities: say --saliency_output"):
        model(path)(dotted())
    image = dotted()
    image[0, 0] = 153  # halfway
    found = model(path, logits=True)(image)
    low, middle, high = (1 / (1 + np.exp(-x)) for x in (0, 5, 10))
    assert found[5, 9] == 1 and found[1, 1] == 0
    assert found[0, 0] == pytest.approx((middle - low) / (high - low), abs=1e-5)


def test_a_constant_map_is_blank(tmp_path):
    found = model(save_torchscript(tmp_path / "a.pt", Returns()))(np.full((4, 6, 3), 200, np.uint8))
    assert found.shape == (4, 6) and not found.any()


class Nothing(nn.Module):
    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"map": images}


class Flat(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images[:, 0]


class Rigid(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(32, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.linear(images)


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        (Returns(channels=2), "returns 1×2×16×16, expected one map, 1×1×h×w"),
        (Flat(), "returns 1×16×16, expected one map, 1×1×h×w"),
        (Returns(factor=float("nan")), "returns values that are not finite"),
        (Nothing(), "returns dict, expected a tensor 1×1×h×w"),
        (Rigid(), "fails on an input of 1×3×16×16 (see --saliency_input_size): RuntimeError: mat1 and mat2"),
    ],
)
def test_a_wrong_output_is_named(tmp_path, network, expected):
    path = save_torchscript(tmp_path / "a.pt", network)
    with pytest.raises(InputError) as error:
        model(path)(dotted())
    assert f"saliency_model: {path} {expected}" in str(error.value) and "\n" not in str(error.value)


def test_a_wrong_onnx_output_or_size_is_named(tmp_path):
    with pytest.raises(InputError, match=r"two\.onnx returns 1×2×16×16"):
        model(save_onnx(tmp_path / "two.onnx", side=SIDE, channels=2))(dotted())
    with pytest.raises(
        InputError, match=r"a\.onnx fails on an input of 1×3×8×8 \(see --saliency_input_size\)"
    ) as error:
        model(save_onnx(tmp_path / "a.onnx", side=SIDE), side=8)(dotted())
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["a.pt", "a.onnx"])
@pytest.mark.parametrize("content", [b"", b"nonsense" * 50])
def test_a_file_that_is_no_model(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=rf"saliency_model: .*{name} cannot be read as (TorchScript|ONNX)") as error:
        model(tmp_path / name)
    assert "\n" not in str(error.value)


def test_weights_alone_are_no_model(tmp_path):
    torch.save({"conv.weight": torch.zeros(3)}, tmp_path / "a.pth")
    with pytest.raises(InputError, match=r"a\.pth cannot be read as TorchScript .*weights alone are none"):
        model(tmp_path / "a.pth")


def test_another_ending_or_no_file(tmp_path):
    with pytest.raises(InputError, match=r"there is no file .*a\.pt"):
        model(tmp_path / "a.pt")
    (tmp_path / "a.h5").touch()
    with pytest.raises(InputError, match=r"a\.h5 ends neither in \.onnx nor"):
        model(tmp_path / "a.h5")


def test_onnxruntime_is_not_installed(tmp_path, monkeypatch):
    path = save_onnx(tmp_path / "a.onnx", side=SIDE)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(InputError, match=r"a\.onnx needs onnxruntime: pip install -r requirements-onnx\.txt"):
        model(path)
