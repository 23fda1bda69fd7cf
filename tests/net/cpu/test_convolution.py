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
from net.cpu.convolution import FrozenConvolution, halved, laid_out

# As other processors would compile it; the compiler makes up for vectors that this one lacks.
PROCESSORS = {"this one": (), "SSE": ("-U__AVX512F__", "-U__AVX__"), "AVX2": ("-U__AVX512F__", "-D__AVX__"),
              "AVX-512": ("-D__AVX512F__",), "NEON": ("-U__AVX512F__", "-U__AVX__", "-D__aarch64__")}  # fmt: skip

pytestmark = pytest.mark.skipif(not shutil.which(os.environ.get("CC") or "cc"), reason="no C compiler")


@pytest.fixture(params=PROCESSORS)
def processor(request, monkeypatch):
    library = native.library
    monkeypatch.setattr(convolution, "library", lambda source: library(source, *PROCESSORS[request.param]))
    convolution._sizes.cache_clear()
    yield request.param
    convolution._sizes.cache_clear()


def made(channels: int, out_channels: int, side: int, stride: int = 1, *, bias: bool = True) -> nn.Conv2d:
    torch.manual_seed(0)
    return nn.Conv2d(channels, out_channels, side, stride, padding=side // 2, bias=bias)


def images(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1)).relu()


@torch.no_grad()
def assert_right(given: nn.Conv2d, x: torch.Tensor, *, times: float = 3) -> None:
    """Errors are those of float32, times so much, with bias, shortcut and ReLU, and without."""
    frozen = FrozenConvolution(given)
    expected = copy.deepcopy(given).double()(x.double())
    allowed = times * max((given(x) - expected).abs().max().item(), 1e-6)
    torch.testing.assert_close(frozen(x, relu=False).double(), expected, rtol=0, atol=allowed)
    shortcut = torch.randn(expected.shape)
    found = frozen(x, relu=True, shortcut=shortcut.clone())
    torch.testing.assert_close(found.double(), F.relu(expected + shortcut), rtol=0, atol=allowed)


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("size", [(1, 1), (2, 9), (4, 4), (5, 8), (13, 7), (24, 32)])
@pytest.mark.parametrize(("side", "stride"), [(1, 1), (1, 2), (3, 1), (3, 2), (7, 2)])
def test_sizes(processor, n, size, side, stride):
    assert_right(made(16, 32, side, stride), images(n, 16, *size))


@pytest.mark.parametrize(
    ("channels", "out_channels"), [(1, 1), (3, 64), (5, 7), (32, 33), (33, 32), (600, 40), (1030, 24), (530, 64)]
)
@pytest.mark.parametrize("side", [1, 3])
def test_channels(processor, channels, out_channels, side):
    """Among them some of more values than a panel of weights is deep."""
    assert_right(made(channels, out_channels, side), images(1, channels, 7, 6))


@pytest.mark.parametrize("size", [(47, 63), (20, 40)])
def test_several_blocks(processor, size):
    assert_right(made(64, 64, 3), images(2, 64, *size))


@pytest.mark.parametrize("size", [(1, 1), (3, 4), (13, 7), (24, 33)])
@pytest.mark.parametrize(
    ("channels", "out_channels", "side", "stride"),
    [(256, 256, 1, 1), (512, 256, 1, 2), (2200, 256, 1, 1), (36, 320, 3, 2), (530, 256, 3, 2)],
)
def test_strassen(processor, size, channels, out_channels, side, stride):
    """Also where rows are missing, and in several pieces."""
    given = made(channels, out_channels, side, stride)
    assert FrozenConvolution(given).strassen
    assert_right(given, images(2, channels, *size), times=6)


