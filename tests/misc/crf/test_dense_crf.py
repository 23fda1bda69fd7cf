"""All backends compute the CRF of the golden arrays and of a lattice by hand, and keep its laws."""

from itertools import product

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from misc.crf import c_backend, pydensecrf_backend
from misc.crf.dense_crf import DenseCRF, resolve_backend, unary_from_probabilities
from misc.errors import InputError
from tests.misc.crf.lattice_by_hand import marginals_by_hand

ODD_SHAPES = [(1, 1), (1, 9), (9, 1), (2, 2), (7, 5)]


@pytest.fixture(autouse=True)
def one_thread():
    """Images are small here, and threads wait for each other where other tests run beside."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(params=["c", "torch", "pydensecrf"])
def backend(request, device):
    if request.param != "torch" and device.type != "cpu":
        pytest.skip("computes on the CPU only")
    if request.param == "pydensecrf":
        pytest.importorskip("pydensecrf.densecrf")
    if request.param == "c" and not c_backend.available():
        pytest.skip("no C compiler")
    return request.param


def scene(shape, n_labels, *, seed=0):
    """A smooth image with noise, and energies that follow its colours."""
    rng = np.random.default_rng([seed, n_labels, *shape])
    y, x = np.indices(shape)
    waves = [np.sin(x / rng.uniform(2, 9) + y / rng.uniform(2, 9)) for _ in range(3)]
    image = np.clip(128 + 60 * np.stack(waves, axis=2) + rng.normal(0, 4, (*shape, 3)), 0, 255).astype(np.uint8)
    unary = rng.normal(size=(n_labels, *shape)) + image.mean(axis=2) / 50 * rng.normal(size=(n_labels, 1, 1))
    return image, unary.astype(np.float32)


@pytest.mark.parametrize("case", range(3))
def test_golden(golden, backend, case, device):
    g = golden("dense_crf")
    crf = DenseCRF(g[f"img{case}"], int(g[f"n_labels{case}"]), sxy=int(g[f"sxy{case}"]), backend=backend, device=device)
    refined = crf.refine(g[f"labels{case}"], gt_prob=float(g[f"gt_prob{case}"]), iterations=int(g[f"t{case}"]))
    assert (refined == g[f"out{case}"]).mean() >= 0.999


def test_golden_of_deeplab(golden, backend, device):
    g = golden("deeplab_crf")
    image = g["image_bgr"]
    scores = torch.from_numpy(g["logits"])[None].float()
    scores = F.interpolate(scores, image.shape[:2], mode="bilinear", align_corners=False)[0]
    unary = unary_from_probabilities(scores.softmax(dim=0).numpy())
    filters = {"sxy": 67, "srgb": 3, "compat": 4, "gaussian_sxy": 1, "gaussian_compat": 3}
    crf = DenseCRF(image, 21, **filters, backend=backend, device=device)
    assert (crf.infer(unary) == g["label"]).mean() >= 0.999
    np.testing.assert_allclose(crf.marginals(unary)[:, g["rows"]], g["q_rows"], atol=5e-3)


@pytest.mark.parametrize(("shape", "n_labels"), [*product([(9, 12), (6, 7)], [2, 3, 4, 6]), ((5, 9), 21), ((1, 7), 3)])
def test_the_lattice_by_hand(backend, shape, n_labels, device):
    """Rounding errors of 1e-7 grow, by the weights of the potentials, at most sixfold an iteration."""
    image, unary = scene(shape, n_labels)
    by_hand = marginals_by_hand(image, unary, sxy=20, srgb=5, compat=10, iterations=3)
    marginals = DenseCRF(image, n_labels, sxy=20, backend=backend, device=device).marginals(unary, iterations=3)
    np.testing.assert_allclose(marginals, by_hand, atol=1e-4)


def test_no_iterations_leave_the_softmax(backend, device):
    image, unary = scene((5, 6), 4)
    crf = DenseCRF(image, 4, sxy=20, backend=backend, device=device)
    softmax = torch.from_numpy(-unary).softmax(dim=0).numpy()
    np.testing.assert_allclose(crf.marginals(unary, iterations=0), softmax, atol=1e-6)
    np.testing.assert_array_equal(crf.infer(unary, iterations=0), unary.argmin(axis=0))


@pytest.mark.parametrize("n_labels", [2, 3, 4, 5, 9, 22, 255])
def test_energies_far_apart(backend, n_labels, device):
    """A softmax that did not subtract its largest exponent would overflow; one that cut them would make ties."""
    image, unary = scene((3, 4), n_labels)
    crf = DenseCRF(image, n_labels, sxy=20, backend=backend, device=device)
    marginals = crf.marginals(1000 * unary, iterations=2)
    np.testing.assert_allclose(marginals.sum(axis=0), 1, atol=1e-5)
    np.testing.assert_array_equal(marginals.argmax(axis=0), unary.argmin(axis=0))


@pytest.mark.parametrize(("shape", "n_labels"), product(ODD_SHAPES, [2, 3, 5, 22]))
def test_a_certain_label_map_of_one_colour_stays(backend, shape, n_labels, device):
    """More labels than pixels among them. The filters of one colour are the same for all labels."""
    labels = np.full(shape, n_labels - 1)
    crf = DenseCRF(np.zeros((*shape, 3), np.uint8), n_labels, sxy=20, backend=backend, device=device)
    refined = crf.refine(labels)
    assert refined.dtype == np.uint8
    np.testing.assert_array_equal(refined, labels)


def test_several_maps_are_refined_as_each_alone(backend, device):
    """And a used CRF refines like a new one: make_boundary_label refines two label maps with one image's filters."""
    for n_labels in (2, 3, 4, 6):
        image, _ = scene((20, 31), n_labels)
        maps = np.random.default_rng(n_labels).integers(0, n_labels, (3, 4, 8)).repeat(5, axis=1).repeat(4, axis=2)
        maps = maps[:, :, :31]
        crf = DenseCRF(image, n_labels, sxy=20, backend=backend, device=device)
        together = crf.refine(maps, iterations=5)
        for one, refined in zip(maps, together, strict=True):
            alone = DenseCRF(image, n_labels, sxy=20, backend=backend, device=device).refine(one, iterations=5)
            np.testing.assert_array_equal(refined, alone)


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 7), st.integers(0, 1000), st.randoms(use_true_random=False))
def test_permuted_labels_permute_the_result(n_labels, seed, random):
    """Label 0 is subtracted from the others, so rounding differs: by 1e-7, growing sixfold an iteration at most."""
    image, unary = scene((12, 17), n_labels, seed=seed)
    order = random.sample(range(n_labels), n_labels)
    for backend in ("torch", *(["c"] if c_backend.available() else [])):
        crf = DenseCRF(image, n_labels, sxy=20, backend=backend)
        marginals, permuted = (crf.marginals(one, iterations=3) for one in (unary, unary[order]))
        np.testing.assert_allclose(permuted, marginals[order], atol=1e-3)
        labels = np.array(order)[crf.infer(unary[order], iterations=3)]
        likeliest = np.sort(marginals, axis=0)
        certain = likeliest[-1] - likeliest[-2] > 2e-3
        np.testing.assert_array_equal(labels[certain], crf.infer(unary, iterations=3)[certain])


