"""Detectors given as files: both formats agree, and whatever is no detector is named."""

import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from misc.errors import InputError
from net.saliency_model import SaliencyModel
from tests.detectors import save_mixer, save_onnx, save_torchscript

CPU = torch.device("cpu")
SIDE = 16


def model(path: Path, **changes: object) -> SaliencyModel:
    settings = {"input_size": SIDE, "mean": (0.2, 0.2, 0.2), "std": (0.8, 0.8, 0.8)}
    return SaliencyModel(path, CPU, **{**settings, **changes})


def dotted() -> np.ndarray:
    """A grey ground that normalises to 0, with one white pixel that normalises to 1."""
    image = np.full((SIDE, SIDE, 3), 51, np.uint8)
    image[5, 9] = 255
    return image


@pytest.fixture
def spied_runs(monkeypatch) -> list[tuple[list[str] | None, np.ndarray]]:
    """The outputs that are asked of onnxruntime, and what it is given, run by run."""
    seen, usual = [], onnxruntime.InferenceSession.run

    def run(session: onnxruntime.InferenceSession, names: list[str] | None, given: dict[str, np.ndarray]) -> list:
        seen.append((names, *given.values()))
        return usual(session, names, given)

    monkeypatch.setattr(onnxruntime.InferenceSession, "run", run)
    return seen


def save(path: Path) -> Path:
    return save_onnx(path, side=SIDE) if path.suffix == ".onnx" else save_torchscript(path)


@pytest.mark.parametrize("name", ["a.pt", "a.pth", "a.TorchScript", "a.onnx"])
def test_a_map_is_the_networks_stretched(tmp_path, name):
    found = model(save(tmp_path / name))(dotted()).map
    # 1/9 − 1/81 within the 3×3 around the dot, 1/81 within the 9×9, 0 elsewhere
    expected = np.zeros((SIDE, SIDE))
    expected[1:10, 5:14] = 1 / 8
    expected[4:7, 8:11] = 1
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_both_formats_agree_on_an_image_of_any_size(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (23, 40, 3), np.uint8)
    maps = [model(save(tmp_path / name))(image).map for name in ("a.pt", "a.onnx")]
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
    low, middle, high = (1 / (1 + np.exp(-x)) for x in (0, 5, 10))
    found = model(path, output="logit")(image)
    assert found.map[5, 9] == 1 and found.map[1, 1] == 0
    assert found.map[0, 0] == pytest.approx((middle - low) / (high - low), abs=1e-5)
    assert (found.lowest, found.largest) == pytest.approx((0, 10), abs=1e-4)  # as the network returned them
    unstretched = model(path, output="logit", stretch=False)(image).map
    assert [unstretched[1, 1], unstretched[0, 0], unstretched[5, 9]] == pytest.approx([low, middle, high], abs=1e-5)


def test_a_constant_map_is_blank_if_it_is_stretched(tmp_path):
    path, image = save_torchscript(tmp_path / "a.pt", Returns(factor=0.5)), np.full((4, 6, 3), 255, np.uint8)
    found = model(path)(image)
    assert found.map.shape == (4, 6) and not found.map.any()
    assert (found.lowest, found.largest) == pytest.approx((0.5, 0.5))
    np.testing.assert_allclose(model(path, stretch=False)(image).map, 0.5, rtol=1e-6)


class Nothing(nn.Module):
    def forward(self, images: torch.Tensor) -> int:
        return 3


class Rigid(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(32, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.linear(images)


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        (Returns(channels=2), "returns 1×2×16×16 as output 0, expected one map, 1×1×h×w; its outputs are 0: 1×2×16×16"),
        (Returns(factor=float("nan")), "returns values that are not finite"),
        (Nothing(), "has no output 0; its outputs are none"),
        (Rigid(), "fails on an input of 1×3×16×16 float32 (see --saliency_input_size): RuntimeError: mat1 and mat2"),
    ],
)
def test_a_wrong_output_is_named(tmp_path, network, expected):
    path = save_torchscript(tmp_path / "a.pt", network)
    with pytest.raises(InputError) as error:
        model(path)(dotted())
    assert f"saliency_model: {path} {expected}" in str(error.value) and "\n" not in str(error.value)


