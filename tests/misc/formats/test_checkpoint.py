"""Checkpoints: what fits is taken over whole, what does not is named, and nothing in a file runs."""

import os
import pickle
import re
from pathlib import Path
from urllib.error import URLError

import pytest
import safetensors.torch
import torch
from torch import nn

from misc.errors import InputError
from misc.formats.checkpoint import (
    BACKBONE_HEADS,
    fill,
    load_backbone,
    load_network,
    load_weights,
    read_state,
    save_weights,
)
from net.resnet50 import resnet50_stride16
from net.resnet50_cam import ResNet50CAM
from net.resnet50_sbe import ResNet50SBE

GOLDEN = Path(__file__).resolve().parents[2] / "golden"


def small() -> nn.Module:
    return nn.Sequential(nn.Conv2d(2, 2, 3), nn.BatchNorm2d(2))


def known_state() -> dict[str, torch.Tensor]:
    """Tensors for `small`, no two numbers alike."""
    state = small().state_dict()
    count = 0
    for name, tensor in state.items():
        state[name] = (torch.arange(tensor.numel()) + count).reshape(tensor.shape).to(tensor.dtype)
        count += tensor.numel()
    return state


def filled(network, path: Path) -> nn.Module:
    module = network()
    load_weights(module, path)
    return module


def assert_holds(module: nn.Module, expected: dict[str, torch.Tensor]) -> None:
    for name, tensor in module.state_dict().items():
        torch.testing.assert_close(tensor, expected[name], rtol=0, atol=0)


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "w.pth"


def save_safetensors(state: dict[str, torch.Tensor], path: Path) -> None:
    safetensors.torch.save_file(state, path)


def save_legacy(state: dict[str, torch.Tensor], path: Path) -> None:
    torch.save(state, path, _use_new_zipfile_serialization=False)


@pytest.mark.parametrize(
    ("save", "name"), [(torch.save, "w.pth"), (save_legacy, "w.pth"), (save_safetensors, "w.safetensors")]
)
@pytest.mark.parametrize("load", [filled, load_network])
def test_formats(tmp_path, save, name, load):
    save(known_state(), tmp_path / name)
    module = load(small, tmp_path / name)
    assert_holds(module, known_state())


def test_round_trip_leaves_any_layout_behind(tmp_path):
    first = small().to(memory_format=torch.channels_last)
    first.load_state_dict(known_state())
    save_weights(first, tmp_path / "new" / "w.pth")
    second = small()
    load_weights(second, tmp_path / "new" / "w.pth")
    assert_holds(second, known_state())
    assert all(tensor.is_contiguous() for tensor in read_state(tmp_path / "new" / "w.pth").values())


@pytest.mark.parametrize("load", [filled, load_network])
def test_other_types_are_converted(path, load):
    torch.save({name: tensor.double() for name, tensor in known_state().items()}, path)
    module = load(small, path)
    assert_holds(module, known_state())


@pytest.mark.parametrize("name", ["0.weight", "0.bias", "1.running_mean", "1.weight"])
def test_a_missing_tensor_is_named(path, name):
    torch.save({n: t for n, t in known_state().items() if n != name}, path)
    with pytest.raises(InputError, match=rf"w\.pth: the tensor {re.escape(name)} is missing"):
        load_weights(small(), path)


def test_a_misshapen_tensor_is_named_with_both_shapes(path):
    torch.save(known_state() | {"1.bias": torch.zeros(3)}, path)
    with pytest.raises(InputError, match=r"1\.bias has the shape \(3,\), expected \(2,\)"):
        load_weights(small(), path)


@pytest.mark.parametrize("name", ["2.weight", "fc.weight", "xbackbone.weight", "mean_shift.weight", "stage.weight"])
def test_a_foreign_tensor_is_named(path, name):
    torch.save(known_state() | {name: torch.zeros(3)}, path)
    with pytest.raises(InputError, match=f"{re.escape(name)} belongs to no part"):
        load_weights(small(), path)


def test_nothing_is_taken_from_a_file_that_does_not_fit(path):
    torch.save(known_state() | {"other": torch.zeros(3)}, path)
    module = small()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    with pytest.raises(InputError):
        load_weights(module, path)
    assert_holds(module, before)


@pytest.mark.parametrize(
    "name", ["stage1.0.weight", "stage5.2.bn.bias", "backbone.0.x", "newly_added.0.weight", "edge_layers.1.x",
             "mean_shift.running_mean"]
)  # fmt: skip
def test_published_duplicates_are_passed_over(path, name):
    torch.save(known_state() | {name: torch.zeros(3)}, path)
    module = small()
    load_weights(module, path)
    assert_holds(module, known_state())


@pytest.mark.parametrize("load", [filled, load_network])
def test_old_files_lack_the_batch_counters(path, load):
    torch.save({n: t for n, t in known_state().items() if not n.endswith("num_batches_tracked")}, path)
    module = load(small, path)
    assert_holds(module, known_state() | {"1.num_batches_tracked": torch.tensor(0)})


def published(which: str) -> dict[str, torch.Tensor]:
    """A state dict with the names and shapes of a published checkpoint; a tensor's numbers tell its name."""
    state = {}
    for line in (GOLDEN / f"upstream_{which}_checkpoint_keys.txt").read_text().splitlines():
        name, shape = line.split(" ", 1)
        numbers = [int(n) for n in re.findall(r"\d+", shape)]
        state[name] = torch.full((), len(state)).expand(numbers)
    return state


