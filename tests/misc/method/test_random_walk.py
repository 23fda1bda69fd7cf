import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from misc.method.random_walk import chebyshev_weights, power_product, random_walk
from misc.method.stencil import Diagonals, Windows


def dense_walk(cam: np.ndarray, edge: np.ndarray, *, beta: float, exp_times: int, radius: int) -> np.ndarray:
    """The walk as docs/method.md, section 6, states it, pixel by pixel, dense and in double precision."""
    h, w = edge.shape
    affinity = np.eye(h * w)
    for y, x in np.ndindex(h, w):
        for v, u in np.ndindex(h, w):
            dy, dx = v - y, u - x
            if not 0 < dy * dy + dx * dx < radius * radius:
                continue
            path = [
                edge[y + j, x + i]
                for j in range(min(0, dy), max(0, dy) + 1)
                for i in range(min(0, dx), max(0, dx) + 1)
                if (dy * i - dx * j) ** 2 / (dy * dy + dx * dx) < 1
            ]
            affinity[y * w + x, v * w + u] = 1 - max(path)
    weights = affinity**beta
    transition = weights / weights.sum(axis=0)
    start = (cam * (1 - edge)).reshape(len(cam), -1)
    return (start @ np.linalg.matrix_power(transition, 2**exp_times)).reshape(cam.shape)


@pytest.fixture(params=["diagonals", "windows"])
def form(request, monkeypatch):
    """The form that the affinity takes, whatever the device is."""
    monkeypatch.setattr(Windows, "are_faster", lambda *of: request.param == "windows")


@pytest.mark.usefixtures("form")
@pytest.mark.parametrize("case", range(3))
def test_golden(golden, case, device):
    g = golden("random_walk")
    walked = random_walk(
        torch.from_numpy(g[f"cam{case}"]).to(device),
        torch.from_numpy(g[f"edge{case}"][0]).to(device),
        beta=int(g[f"beta{case}"]),
        exp_times=int(g[f"exp_times{case}"]),
        radius=int(g[f"radius{case}"]),
    )
    np.testing.assert_allclose(walked.cpu(), g[f"rw{case}"][:, 0], atol=1e-4, rtol=0)


@pytest.mark.usefixtures("form")
@pytest.mark.parametrize("grid", [(1, 1), (1, 9), (9, 1), (2, 11), (11, 2), (3, 3), (4, 7), (12, 10)])
@pytest.mark.parametrize("exp_times", [0, 3, 8])
def test_equals_the_dense_walk(grid, exp_times, device):
    rng = np.random.default_rng([*grid, exp_times])
    cam, edge = rng.random((2, *grid)), rng.random(grid) ** 3
    walked = random_walk(
        torch.from_numpy(cam).to(device), torch.from_numpy(edge).to(device), beta=5, exp_times=exp_times
    )
    expected = dense_walk(cam, edge, beta=5, exp_times=exp_times, radius=5)
    np.testing.assert_allclose(walked.cpu(), expected, atol=1e-5, rtol=0)


def test_both_forms_walk_alike(monkeypatch):
    rng = np.random.default_rng(0)
    cam, edge = torch.from_numpy(rng.random((3, 23, 31))), torch.from_numpy(rng.random((23, 31)) ** 3)
    walked = []
    for windows in (False, True):
        monkeypatch.setattr(Windows, "are_faster", lambda *of, windows=windows: windows)
        walked.append(random_walk(cam, edge, beta=8, exp_times=8))
    torch.testing.assert_close(*walked, atol=1e-7, rtol=0)


def test_a_closed_boundary_holds_the_walk_back():
    edge = torch.zeros(9, 12)
    edge[:, 6] = 1  # a wall from top to bottom
    cam = torch.zeros(1, 9, 12)
    cam[0, :, :6] = 1
    walked = random_walk(cam, edge, beta=5, exp_times=8)[0]
    # columns of T sum to one, so what cannot leave a region stays as it is within it
    torch.testing.assert_close(walked[:, :6], torch.ones(9, 6), atol=1e-5, rtol=0)
    assert float(walked[:, 6:].abs().max()) < 1e-6


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 8), st.integers(1, 8), st.integers(0, 6))
def test_mirror_symmetry_and_constants(seed, h, w, exp_times):
    rng = np.random.default_rng(seed)
    cam, edge = torch.from_numpy(rng.random((1, h, w))), torch.from_numpy(rng.random((h, w)))
    walked = random_walk(cam, edge, beta=5, exp_times=exp_times)
    mirrored = random_walk(cam.flip(-1), edge.flip(-1), beta=5, exp_times=exp_times).flip(-1)
    torch.testing.assert_close(walked, mirrored, atol=1e-5, rtol=0)
    constant = random_walk(torch.full((1, h, w), 0.5), torch.zeros(h, w), beta=5, exp_times=exp_times)
    torch.testing.assert_close(constant, torch.full((1, h, w), 0.5), atol=1e-5, rtol=0)


def test_no_class_and_other_grid():
    assert random_walk(torch.zeros(0, 4, 5), torch.zeros(4, 5), beta=5, exp_times=8).shape == (0, 4, 5)
    with pytest.raises(ValueError, match="differ"):
        random_walk(torch.zeros(1, 4, 5), torch.zeros(5, 4), beta=5, exp_times=8)


@pytest.mark.parametrize("power", [1, 2, 3, 16, 256])
def test_series_is_the_power(power):
    x = np.linspace(-1, 1, 41)
    series = np.polynomial.chebyshev.chebval(x, chebyshev_weights(power))
    np.testing.assert_allclose(series, x**power, atol=1.1e-6)


def test_series_is_short():
    assert len(chebyshev_weights(256, tail=1e-5)) - 1 == 70


def test_power_product_of_a_diagonal():
    diagonal = torch.linspace(-1, 1, 7, dtype=torch.float64)
    matrix = Diagonals(diagonal, torch.zeros(0, 7, dtype=torch.float64), [])
    result = power_product(matrix, torch.ones(1, 7, dtype=torch.float64), 8)
    torch.testing.assert_close(result[0], diagonal**8, atol=1e-6, rtol=0)