RED, GREEN, BLUE = [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]
PLAIN = {"mean": (0, 0, 0), "std": (1, 1, 1), "stretch": False}  # a colour is its own map, from 0 to 1


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height + width).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("channels_last", [False, True])
def test_sides_type_and_order_of_the_input_are_read_from_an_onnx_file(tmp_path, half, channels_last):
    path = save_mixer(tmp_path / "a.onnx", {"map": [GREEN]}, size=(24, 40), half=half, channels_last=channels_last)
    detector = SaliencyModel(path, CPU, **PLAIN)
    assert detector.handling.input_size == (24, 40)
    image = noise(24, 40)
    np.testing.assert_allclose(detector(image).map, image[..., 1] / 255, atol=1e-3 if half else 1e-6)
    assert detector(noise(31, 17)).map.shape == (31, 17)


@pytest.mark.parametrize("preset", ["birefnet", "poolnet"])
def test_a_file_that_takes_any_size_gets_the_presets(tmp_path, preset, spied_runs):
    path = save_mixer(tmp_path / "a.onnx", {"map": [BLUE]}, size=("height", "width"))
    SaliencyModel(path, CPU, preset=preset)(noise(23, 40))
    ((_, given),) = spied_runs
    assert given.shape == {"birefnet": (1, 3, 1024, 1024), "poolnet": (1, 3, 23, 40)}[preset]


def test_a_bgr_preset_in_the_images_own_size(tmp_path):
    path = save_mixer(tmp_path / "a.onnx", {"map": [[0.01, 0, 0]]}, size=("height", "width"))
    image = noise(5, 9)
    expected = 1 / (1 + np.exp(-0.01 * (image[..., 2] - 104.007)))  # the first channel is blue
    np.testing.assert_allclose(SaliencyModel(path, CPU, preset="poolnet")(image).map, expected, atol=1e-6)


def test_a_wrong_size_is_told_in_the_words_of_onnxruntime(tmp_path):
    path = save_mixer(tmp_path / "a.onnx", {"map": [RED]}, size=(24, 40))
    with pytest.raises(InputError) as error:
        SaliencyModel(path, CPU, input_size=16)(noise(24, 40))
    text = str(error.value)
    assert "a.onnx fails on an input of 1×3×16×16 float32 (see --saliency_input_size)" in text and "\n" not in text
    assert "Got: 16 Expected: 24" in text and "Got: 16 Expected: 40" in text


OUTPUTS = {"1959": [RED], "d1": [GREEN], "features": [RED, BLUE], "last": [BLUE]}


@pytest.mark.parametrize(
    ("which", "channel"), [(None, 0), (0, 0), (1, 1), (-1, 2), (3, 2), ("d1", 1), ("last", 2), (1959, 0), ("1959", 0)]
)
def test_the_output_by_number_or_name_and_only_that_one_is_fetched(tmp_path, which, channel, spied_runs):
    path, image = save_mixer(tmp_path / "a.onnx", OUTPUTS), noise(SIDE, SIDE)
    found = SaliencyModel(path, CPU, map=which, **PLAIN)(image)
    np.testing.assert_allclose(found.map, image[..., channel] / 255, atol=1e-6)
    assert [names for names, _ in spied_runs] == [[["1959"], ["d1"], ["last"]][channel]]


@pytest.mark.parametrize(
    ("which", "expected"),
    [
        (2, "returns 1×2×16×16 as output 2, expected one map"),
        ("features", "returns 1×2×16×16 as output features, expected one map"),
        (4, "has no output 4"),
        (-5, "has no output -5"),
        ("d2", "has no output d2"),
    ],
)
def test_an_output_that_is_no_map_or_not_there_is_told_with_all_that_are(tmp_path, which, expected):
    path = save_mixer(tmp_path / "a.onnx", OUTPUTS)
    with pytest.raises(InputError) as error:
        SaliencyModel(path, CPU, map=which)(noise(SIDE, SIDE))
    text = str(error.value)
    assert f"a.onnx {expected}" in text and "--saliency_map" in text and "\n" not in text
    assert "0 (1959): 1×1×16×16, 1 (d1): 1×1×16×16, 2 (features): 1×2×16×16, 3 (last): 1×1×16×16" in text


