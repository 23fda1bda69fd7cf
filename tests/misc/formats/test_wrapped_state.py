"""Weights in the wrappings of other trainings: the network's tensors are found, whatever stands before their names."""

import argparse
import re

import pytest
import torch
from torch import nn

from misc.errors import InputError
from misc.formats.checkpoint import load_backbone, load_weights, read_state
from net.deeplab_v2 import CAFFE, TORCHVISION, DeepLabV2
from net.deeplab_weights import caffe_name, recognise
from tests.misc.formats.test_checkpoint import Runs, assert_holds, known_state, small

MORE = {"epoch": 90, "arch": "resnet50", "best_acc1": torch.tensor(76.1), "args": argparse.Namespace(lr=0.1)}
MORE["optimizer"] = {"state": {0: {"momentum_buffer": torch.zeros(2)}}, "param_groups": [{"lr": 0.1}]}


def before(prefix: str, state: dict[str, torch.Tensor] | None = None) -> dict[str, torch.Tensor]:
    return {prefix + name: tensor for name, tensor in (state or known_state()).items()}


def other() -> dict[str, torch.Tensor]:
    """The tensors of a copy that is not meant."""
    return {name: torch.zeros_like(tensor) for name, tensor in known_state().items()}


MOCO = before("module.encoder_q.") | before("module.encoder_k.", other()) | {"module.queue": torch.zeros(4, 3)}
WRAPPED = {
    "DataParallel": (before("module."), "module."),
    "state_dict": ({"state_dict": known_state()} | MORE, "state_dict."),
    "pytorch/examples": ({"state_dict": before("module.")} | MORE, "state_dict.module."),
    "model": ({"model": known_state()} | MORE, "model."),
    "SIPE's net": ({"net": known_state(), "iter": 3}, "net."),
    "model_state": ({"model_state": before("module.")}, "model_state.module."),
    "OpenMMLab": (
        {"meta": {"epoch": 100}, "state_dict": before("backbone.") | {"head.fc.weight": torch.zeros(9, 2)}},
        "state_dict.backbone.",
    ),
    "MoCo": ({"state_dict": MOCO} | MORE, "state_dict.module.encoder_q."),
    "DINO": (
        {"student": before("module.backbone.", other()), "teacher": before("backbone.")} | MORE,
        "teacher.backbone.",
    ),
    "DINO, alike": (
        {"student": before("backbone.", other()), "teacher": before("backbone.")} | MORE,
        "teacher.backbone.",
    ),
}


@pytest.mark.parametrize(("content", "prefix"), WRAPPED.values(), ids=WRAPPED)
@pytest.mark.parametrize("load", ["network", "backbone"])
def test_the_tensors_are_found_and_their_prefix_is_said(tmp_path, content, prefix, load):
    path, module = tmp_path / "w.pth", small()
    torch.save(content, path)
    said: list[str] = []
    if load == "network":
        load_weights(module, path, notice=said.append)
    else:
        load_backbone(module, str(path), notice=said.append)
    assert_holds(module, known_state())
    (remark,) = said
    assert f"{path}: " in remark and repr(prefix) in remark


def test_plain_weights_are_passed_over_in_silence(tmp_path):
    torch.save(known_state(), tmp_path / "w.pth")
    said: list[str] = []
    load_weights(small(), tmp_path / "w.pth", notice=said.append)
    assert said == []


def test_two_networks_that_fit(tmp_path):
    torch.save({"state_dict": known_state(), "state_dict_ema": other()}, tmp_path / "w.pth")
    with pytest.raises(InputError, match=r"w\.pth: holds several .*'state_dict\.' and 'state_dict_ema\.'"):
        load_weights(small(), tmp_path / "w.pth")


