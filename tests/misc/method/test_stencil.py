import numpy as np
import pytest
import torch

from misc.method.stencil import LARGEST_PRODUCTS, Diagonals, Windows, half_plane_offsets, path_pixels

FORMS = pytest.mark.parametrize("form", [Diagonals, Windows])
GRIDS = [(7, 9), (1, 6), (6, 2), (3, 1), (1, 1)]


def dense(matrix: Diagonals) -> torch.Tensor:
    n = len(matrix.diagonal)
    whole = torch.diag(matrix.diagonal)
    for row, step in zip(matrix.upper, matrix.steps, strict=True):
        whole += torch.diag(row[: n - step], step) + torch.diag(row[: n - step], -step)
    return whole


def affinity(edge: np.ndarray, beta: float, radius: int) -> torch.Tensor:
    """As docs/method.md, section 6, states it, pixel by pixel."""
    h, w = edge.shape
    whole = np.eye(h * w)
    for y, x in np.ndindex(h, w):
        for v, u in np.ndindex(h, w):
            dy, dx = v - y, u - x
            if 0 < dy * dy + dx * dx < radius * radius:
                wall = max(edge[y + j, x + i] for j, i in path_pixels(dy, dx))
                whole[y * w + x, v * w + u] = (1 - wall) ** beta
    return torch.from_numpy(whole)


@FORMS
@pytest.mark.parametrize("radius", [2, 3, 5])
def test_the_affinity_is_the_dense_one(form, radius):
    rng = np.random.default_rng(0)
    for grid in GRIDS:
        edge = rng.random(grid).astype(np.float32)
        matrix = form.of_affinity(torch.from_numpy(edge), beta=5, radius=radius)
        expected = affinity(edge, 5, radius)
        identity = torch.eye(edge.size, dtype=torch.float64)
        torch.testing.assert_close(matrix.product(identity), expected, atol=1e-6, rtol=0)  # a power in float32
        torch.testing.assert_close(matrix.row_sums(), expected.sum(0), atol=1e-5, rtol=0)


@FORMS
def test_product_is_the_dense_one(form):
    rng = np.random.default_rng(0)
    for grid in GRIDS:
        edge, scale = torch.from_numpy(rng.random(grid)), torch.from_numpy(rng.random(grid)).flatten()
        matrix = form.of_affinity(edge, beta=5, radius=5).scaled_both_sides(scale)
        expected = torch.diag(scale) @ dense(Diagonals.of_affinity(edge, beta=5, radius=5)) @ torch.diag(scale)
        vectors = torch.from_numpy(rng.random((3, edge.numel())))
        torch.testing.assert_close(matrix.product(vectors), vectors @ expected, atol=1e-12, rtol=0)
        torch.testing.assert_close(matrix.row_sums(), expected.sum(0), atol=1e-12, rtol=0)


def test_windows_are_for_a_gpu_where_their_products_fit():
    assert not Windows.are_faster(2, torch.zeros(94, 125), 5)
    assert Windows.are_faster(2, torch.zeros(94, 125, device="meta"), 5)
    pixels = LARGEST_PRODUCTS // (8 * 2 * 81)
    assert Windows.are_faster(2, torch.zeros(1, pixels, device="meta"), 5)
    assert not Windows.are_faster(2, torch.zeros(1, pixels + 1, device="meta"), 5)


def test_neighbourhood_has_69_pixels():
    assert 2 * len(half_plane_offsets(5)) + 1 == 69


def test_path_is_within_one_pixel_of_the_line():
    assert set(path_pixels(0, 3)) == {(0, 0), (0, 1), (0, 2), (0, 3)}
    # the farthest of this rectangle, (1, 0) and (0, 2), are 2/√5 < 1 off the line
    assert set(path_pixels(1, 2)) == {(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)}
    # (0, -2) and (2, 0) are √2 off
    assert set(path_pixels(2, -2)) == {(0, 0), (1, -1), (2, -2), (0, -1), (1, 0), (1, -2), (2, -1)}