def test_strassen_is_taken_where_it_can_be_and_pays(processor):
    worth, columns = convolution.WORTH_HALVING, 2 * convolution._sizes().panel_columns
    for other in (worth - 2, worth, 1), (worth, worth - columns, 1), (worth, worth, 3), (worth + 1, worth, 1):
        assert not FrozenConvolution(made(*other)).strassen
    assert not FrozenConvolution(made(worth, worth + columns // 2, 1)).strassen


def test_the_seven_products():
    """C11 … C22 from them, as multiply_strassen adds them up."""
    a, b = torch.randn(6, 8, dtype=torch.float64), torch.randn(8, 4, dtype=torch.float64)
    (a11, a12), (a21, a22) = (half.chunk(2, dim=1) for half in a.chunk(2))
    s1 = a21 + a22
    s2 = s1 - a11
    factors = a11, a12, s2, s1, a12 - s2, a11 - a21, a22
    p1, p2, p6, p5, p3, p7, p4 = (factor @ matrix for factor, matrix in zip(factors, halved(b), strict=True))
    x = p1 + p6
    blocks = [torch.cat([p1 + p2, x + p5 + p3], dim=1), torch.cat([x + p7 + p4, x + p5 + p7], dim=1)]
    torch.testing.assert_close(torch.cat(blocks), a @ b)


def test_the_stem(processor):
    assert_right(made(3, 64, 7, 2, bias=False), images(2, 3, 45, 61))


def test_winograd_is_taken_where_it_can_be(processor):
    lanes, columns = convolution._sizes().lanes, convolution._sizes().panel_columns
    assert FrozenConvolution(made(lanes, columns, 3)).winograd
    for other in made(lanes, columns, 3, 2), made(lanes, columns, 1), made(lanes + 1, columns, 3), made(lanes, 1, 3):
        assert not FrozenConvolution(other).winograd
    assert not FrozenConvolution(nn.Conv2d(lanes, columns, 3)).winograd


@pytest.mark.parametrize("side", [1, 3])
def test_nothing_beside_the_result_is_written(side):
    """A result is written in whole vectors, where need be beside its place first."""
    around = torch.full((3, 5, 9, 7), 7.0).to(memory_format=torch.channels_last)
    result = FrozenConvolution(made(4, 5, side))(images(1, 4, 9, 7), relu=True, shortcut=around.narrow(0, 1, 1))
    assert torch.equal(result, around[1:2])
    assert (around[0] == 7).all() and (around[2] == 7).all()


@pytest.mark.parametrize("given", [made(128, 128, 3), made(40, 130, 1), made(24, 20, 3, 2), made(256, 256, 1)])
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
@torch.no_grad()
def test_memory_formats(side):
    given = made(16, 16, side)
    frozen, x = FrozenConvolution(given), images(2, 16, 9, 10)
    for other in (x, x.contiguous(memory_format=torch.channels_last), images(2, 16, 10, 9).mT, x[:, :, ::2, 1::2]):
        result = frozen(other, relu=False, shortcut=torch.ones_like(given(other)))
        torch.testing.assert_close(result, given(other) + 1, rtol=0, atol=1e-5)


def test_the_shortcut_is_overwritten():
    shortcut = torch.zeros(1, 16, 4, 4).to(memory_format=torch.channels_last)
    result = FrozenConvolution(made(8, 16, 1))(images(1, 8, 4, 4), relu=True, shortcut=shortcut)
    assert result.data_ptr() == shortcut.data_ptr()


def test_nothing_is_recorded():
    x = images(1, 8, 4, 4).requires_grad_()
    assert not FrozenConvolution(made(8, 16, 3))(x, relu=True).requires_grad


@pytest.mark.parametrize("shapes", [((1, 9, 4, 4), None), ((1, 8, 4, 4), (1, 16, 4, 5)), ((1, 8, 4, 4), (2, 16, 4, 4))])
def test_other_shapes_are_refused(shapes):
    x, shortcut = (None if shape is None else torch.zeros(shape) for shape in shapes)
    with pytest.raises(ValueError, match="expected 8 channels"):
        FrozenConvolution(made(8, 16, 1))(x, relu=True, shortcut=shortcut)


@pytest.mark.parametrize(
    "other",
    [
        nn.Conv2d(8, 8, (1, 3)), nn.Conv2d(8, 8, 1, (1, 2)), nn.Conv2d(8, 8, 3, padding=(1, 0)),
        nn.Conv2d(8, 8, 3, padding="same"), nn.Conv2d(8, 8, 3, dilation=2), nn.Conv2d(8, 8, 3, groups=2),
        nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect"), nn.Conv2d(8, 8, 3).double(),
    ],
)  # fmt: skip
def test_other_convolutions_are_refused(other):
    with pytest.raises(ValueError, match="not for Conv2d"):
        FrozenConvolution(other)


def test_other_types_are_refused():
    with pytest.raises(ValueError, match="float32"):
        FrozenConvolution(made(8, 16, 1))(torch.zeros(1, 8, 4, 4).double(), relu=True)


@pytest.mark.parametrize("side", [1, 3])
def test_no_images(side):
    assert FrozenConvolution(made(8, 16, side))(torch.zeros(0, 8, 4, 4), relu=True).shape == (0, 16, 4, 4)


@pytest.mark.parametrize(("channels", "out_channels", "side"), [(16, 32, 1), (16, 32, 3), (256, 256, 1)])
def test_what_is_not_a_number_stays_so(processor, channels, out_channels, side):
    x = images(1, channels, 9, 9)
    x[0, 3, 4, 4] = torch.nan
    assert FrozenConvolution(made(channels, out_channels, side))(x, relu=True)[0, :, 4, 4].isnan().all()


def test_copies_convolve_too():
    frozen, x = FrozenConvolution(made(8, 16, 3)), images(1, 8, 9, 9)
    assert torch.equal(copy.deepcopy(frozen)(x, relu=True), frozen(x, relu=True))


def test_want_of_memory_is_an_error(monkeypatch):
    frozen = FrozenConvolution(made(8, 16, 1))
    monkeypatch.setattr(convolution, "_compiled", lambda: SimpleNamespace(convolve=lambda *_: 0))
    with pytest.raises(MemoryError):
        frozen(images(2, 8, 40, 40), relu=True)


def in_child(frozen, x, expected, answers) -> None:
    answers.put(bool((frozen(x, relu=True).numpy() == expected.numpy()).all()))  # torch's own threads would hang here


def test_forked_children_do_without_the_threads_of_their_parent():
    frozen, x = FrozenConvolution(made(32, 32, 3)), images(2, 32, 47, 63).to(memory_format=torch.channels_last)
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
    """Two matrices of 3 rows and 4 columns in pieces of 2 rows, in panels of 2 columns."""
    matrices = torch.arange(24).view(2, 3, 4)
    first = [0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 10, 11]
    expected = [*first, *(12 + value for value in first)]
    assert laid_out([matrices], 2, 2).tolist() == expected
    other = torch.tensor([[[5], [6]]])
    assert laid_out([matrices, other], 2, 2).tolist() == [*expected, 5, 0, 6, 0]
