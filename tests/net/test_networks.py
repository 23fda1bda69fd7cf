"""Both networks against the golden arrays (1e-4 relative)."""

from copy import deepcopy

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from misc.run.device import to_device
from net.cpu import convolution, winograd
from net.cpu.fast import fast_on_cpu
from net.resnet50_cam import ResNet50CAM
from net.resnet50_sbe import ResNet50SBE


@pytest.fixture(scope="module")
def classifier(fill_with_formula, device):
    model = ResNet50CAM(20)
    fill_with_formula(model.state_dict())
    return to_device(model, device)


@pytest.fixture(scope="module")
def boundary_network(fill_with_formula, device):
    model = ResNet50SBE()
    fill_with_formula(model.state_dict())
    return to_device(model, device)


def assert_close(found: torch.Tensor, expected: np.ndarray) -> None:
    np.testing.assert_allclose(found.detach().cpu(), expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("fast", [False, True])
def test_classifier_logits_loss_and_gradients(golden, classifier, fast, monkeypatch, device):
    g = golden("networks")
    if fast:
        monkeypatch.setattr(winograd, "WORTHWHILE", 0)  # the golden images are small
        classifier = fast_on_cpu(deepcopy(classifier).train())
        assert sum(isinstance(module, winograd.WinogradConv2d) for module in classifier.modules()) == 8
    classifier.train()
    classifier.zero_grad()
    logits = classifier(torch.from_numpy(g["x"]).to(device))
    assert_close(logits, g["cam_logits"])
    loss = F.multilabel_soft_margin_loss(logits, torch.from_numpy(g["label"]).to(device))
    assert loss.item() == pytest.approx(float(g["cam_loss"]), rel=1e-4)
    loss.backward()
    parameters = dict(classifier.named_parameters())
    assert set(parameters) == set(g["cam_grad_names"])
    for name, norm in zip(g["cam_grad_names"], g["cam_grad_norms"], strict=True):
        gradient = parameters[name].grad
        if np.isnan(norm):
            assert gradient is None, name
        else:
            assert gradient.norm().item() == pytest.approx(norm, rel=1e-4), name


@torch.inference_mode()
def test_classifier_maps(golden, classifier, device):
    g = golden("networks")
    pair, few = torch.from_numpy(g["x"]).to(device), torch.tensor([3, 14], device=device)
    assert_close(classifier.eval().cam(pair, torch.arange(20, device=device)), g["cam_infer"])
    assert_close(classifier.eval().cam(pair, few), g["cam_infer"][[3, 14]])
    assert_close(classifier.eval().cam(pair, few, apart=True), g["cam_infer"][[3, 14]])


def test_batch_norm_keeps_its_statistics_in_training(golden, classifier, device):
    before = {name: value.clone() for name, value in classifier.named_buffers()}
    classifier.train()(torch.from_numpy(golden("networks")["x"]).to(device))
    for name, value in classifier.named_buffers():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


def test_bfloat16_in_the_convolutions_and_what_lies_between_them_alone(classifier, boundary_network, device):
    """On a CPU as on CUDA, where autocast leaves other operations in bfloat16."""
    x, types = torch.rand(2, 3, 48, 48, device=device), {}
    for network in (classifier, boundary_network):
        network.eval()  # else their norms would learn from x
    heads = {name: getattr(boundary_network, name) for name in ("fc_edge1", "fc_edge3", "fc_edge5")}
    watched = heads | {"conv": classifier.resnet50.layer3[0].conv2, "norm": classifier.resnet50.layer3[0].bn2}
    hooks = [
        module.register_forward_hook(lambda module, args, out, name=name: types.update({name: out.dtype}))
        for name, module in watched.items()
    ]
    with torch.autocast(device.type, torch.bfloat16):
        pooled = []
        hook = classifier.classifier.register_forward_pre_hook(lambda module, args: pooled.append(args[0].dtype))
        classifier(x)
        assert boundary_network.logits(x).dtype == torch.float32
    for each in (*hooks, hook):
        each.remove()
    assert pooled == [torch.float32]  # after the attention
    assert types == dict.fromkeys(heads, torch.float32) | dict.fromkeys(("conv", "norm"), torch.bfloat16)


@torch.inference_mode()
def test_boundary_network(golden, boundary_network, device):
    g = golden("networks")
    x = torch.from_numpy(g["x"]).to(device)
    assert_close(boundary_network.train()(x), g["boundary_forward"])
    assert_close(boundary_network.eval().edge(x), g["boundary_infer"][0])
    assert_close(boundary_network.edge(x, apart=True), g["boundary_infer"][0])


def test_only_the_heads_of_the_boundary_network_learn(golden, boundary_network, device):
    g = golden("networks")
    trained = {name for name, p in boundary_network.named_parameters() if p.requires_grad}
    assert trained == set(g["boundary_trainable"])
    boundary_network.train()(torch.from_numpy(g["x"]).to(device)).sum().backward()
    assert {name for name, p in boundary_network.named_parameters() if p.grad is not None} == trained


@torch.inference_mode()
@pytest.mark.parametrize("size", [(1, 1), (3, 40), (65, 97), (64, 96)])
def test_edge_lies_on_the_stride_4_grid(boundary_network, size, device):
    edge = boundary_network.eval().edge(torch.zeros(2, 3, *size, device=device))
    assert edge.shape == ((size[0] - 1) // 4 + 1, (size[1] - 1) // 4 + 1)


@pytest.mark.parametrize("n_classes", [1, 3, 80])
def test_any_number_of_classes(n_classes):
    model = ResNet50CAM(n_classes).eval()
    with torch.inference_mode():
        assert model(torch.zeros(1, 3, 32, 48)).shape == (1, n_classes)


@pytest.mark.parametrize("compiled", [True, False])
@torch.inference_mode()
def test_fast_networks_give_the_golden_numbers(golden, fill_with_formula, compiled, monkeypatch, device):
    if not compiled:
        monkeypatch.setattr(convolution, "library", lambda source: None)
    g = golden("networks")
    x = torch.from_numpy(g["x"]).to(device)
    for model in (ResNet50CAM(20), ResNet50SBE()):
        fill_with_formula(model.state_dict())
        to_device(fast_on_cpu(model.eval()), device)
        assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in model.modules())
        if isinstance(model, ResNet50CAM):
            assert_close(model.cam(x, torch.arange(20, device=device)), g["cam_infer"])
        else:
            assert_close(model.edge(x), g["boundary_infer"][0])


@torch.inference_mode()
def test_large_images_one_by_one_give_the_same(golden, classifier, boundary_network, monkeypatch, device):
    pair, keys = torch.from_numpy(golden("networks")["x"]).to(device), torch.tensor([1, 5], device=device)
    together = classifier.eval().cam(pair, keys), boundary_network.eval().edge(pair)
    monkeypatch.setattr("net.resnet50.PIXELS_AT_ONCE", 10)
    torch.testing.assert_close(classifier.cam(pair, keys), together[0])
    torch.testing.assert_close(boundary_network.edge(pair), together[1])