def test_a_mirrored_image_mirrors_the_result(golden, backend, device):
    """Not pixel by pixel: the lattice has no mirror symmetry and lies elsewhere in the mirror image. pydensecrf keeps
    98.7 % of these pixels, on average."""
    g = golden("pseudo_masks")
    kept = []
    for name in g["ids"]:
        image = g[f"img_{name}"]
        labels = np.unique(g[f"sem_seg_{name}"], return_inverse=True)[1].reshape(image.shape[:2])
        refined, mirrored = (
            DenseCRF(picture, 4, sxy=20, backend=backend, device=device).refine(given)
            for picture, given in ((image, labels), (image[:, ::-1], labels[:, ::-1]))
        )
        kept.append((refined == mirrored[:, ::-1]).mean())
    assert np.mean(kept) >= 0.97


@pytest.mark.parametrize("given_backend", ["auto", "c", "torch", "pydensecrf"])
def test_one_label_leaves_no_choice(given_backend):
    if given_backend == "c" and not c_backend.available():
        pytest.skip("no C compiler")
    crf = DenseCRF(np.zeros((3, 4, 3), np.uint8), 1, sxy=20, backend=given_backend)
    assert not crf.refine(np.zeros((3, 4), np.int64)).any()
    assert not crf.infer(np.ones((1, 3, 4), np.float32)).any()
    assert (crf.marginals(np.ones((1, 3, 4), np.float32)) == 1).all()


