import numpy as np
import pytest

from misc.crf.dense_crf import DenseCRF


@pytest.mark.parametrize("case", range(3))
def test_golden(golden, case):
    g = golden("dense_crf")
    crf = DenseCRF(g[f"img{case}"], int(g[f"n_labels{case}"]), sxy=int(g[f"sxy{case}"]))
    refined = crf.refine(g[f"labels{case}"], gt_prob=float(g[f"gt_prob{case}"]), iterations=int(g[f"t{case}"]))
    assert (refined == g[f"out{case}"]).mean() >= 0.999


def test_a_used_crf_refines_like_a_new_one(golden):
    """make_boundary_label refines two label maps with the filters of one image."""
    g = golden("dense_crf")
    image, labels, n = g["img0"], g["labels0"], int(g["n_labels0"])
    used = DenseCRF(image, n, sxy=50)
    used.refine(np.roll(labels, 20, axis=1))
    np.testing.assert_array_equal(used.refine(labels), DenseCRF(image, n, sxy=50).refine(labels))


def test_one_label_leaves_no_choice():
    assert not DenseCRF(np.zeros((3, 4, 3), np.uint8), 1, sxy=20).refine(np.zeros((3, 4), np.int64)).any()


def test_one_pixel():
    assert DenseCRF(np.zeros((1, 1, 3), np.uint8), 2, sxy=20).refine(np.ones((1, 1), np.int64)).shape == (1, 1)


def test_sizes_that_differ():
    with pytest.raises(ValueError, match="differ in size"):
        DenseCRF(np.zeros((3, 4, 3), np.uint8), 2, sxy=20).refine(np.zeros((4, 3), np.int64))