def test_what_is_under_the_prefix_has_to_be_the_network(tmp_path):
    """A larger network that has all the tensors of ours is another one; heads are no part of a backbone."""
    path = tmp_path / "w.pth"
    for name, refused in ("2.weight", True), ("fc.0.weight", False), ("projection_head.0.weight", False):
        torch.save(before("module.", known_state() | {name: torch.zeros(3)}), path)
        if refused:
            with pytest.raises(InputError, match=f"the tensor {re.escape(name)} belongs to no part"):
                load_backbone(small(), str(path))
        else:
            module = small()
            load_backbone(module, str(path))
            assert_holds(module, known_state())
    torch.save(before("module.", known_state() | {"0.weight": torch.zeros(3, 3)}), path)
    with pytest.raises(InputError, match=r"the tensor 0\.weight has the shape \(3, 3\), expected \(2, 2, 3, 3\)"):
        load_weights(small(), path)


class Whole(nn.Sequential):
    """A network as `torch.save(model, …)` pickles it: its class by name."""


@pytest.mark.parametrize(
    "wrap", [lambda model: model, lambda model: {"state_dict": model.state_dict(), "model": model}]
)
def test_the_error_of_a_pickled_model_has_the_two_lines_that_turn_it_into_a_state_dict(tmp_path, wrap):
    model = Whole(*small())
    model.load_state_dict(known_state())
    torch.save(wrap(model), tmp_path / "whole's model.pth")
    with pytest.raises(InputError, match=r"refused, .*Whole") as error:
        load_weights(small(), tmp_path / "whole's model.pth")
    lines = re.findall("`(.*?)`", str(error.value))
    assert len(lines) == 2 and "\n" not in str(error.value)
    exec("\n".join(lines), {"torch": torch})
    (made,) = set(tmp_path.iterdir()) - {tmp_path / "whole's model.pth"}
    module = small()
    load_weights(module, made)
    assert_holds(module, known_state())


def test_no_way_is_shown_into_an_attack(tmp_path):
    torch.save({"state_dict": known_state(), "args": Runs()}, tmp_path / "w.pth")
    with pytest.raises(InputError, match="refused") as error:
        read_state(tmp_path / "w.pth")
    assert "torch.load" not in str(error.value)


# --- DeepLab


def deeplab_state(family) -> dict[str, torch.Tensor]:
    """Names alone matter to `recognise`; no two tensors are alike."""
    with torch.device("meta"):
        names = DeepLabV2(3, depth=50, family=family).state_dict()
    return {name: torch.full((3,), number) for number, name in enumerate(names)}


@pytest.mark.parametrize("prefix", ["", "module.", "state_dict.", "state_dict.module.", "model_state.net."])
@pytest.mark.parametrize("family", [TORCHVISION, CAFFE])
def test_a_deeplab_in_any_wrapping(family, prefix):
    state = deeplab_state(family)
    names = {name: f"base.{caffe_name(name)}" if family is CAFFE else name for name in state}
    said: list[str] = []
    wrapped = {prefix + names[name]: tensor for name, tensor in state.items()} | (
        {"opt.x": torch.zeros(1)} if prefix else {}
    )
    found = recognise(wrapped, "w.pth", said.append)
    assert (found.family, found.depth, found.n_labels) == (family, 50, 3)
    assert {name: int(tensor[0]) for name, tensor in found.state.items()} == {n: int(t[0]) for n, t in state.items()}
    assert bool(said) == bool(prefix) and all(repr(prefix) in remark for remark in said)


def test_a_backbone_of_openmmlab_for_deeplab():
    state = {f"state_dict.{name}": t for name, t in deeplab_state(TORCHVISION).items() if name.startswith("backbone.")}
    said: list[str] = []
    found = recognise(state | {"state_dict.head.fc.weight": torch.zeros(9)}, "w.pth", said.append)
    assert found.n_labels == 0 and len(found.state) == len(state)
    assert "1 tensors belong neither" in said[-1]
    twice = state | {name.replace("state_dict", "ema"): tensor for name, tensor in state.items()}
    with pytest.raises(InputError, match="several"):
        recognise(twice, "w.pth")