def test_what_does_not_fit_is_refused():
    image = np.zeros((3, 4, 3), np.uint8)
    for bad in (image[:0], image[..., :2], image[0], image.astype(np.float32)):
        with pytest.raises(ValueError, match="uint8"):
            DenseCRF(bad, 2, sxy=20)
    for n_labels in (0, 256):
        with pytest.raises(ValueError, match="1 to 255"):
            DenseCRF(image, n_labels, sxy=20)
    with pytest.raises(ValueError, match="positive"):
        DenseCRF(image, 2, sxy=0)
    crf = DenseCRF(image, 2, sxy=20)
    for labels in (np.zeros((4, 3), int), np.zeros(3, int), np.zeros((1, 1, 3, 4), int)):
        with pytest.raises(ValueError, match="differ in size"):
            crf.refine(labels)
    for label in (-1, 2):
        with pytest.raises(ValueError, match="0 to 1"):
            crf.refine(np.full((3, 4), label))
    with pytest.raises(ValueError, match="gt_prob"):
        crf.refine(np.zeros((3, 4), int), gt_prob=1)
    with pytest.raises(ValueError, match="2 labels"):
        crf.infer(np.zeros((3, 3, 4), np.float32))
    with pytest.raises(ValueError, match="finite"):
        crf.infer(np.full((2, 3, 4), np.inf, np.float32))


@pytest.mark.parametrize(("sxy", "srgb", "said"), [(1e-4, 1e-3, "no image fits"), (0.01, 0.05, "fits")])
def test_keys_that_do_not_fit_are_refused(sxy, srgb, said):
    for backend in ("torch", *(["c"] if c_backend.available() else [])):
        with pytest.raises(ValueError, match=said):
            DenseCRF(np.zeros((4, 8000, 3), np.uint8), 2, sxy=sxy, srgb=srgb, backend=backend)


def test_a_vertex_of_many_pixels_and_a_kept_lattice():
    """Of an image of one colour, a vertex has more pixels than a piece of its sum; twice, by the kept positions."""
    image, unary = np.full((40, 51, 3), 200, np.uint8), scene((40, 51), 3)[1]
    by_hand = marginals_by_hand(image, unary, sxy=20, srgb=5, compat=10, iterations=2)
    for _ in range(2):
        marginals = DenseCRF(image, 3, sxy=20, backend="torch").marginals(unary, iterations=2)
        np.testing.assert_allclose(marginals, by_hand, atol=1e-4)


def test_which_backend(monkeypatch):
    assert resolve_backend("auto") == ("c" if c_backend.available() else "torch")
    monkeypatch.setattr(c_backend, "available", lambda: False)
    assert resolve_backend("auto") == "torch"
    with pytest.raises(InputError, match="C compiler"):
        DenseCRF(np.zeros((3, 4, 3), np.uint8), 2, sxy=20, backend="c")
    with pytest.raises(ValueError, match="no such backend"):
        DenseCRF(np.zeros((3, 4, 3), np.uint8), 2, sxy=20, backend="numba")


def test_pydensecrf_is_taken_where_it_is_asked_for():
    pytest.importorskip("pydensecrf")
    assert resolve_backend("pydensecrf") == "pydensecrf"


def test_pydensecrf_that_is_not_there(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pydensecrf.densecrf", None)
    with pytest.raises(InputError, match=r"requirements-pydensecrf\.txt"):
        DenseCRF(np.zeros((3, 4, 3), np.uint8), 2, sxy=20, backend="pydensecrf")
    assert pydensecrf_backend.PydensecrfBackend  # its module is loaded all the same
