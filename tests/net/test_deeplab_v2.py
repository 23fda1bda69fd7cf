"""DeepLab-v2 against the golden arrays, and the weights it can be given."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from torchvision.models import resnet50

from misc.errors import InputError
from misc.run.device import to_device
from misc.train.segmentation_loss import segmentation_losses
from net.cpu.fast import fast_on_cpu
from net.deeplab_v2 import CAFFE, TORCHVISION, DeepLabV2, Family, conv_norms
from net.deeplab_weights import caffe_name, first_head, initial_network, recognise, save_network, trained_network
from tests.conftest import GOLDEN
from tests.golden.formula_weights_deeplab import fill


def of_formula(n_labels: int, *, depth: int, family: Family) -> DeepLabV2:
    with torch.device("meta"):
        network = DeepLabV2(n_labels, depth=depth, family=family)
    network.to_empty(device="cpu")
    fill({f"base.{caffe_name(name)}": tensor for name, tensor in network.state_dict().items()})
    return network


@pytest.fixture(scope="module")
def network() -> DeepLabV2:
    return of_formula(21, depth=101, family=CAFFE)


@pytest.fixture(scope="module")
def network_there(network, device) -> DeepLabV2:
    """The network on the device of the tests."""
    return to_device(deepcopy(network), device)


@pytest.fixture(scope="module")
def small() -> DeepLabV2:
    """A ResNet-50 of three classes and background with formula weights."""
    return of_formula(4, depth=50, family=TORCHVISION)


def assert_close(found: torch.Tensor, expected: np.ndarray) -> None:
    np.testing.assert_allclose(found.cpu(), expected, rtol=0, atol=1e-4)


@torch.inference_mode()
def test_golden_logits(golden, network_there, device):
    g = golden("deeplab_forward")
    maps = network_there.train()(torch.from_numpy(g["x"]).to(device))
    for found, scale in zip(maps, ("1.0", "0.5", "0.75", "max"), strict=True):
        assert_close(found, g[f"train_{scale}"])
    assert_close(network_there.eval().predict(torch.from_numpy(g["x2"]).to(device)), g["eval_x2"])
    fast = to_device(fast_on_cpu(deepcopy(network_there)), device)
    wide = torch.from_numpy(g["x_wide"]).to(device)
    assert_close(fast.single_scale()(wide), g["base_x_wide"])
    assert_close(fast.predict(wide), g["eval_x_wide"])


@pytest.mark.parametrize(
    ("batch", "kind", "norms"),
    [
        (0, "ce", "grad_norm0"),
        pytest.param(1, "ce", "grad_norm1", marks=pytest.mark.slow),
        pytest.param(0, "balanced", "balanced_grad_norm0", marks=pytest.mark.slow),
    ],
)
def test_golden_losses_and_gradients(batch, kind, norms, golden, network_there, device):
    g = golden("deeplab_loss")
    maps = network_there.train()(torch.from_numpy(g["x"]).to(device))
    labels = torch.from_numpy(g[f"labels{batch}"]).to(device)
    losses = segmentation_losses(maps, labels, balanced=kind == "balanced")
    np.testing.assert_allclose(losses.detach().cpu(), g[f"{kind}{batch}"], rtol=1e-5)
    parameters = {f"base.{caffe_name(name)}": p for name, p in network_there.named_parameters() if p.requires_grad}
    gradients = dict(zip(parameters, torch.autograd.grad(losses.sum(), list(parameters.values())), strict=True))
    norm_of = {name: norm for name, norm in zip(g["param_names"], g[norms], strict=True) if not np.isnan(norm)}
    assert gradients.keys() == norm_of.keys()
    assert {name: gradients[name].norm().item() for name in norm_of} == pytest.approx(norm_of, rel=2e-3)
    for name in [key.removeprefix("grad0_") for key in g if key.startswith("grad0_")] if norms == "grad_norm0" else ():
        expected = g[f"grad0_{name}"]
        np.testing.assert_allclose(gradients[name].cpu(), expected, rtol=0, atol=5e-3 * np.abs(expected).max())


def test_golden_parameter_groups(golden, network):
    g = golden("deeplab_loss")
    name_of = {id(p): f"base.{caffe_name(name)}" for name, p in network.named_parameters()}
    for group, mark in zip(network.parameter_groups(), ("1x", "10x", "20x"), strict=True):
        assert {name_of[id(p)] for p in group} == set(g["param_names"][g["param_group"] == mark])


@pytest.mark.parametrize(("side", "grids"), [(321, [41, 21, 31]), (481, [61, 31, 46])])
def test_grids_of_the_crops(side, grids):
    with torch.device("meta"):
        maps = DeepLabV2(2, depth=50, family=CAFFE)(torch.zeros(1, 3, side, side))
    assert [grid.shape[2] for grid in maps] == [*grids, grids[0]]


def test_checkpointing_keeps_less_and_gives_the_same_gradients(small):
    small.train()
    x = torch.zeros(1, 3, 17, 17).normal_(generator=torch.Generator().manual_seed(0))
    found = []
    for checkpointing in (False, True):
        small.checkpointing = checkpointing
        kept = 0

        def count(tensor):
            nonlocal kept
            kept += 1
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            loss = sum(logits.square().sum() for logits in small(x))
        gradients = torch.autograd.grad(loss, [p for group in small.parameter_groups() for p in group])
        found.append((kept, gradients))
    small.checkpointing = False
    (all_kept, expected), (few_kept, gradients) = found
    assert few_kept < all_kept
    assert all(torch.equal(one, other) for one, other in zip(expected, gradients, strict=True))


@torch.inference_mode()
def test_the_smallest_images(small):
    for size in ((1, 1), (2, 3)):
        assert small.eval().predict(torch.zeros(1, 3, *size)).isfinite().all()


def test_what_learns(network):
    assert [len(group) for group in network.parameter_groups()] == [104, 4, 4]
    assert not any(p.requires_grad for _, norm in conv_norms(network.backbone) for p in norm.parameters())


@pytest.mark.slow
def test_our_checkpoints_have_the_names_and_shapes_of_the_communitys(network, tmp_path):
    lines = (GOLDEN / "deeplab_checkpoint_keys.txt").read_text().split("# 2.")[0].splitlines()
    wanted = [line.rsplit(" ", 1)[0] for line in lines if not line.startswith("#") and line]
    save_network(network, tmp_path / "deeplab.pth")
    state = torch.load(tmp_path / "deeplab.pth", weights_only=True)
    assert sorted(f"{name} {tuple(tensor.shape)}" for name, tensor in state.items()) == sorted(wanted)
    again = trained_network(tmp_path / "deeplab.pth", 21)
    assert again.family is CAFFE and again.depth == 101
    for name, tensor in network.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor)


@pytest.mark.slow
def test_torchvisions_weights_make_another_network_than_the_communitys(small, tmp_path):
    save_network(small, tmp_path / "deeplab.pth")
    again = trained_network(tmp_path / "deeplab.pth", 4)
    assert again.family is TORCHVISION and again.depth == 50
    x = torch.zeros(1, 3, 17, 17).normal_(generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(again.eval().predict(x), small.eval().predict(x))
        twin = of_formula(4, depth=50, family=CAFFE)
        assert not torch.allclose(twin.eval().predict(x), small.predict(x), atol=1e-3)


def test_initial_weights_of_torchvision(tmp_path):
    backbone = resnet50(weights=None)
    torch.save(backbone.state_dict(), tmp_path / "resnet50.pth")
    network = initial_network(str(tmp_path / "resnet50.pth"), 4, depth=50, seed=1)
    assert network.family is TORCHVISION
    assert torch.equal(network.backbone.layer4[2].conv3.weight, backbone.layer4[2].conv3.weight)
    assert torch.equal(network.aspp["c3"].weight, first_head(4, seed=1)["aspp.c3.weight"])
    assert not torch.equal(network.aspp["c3"].weight, first_head(4, seed=2)["aspp.c3.weight"])
    assert network.aspp["c0"].weight.std().item() == pytest.approx(0.01, rel=0.01)
    assert not network.aspp["c0"].bias.any()


def test_initial_weights_of_the_community(network, tmp_path):
    """As the COCO file: without `base.` and without a head, statistics in double precision, a classifier of 91."""
    state = {caffe_name(name): tensor for name, tensor in network.state_dict().items() if "aspp" not in name}
    state = {name: tensor.double() if "running" in name else tensor for name, tensor in state.items()}
    torch.save({**state, "fc.weight": torch.zeros(91, 2048, 1, 1), "fc.bias": torch.zeros(91)}, tmp_path / "coco.pth")
    started = initial_network(str(tmp_path / "coco.pth"), 21, depth=101, seed=1)
    assert started.family is CAFFE and started.aspp["c1"].weight.shape == (21, 2048, 3, 3)
    assert started.backbone.bn1.running_mean.dtype == torch.float32
    with pytest.raises(InputError, match="--deeplab_depth 101"):
        initial_network(str(tmp_path / "coco.pth"), 21, depth=50, seed=1)
    with pytest.raises(InputError, match="without a head"):
        trained_network(tmp_path / "coco.pth", 21)


def test_a_head_of_as_many_labels_is_taken(small, tmp_path):
    save_network(small, tmp_path / "deeplab.pth")
    same = initial_network(str(tmp_path / "deeplab.pth"), 4, depth=50, seed=1)
    assert torch.equal(same.aspp["c0"].weight, small.aspp["c0"].weight)
    other = initial_network(str(tmp_path / "deeplab.pth"), 5, depth=50, seed=1)
    assert torch.equal(other.aspp["c0"].weight, first_head(5, 1)["aspp.c0.weight"])
    with pytest.raises(InputError, match="3 classes and background, expected 4"):
        trained_network(tmp_path / "deeplab.pth", 5)


def test_other_weights_are_refused():
    with pytest.raises(InputError, match="neither torchvision's"):
        recognise({"classifier.weight": torch.zeros(1)}, "other.pth")
    with pytest.raises(InputError, match="36 blocks"):
        names = ["layer1.0.conv1.weight", *(f"layer3.{n}.conv1.weight" for n in range(36))]
        recognise(dict.fromkeys(names, torch.zeros(1)), "resnet152.pth")


def test_a_damaged_head_is_refused(small, tmp_path):
    save_network(small, tmp_path / "deeplab.pth")
    state = torch.load(tmp_path / "deeplab.pth", weights_only=True)
    for name, damage in (("aspp.c0.bias", torch.tensor(0.0)), ("aspp.c2.weight", torch.zeros(4, 2048, 1, 1))):
        torch.save({**state, name: damage}, tmp_path / "damaged.pth")
        with pytest.raises(InputError):
            trained_network(tmp_path / "damaged.pth", 4)
