"""The compiled convolution is nn.Conv2d's, whatever the vectors of the processor, the shapes and the threads."""

import copy
import multiprocessing
import os
import shutil
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from misc import native
from net.cpu import convolution
from net.cpu.convolution import FrozenConvolution, can_convolve, pack_panels

# Flags that compile it as for other processors; the compiler emulates vectors that this processor lacks.
PROCESSORS = {"this one": (), "SSE": ("-U__AVX512F__", "-U__AVX__"), "AVX2": ("-U__AVX512F__", "-D__AVX__"),
              "AVX-512": ("-D__AVX512F__",), "NEON": ("-U__AVX512F__", "-U__AVX__", "-D__aarch64__")}  # fmt: skip

pytestmark = pytest.mark.skipif(not shutil.which(os.environ.get("CC") or "cc"), reason="no C compiler")


@pytest.fixture(
    params=[pytest.param(name, marks=pytest.mark.slow if flags else ()) for name, flags in PROCESSORS.items()]
)
def processor(request, monkeypatch):
    library = native.library
    monkeypatch.setattr(convolution, "library", lambda source: library(source, *PROCESSORS[request.param]))
    convolution._sizes.cache_clear()
    yield request.param
    convolution._sizes.cache_clear()


def conv(channels: int, out_channels: int, side: int, stride: int = 1, *, bias: bool = True) -> nn.Conv2d:
    torch.manual_seed(0)
    return nn.Conv2d(channels, out_channels, side, stride, padding=side // 2, bias=bias)


def images(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1)).relu()


@torch.no_grad()
def assert_right(given: nn.Conv2d, x: torch.Tensor, *, times: float = 4) -> None:
    """Errors are those of float32, times so much, with bias, shortcut and ReLU, and without."""
    frozen = FrozenConvolution(given)
    expected = copy.deepcopy(given).double()(x.double())
    shortcut = torch.randn(expected.shape)
    # Each of n additions rounds by 2**-24 of its sum at most, independently of the others: together about sqrt(n) times
    # that. torch may do better, since it adds in several lanes, or worse.
    n = given.weight[0].numel() + 2  # bias and shortcut
    rounding = 2**-24 * n**0.5 * (expected + shortcut).square().mean().sqrt().item()
    allowed = times * max((given(x) - expected).abs().max().item(), rounding)
    torch.testing.assert_close(frozen(x, relu=False).double(), expected, rtol=0, atol=allowed)
    found = frozen(x, relu=True, shortcut=shortcut.clone())
    torch.testing.assert_close(found.double(), F.relu(expected + shortcut), rtol=0, atol=allowed)


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("size", [(1, 1), (2, 9), (4, 4), (5, 8), (13, 7), (24, 32)])
@pytest.mark.parametrize(("side", "stride"), [(1, 1), (1, 2), (3, 1), (3, 2), (7, 2)])
def test_sizes(processor, n, size, side, stride):
    assert_right(conv(16, 32, side, stride), images(n, 16, *size))


@pytest.mark.parametrize(
    ("channels", "out_channels"), [(1, 1), (3, 64), (5, 7), (32, 33), (33, 32), (600, 40), (1030, 24), (530, 64)]
)
@pytest.mark.parametrize("side", [1, 3])
def test_channels(processor, channels, out_channels, side):
    """Among them some of more values than a panel of weights is deep."""
    assert_right(conv(channels, out_channels, side), images(1, channels, 7, 6))


@pytest.mark.parametrize("size", [(47, 63), (20, 40)])
def test_several_blocks(processor, size):
    assert_right(conv(64, 64, 3), images(2, 64, *size))


def test_the_stem(processor):
    assert_right(conv(3, 64, 7, 2, bias=False), images(2, 3, 45, 61))


def test_winograd_is_taken_where_it_can_be(processor):
    lanes, columns = convolution._sizes().lanes, convolution._sizes().panel_columns
    assert FrozenConvolution(conv(lanes, columns, 3)).winograd
    for other in conv(lanes, columns, 3, 2), conv(lanes, columns, 1), conv(lanes + 1, columns, 3), conv(lanes, 1, 3):
        assert not FrozenConvolution(other).winograd
    assert not FrozenConvolution(nn.Conv2d(lanes, columns, 3)).winograd


@pytest.mark.parametrize("side", [1, 3])
def test_nothing_beside_the_result_is_written(side):
    """A result is written in whole vectors, where need be beside its place first."""
    around = torch.full((3, 5, 9, 7), 7.0).to(memory_format=torch.channels_last)
    result = FrozenConvolution(conv(4, 5, side))(images(1, 4, 9, 7), relu=True, shortcut=around.narrow(0, 1, 1))
    assert torch.equal(result, around[1:2])
    assert (around[0] == 7).all() and (around[2] == 7).all()


@pytest.mark.parametrize("given", [conv(128, 128, 3), conv(40, 130, 1), conv(24, 20, 3, 2)])
def test_any_number_of_threads_gives_the_same_bytes(given):
    frozen, x = FrozenConvolution(given), images(2, given.in_channels, 47, 63)
    threads = torch.get_num_threads()
    try:
        results = []
        for number in (1, 2, 5):
            torch.set_num_threads(number)
            results.append(frozen(x, relu=True))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])