@pytest.mark.parametrize(("which", "network"), [("cam", lambda: ResNet50CAM(20)), ("boundary", ResNet50SBE)])
def test_published_checkpoints_fill_every_tensor(monkeypatch, which, network):
    state = published(which)
    monkeypatch.setattr("misc.formats.checkpoint.read_state", lambda path: state)  # 100 MB less on the disk
    module = load_network(network, "published.pth")
    for name, tensor in module.state_dict().items():
        assert (tensor == state[name]).all(), name
    wrong = next(name for name in module.state_dict() if name.endswith("layer4.2.conv3.weight"))
    del state[wrong]
    with pytest.raises(InputError, match=f"published.pth: the tensor {wrong} is missing"):
        load_weights(module, "published.pth")


@pytest.mark.parametrize(
    ("which", "network", "named"),
    [
        ("cam", ResNet50SBE, "fc_edge1.0.weight is missing"),
        ("boundary", lambda: ResNet50CAM(20), "classifier.weight is missing"),
        ("cam", lambda: ResNet50CAM(21), r"classifier.weight has the shape \(20, 2048, 1, 1\), expected \(21,"),
    ],
)
def test_the_checkpoint_of_another_network_is_refused(monkeypatch, which, network, named):
    monkeypatch.setattr("misc.formats.checkpoint.read_state", lambda path: published(which))
    with pytest.raises(InputError, match=named):
        load_weights(network(), "published.pth")


def test_the_fc_of_imagenet_is_passed_over_in_a_backbone_only():
    state = {name: torch.ones(()).expand(tensor.shape) for name, tensor in resnet50_stride16().state_dict().items()}
    state |= {"fc.weight": torch.zeros(1000, 2048), "fc.bias": torch.zeros(1000)}
    backbone = resnet50_stride16()
    fill(backbone, state, "resnet50.pth", ignore=BACKBONE_HEADS)
    assert all((tensor == 1).all() for tensor in backbone.state_dict().values())
    with pytest.raises(InputError, match="fc_edge"):
        fill(backbone, state | {"fc_edge1.0.weight": torch.zeros(1)}, "resnet50.pth", ignore=BACKBONE_HEADS)


def test_a_backbone_from_a_file_or_left_alone(path):
    torch.save(known_state(), path)
    module = small()
    load_backbone(module, str(path))
    assert_holds(module, known_state())
    load_backbone(module, "none")
    assert_holds(module, known_state())


class Runs:
    def __reduce__(self):
        return os.system, ("touch canary",)


@pytest.mark.parametrize(
    "content", [Runs(), {"0.weight": Runs()}, known_state() | {"args": Runs()}, {Runs(): torch.zeros(1)}]
)
@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_that_would_run_code_is_refused(path, monkeypatch, content, zipped):
    monkeypatch.chdir(path.parent)
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(InputError, match=r"w\.pth: refused, .*posix\.system") as error:
        load_weights(small(), path)
    assert "weights_only" not in str(error.value)  # torch's text advises to load it all the same
    assert os.listdir() == ["w.pth"]


def test_a_bare_pickle_is_refused(path, monkeypatch):
    monkeypatch.chdir(path.parent)
    path.write_bytes(pickle.dumps(Runs()))
    with pytest.raises(InputError, match=r"w\.pth"):
        read_state(path)
    assert os.listdir() == ["w.pth"]


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
def test_damaged_files(tmp_path, name):
    (save_safetensors if name.endswith("safetensors") else torch.save)(known_state(), tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    for length in range(0, len(whole) - 1, len(whole) // 9):
        (tmp_path / name).write_bytes(whole[:length])
        with pytest.raises(InputError, match=re.escape(name)) as error:
            read_state(tmp_path / name)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["no.pth", "no.safetensors"])
def test_no_file(tmp_path, name):
    with pytest.raises(InputError, match=f"{name}: no such checkpoint"):
        read_state(tmp_path / name)


@pytest.mark.parametrize("content", [{"state_dict": {}}, [torch.zeros(1)], {1: torch.zeros(1)}, 7])
def test_no_state_dict(path, content):
    torch.save(content, path)
    with pytest.raises(InputError, match="not a state dict"):
        read_state(path)


@pytest.fixture
def imagenet_cache(tmp_path, monkeypatch) -> Path:
    """Where torchvision would keep its weights; there is no network."""

    def unplugged(*args: object, **kwargs: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.urlopen", unplugged)
    cache = tmp_path / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    return cache / "resnet50-0676ba61.pth"


def assert_says_how_to_go_on() -> None:
    with pytest.raises(InputError, match=r"https://\S+resnet50\S+\.pth.*--backbone_weights") as error:
        load_backbone(small(), "imagenet")
    assert "\n" not in str(error.value)


def test_imagenet_without_network(imagenet_cache):
    assert_says_how_to_go_on()


@pytest.mark.parametrize("content", [b"", b"half a download", b"PK\x03\x04" + b"\0" * 100])
def test_imagenet_with_a_damaged_cache(imagenet_cache, content):
    imagenet_cache.write_bytes(content)
    assert_says_how_to_go_on()


def test_imagenet_from_the_cache(imagenet_cache):
    torch.save(known_state(), imagenet_cache)
    module = small()
    load_backbone(module, "imagenet")
    assert_holds(module, known_state())