class Nested(nn.Module):
    """Edges, then saliency: red and green, then blue and red, with and without all of their dimensions."""

    def forward(self, images: torch.Tensor) -> tuple[list[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]:
        return [images[:, :1], images[:, 1]], (images[0, 2], images[:, 0, :, :, None])


class Named(nn.Module):
    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"side": images, "out": images[:, 1:2]}


@pytest.mark.parametrize(
    ("network", "which", "channel"),
    [(Nested(), 0, 0), (Nested(), 1, 1), (Nested(), "0.1", 1), (Nested(), "1.0", 2), (Nested(), -1, 0),
     (Named(), "out", 1), (Named(), -1, 1)],
)  # fmt: skip
def test_outputs_in_nested_lists_and_dicts(tmp_path, network, which, channel):
    path, image = save_torchscript(tmp_path / "a.pt", network), noise(SIDE, SIDE)
    found = SaliencyModel(path, CPU, map=which, input_size=SIDE, **PLAIN)(image)
    np.testing.assert_allclose(found.map, image[..., channel] / 255, atol=1e-6)


def test_all_of_nested_outputs_are_told(tmp_path):
    path = save_torchscript(tmp_path / "a.pt", Nested())
    with pytest.raises(InputError, match=r"has no output 9; .* 0 \(0\.0\): 1×1×16×16, .*, 2 \(1\.0\): 16×16, "):
        SaliencyModel(path, CPU, map=9, input_size=SIDE)(noise(SIDE, SIDE))


@pytest.mark.parametrize(
    ("kind", "shape"), [(TensorProto.UINT8, [1, 3, 8, 8]), (TensorProto.FLOAT, [3, 8, 8]), (TensorProto.FLOAT, [8, 8])]
)
def test_an_input_that_is_no_image_is_named(tmp_path, kind, shape):
    tensors = [helper.make_tensor_value_info(name, kind, shape) for name in ("image", "map")]
    graph = helper.make_graph([helper.make_node("Identity", ["image"], ["map"])], "same", tensors[:1], tensors[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, tmp_path / "a.onnx")
    with pytest.raises(
        InputError, match=rf"takes tensor\(\w+\) of {'×'.join(map(str, shape))}, expected floats, 1×3×S×S"
    ):
        SaliencyModel(tmp_path / "a.onnx", CPU)


@pytest.mark.parametrize(("device", "number"), [("cuda", 0), ("cuda:1", 1)])
@pytest.mark.parametrize("starts", [True, False])
def test_onnx_runs_on_the_chosen_card(tmp_path, monkeypatch, device, number, starts):
    """No card is here: the providers that are asked for, and that a session says it runs on, are looked at."""
    on_card, asked = ["CUDAExecutionProvider", "CPUExecutionProvider"], []
    usual = onnxruntime.InferenceSession

    def session(path: str, providers: list) -> onnxruntime.InferenceSession:
        asked.extend(providers)
        found = usual(path, providers=["CPUExecutionProvider"])
        found.get_providers = lambda: on_card if starts else on_card[1:]
        return found

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["TensorrtExecutionProvider", *on_card])
    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    found = SaliencyModel(save_mixer(tmp_path / "a.onnx", {"map": [RED]}), torch.device(device))
    assert asked == [("CUDAExecutionProvider", {"device_id": number}), ("CPUExecutionProvider", {})]
    assert found.on_cuda is starts
    where = f"CUDAExecutionProvider, CPUExecutionProvider (device_id {number})" if starts else "CPUExecutionProvider"
    assert found.runs_on == f"onnxruntime: {where}"


def test_where_it_runs_without_a_card(tmp_path):
    assert model(save(tmp_path / "a.onnx")).runs_on == "onnxruntime: CPUExecutionProvider"
    assert model(save(tmp_path / "a.pt")).runs_on == "TorchScript on cpu"


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