@pytest.mark.parametrize("side", [1, 3])
@pytest.mark.parametrize("of_weights", [torch.contiguous_format, torch.channels_last])
@torch.no_grad()
def test_memory_formats(side, of_weights):
    given = conv(32, 32, side).to(memory_format=of_weights)
    frozen, x = FrozenConvolution(given), images(2, 32, 9, 10)
    for other in (x, x.contiguous(memory_format=torch.channels_last), images(2, 32, 10, 9).mT, x[:, :, ::2, 1::2]):
        result = frozen(other, relu=False, shortcut=torch.ones_like(given(other)))
        torch.testing.assert_close(result, given(other) + 1, rtol=0, atol=1e-5)


def test_the_shortcut_is_overwritten():
    shortcut = torch.zeros(1, 16, 4, 4).to(memory_format=torch.channels_last)
    result = FrozenConvolution(conv(8, 16, 1))(images(1, 8, 4, 4), relu=True, shortcut=shortcut)
    assert result.data_ptr() == shortcut.data_ptr()


def test_nothing_is_recorded():
    x = images(1, 8, 4, 4).requires_grad_()
    assert not FrozenConvolution(conv(8, 16, 3))(x, relu=True).requires_grad


@pytest.mark.parametrize("shapes", [((1, 9, 4, 4), None), ((1, 8, 4, 4), (1, 16, 4, 5)), ((1, 8, 4, 4), (2, 16, 4, 4))])
def test_other_shapes_are_refused(shapes):
    x, shortcut = (None if shape is None else torch.zeros(shape) for shape in shapes)
    with pytest.raises(ValueError, match="expected 8 channels"):
        FrozenConvolution(conv(8, 16, 1))(x, relu=True, shortcut=shortcut)


@pytest.mark.parametrize(
    "other",
    [
        nn.Conv2d(8, 8, (1, 3)), nn.Conv2d(8, 8, 1, (1, 2)), nn.Conv2d(8, 8, 3, padding=(1, 0)),
        nn.Conv2d(8, 8, 3, padding="same"), nn.Conv2d(8, 8, 3, dilation=2), nn.Conv2d(8, 8, 3, groups=2),
        nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect"), nn.Conv2d(8, 8, 3).double(),
    ],
)  # fmt: skip
def test_other_convolutions_are_refused(other):
    assert not can_convolve(other)
    with pytest.raises(ValueError, match="not for Conv2d"):
        FrozenConvolution(other)


def test_other_types_are_refused():
    with pytest.raises(ValueError, match="float32"):
        FrozenConvolution(conv(8, 16, 1))(torch.zeros(1, 8, 4, 4).double(), relu=True)


@pytest.mark.parametrize("side", [1, 3])
def test_no_images(side):
    assert FrozenConvolution(conv(8, 16, side))(torch.zeros(0, 8, 4, 4), relu=True).shape == (0, 16, 4, 4)


@pytest.mark.parametrize(("channels", "out_channels", "side"), [(16, 32, 1), (16, 32, 3)])
def test_what_is_not_a_number_stays_so(processor, channels, out_channels, side):
    x = images(1, channels, 9, 9)
    x[0, 3, 4, 4] = torch.nan
    assert FrozenConvolution(conv(channels, out_channels, side))(x, relu=True)[0, :, 4, 4].isnan().all()


def test_copies_convolve_too():
    frozen, x = FrozenConvolution(conv(8, 16, 3)), images(1, 8, 9, 9)
    assert torch.equal(copy.deepcopy(frozen)(x, relu=True), frozen(x, relu=True))


def test_want_of_memory_is_an_error(monkeypatch):
    frozen = FrozenConvolution(conv(8, 16, 1))
    monkeypatch.setattr(convolution, "_convolution_c", lambda: SimpleNamespace(convolve=lambda *_: 0))
    with pytest.raises(MemoryError):
        frozen(images(2, 8, 40, 40), relu=True)


def in_child(frozen, x, expected, answers) -> None:
    answers.put(bool((frozen(x, relu=True).numpy() == expected.numpy()).all()))  # torch's own threads would hang here


def test_forked_children_do_without_the_threads_of_their_parent():
    frozen, x = FrozenConvolution(conv(32, 32, 3)), images(2, 32, 47, 63).to(memory_format=torch.channels_last)
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        context = multiprocessing.get_context("fork")
        answers = context.Queue()
        child = context.Process(target=in_child, args=(frozen, x, frozen(x, relu=True), answers), daemon=True)
        child.start()
        assert answers.get(timeout=60)
        child.join()
    finally:
        torch.set_num_threads(threads)


def test_panels():
    """Two matrices of 3 rows and 3 columns in pieces of 2 rows, in panels of 2 columns."""
    matrices = torch.arange(1, 19).view(2, 3, 3)
    first = [1, 2, 4, 5, 3, 0, 6, 0, 7, 8, 9, 0]
    assert pack_panels(matrices, 2, 2).tolist() == [*first, *(value and 9 + value for value in first)]
