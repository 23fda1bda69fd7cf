"""Winograd's convolution that learns is nn.Conv2d's, in its results, its gradients and its state."""

import copy

import pytest
import torch
from torch import nn

from net.cpu import winograd
from net.cpu.winograd import POINTS, WinogradConv2d, transforms

SIZES = [(1, 1), (3, 9), (4, 4), (5, 8), (13, 7), (24, 32)]


@pytest.fixture(autouse=True)
def every_size_is_worthwhile(monkeypatch):
    monkeypatch.setattr(winograd, "WORTHWHILE", 0)
    monkeypatch.setattr(winograd, "LEAST_CHANNELS", 0)


def pair(channels: int, out_channels: int, *, bias: bool = True) -> tuple[nn.Conv2d, WinogradConv2d]:
    torch.manual_seed(0)
    direct = nn.Conv2d(channels, out_channels, 3, padding=1, bias=bias)
    return direct, WinogradConv2d.of(direct)


def images(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1)).relu()


@torch.no_grad()
def exact(direct: nn.Conv2d, x: torch.Tensor) -> torch.Tensor:
    return copy.deepcopy(direct).double()(x.double())


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("n", [1, 3])
def test_accuracy_is_that_of_float32(size, n):
    direct, short = pair(64, 48)
    x = images(n, 64, *size)
    expected = exact(direct, x)
    error, direct_error = ((conv(x).detach() - expected).abs().max() for conv in (short, direct))
    assert error <= max(3 * direct_error, 3e-6)


def test_the_usual_points_would_be_less_accurate():
    direct, short = pair(64, 64)
    x = images(2, 64, 32, 32)
    expected, ours = exact(direct, x), short(x).detach()
    with pytest.MonkeyPatch.context() as patch:
        for name, matrix in transforms((0, 1, -1, 2, -2))._asdict().items():
            patch.setattr(winograd, name.upper(), matrix.float())
        usual = WinogradConv2d.of(direct)(x).detach()
    assert (usual - expected).abs().max() > 2 * (ours - expected).abs().max()
    assert transforms(POINTS).values.float().equal(winograd.VALUES)


def test_transforms_of_values_and_products_are_exact_in_float32():
    for matrix in winograd.TRANSFORMS.values, winograd.TRANSFORMS.results:
        torch.testing.assert_close(matrix.float().double(), matrix, rtol=1e-15, atol=1e-15)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("bias", [True, False])
def test_gradients(size, bias):
    direct, short = pair(12, 20, bias=bias)
    x = images(2, 12, *size)
    upstream = images(2, 20, *size) - 0.3
    found = []
    for conv in (copy.deepcopy(direct).double(), short):
        dtype = conv.weight.dtype
        inputs = x.to(dtype, copy=True).requires_grad_()
        conv(inputs).backward(upstream.to(dtype))
        found.append([inputs.grad, *(p.grad for p in conv.parameters())])
    for expected, ours in zip(*found, strict=True):
        torch.testing.assert_close(ours.double(), expected, rtol=0, atol=2e-6 * expected.abs().max().item())


def test_only_the_gradients_asked_for():
    _, short = pair(8, 8)
    x = images(1, 8, 6, 6)
    short.weight.requires_grad_(False)
    short(x).sum().backward()
    assert short.weight.grad is None and short.bias is not None and short.bias.grad is not None
    short.weight.requires_grad_(True)
    short(x).sum().backward()
    assert short.weight.grad is not None and x.grad is None


def test_any_number_of_threads_gives_the_same_bytes():
    _, short = pair(128, 128)
    x = images(2, 128, 47, 63)
    threads = torch.get_num_threads()
    try:
        results = []
        for number in (1, 2, 5):
            torch.set_num_threads(number)
            results.append(short(x).detach())
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])


def test_other_types_are_convolved_directly():
    direct, short = pair(8, 8)
    x = images(1, 8, 9, 9)
    assert torch.equal(copy.deepcopy(short).double()(x.double()), copy.deepcopy(direct).double()(x.double()))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(short(x), direct(x))


def test_what_learns_nothing_or_little_is_convolved_directly(monkeypatch):
    direct, short = pair(8, 8)
    x = images(1, 8, 22, 22)
    assert not torch.equal(short(x), direct(x))
    with torch.no_grad():
        assert torch.equal(short(x), direct(x))
    monkeypatch.undo()
    assert torch.equal(short(x), direct(x))


def test_memory_formats():
    direct, short = pair(16, 16)
    x = images(2, 16, 9, 10)
    for conv in (short, copy.deepcopy(short).to(memory_format=torch.channels_last)):
        for given in (x, x.contiguous(memory_format=torch.channels_last), images(2, 16, 10, 9).mT):
            torch.testing.assert_close(conv(given), direct(given), rtol=0, atol=1e-5)


def test_state_dict_and_parameters_are_those_of_the_convolution():
    direct, short = pair(8, 8)
    assert short.weight is direct.weight and short.bias is direct.bias
    short(images(1, 8, 5, 5))
    assert list(short.state_dict()) == list(direct.state_dict())


@pytest.mark.parametrize(
    "other",
    [
        nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 1, 1, groups=2),
        nn.Conv2d(8, 8, 3, padding=2, dilation=2), nn.Conv2d(8, 8, 3, padding="same"),
        nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect"), nn.Linear(8, 8),
    ],
)  # fmt: skip
def test_other_modules_cannot_be_replaced(other):
    assert not WinogradConv2d.can_replace(other)


def test_layers_of_few_channels_stay(monkeypatch):
    direct, _ = pair(8, 8)
    assert WinogradConv2d.can_replace(direct)
    monkeypatch.undo()
    assert not WinogradConv2d.can_replace(direct)
