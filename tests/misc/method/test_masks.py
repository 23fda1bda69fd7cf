import numpy as np
import torch

from misc.method.masks import class_numbers, classes_of, strongest, strongest_by_torch


def test_argmax_over_background_and_classes():
    scores = np.array([[[0.1, 0.5, 0.21]], [[0.2, 0.5, 0.9]]], np.float32)
    # ties go to the first, background being the very first, as argmax has it
    assert strongest(scores, 0.21).tolist() == [[0, 1, 2]]
    assert strongest(np.full((1, 1, 1), 0.21, np.float32), 0.21).tolist() == [[0]]


def test_class_numbers_start_at_one():
    assert class_numbers(np.array([0, 7, 253])).tolist() == [0, 1, 8, 254]
    scores = np.array([[[0.1, 0.9]]], np.float32)
    assert classes_of(scores, np.array([14]), 0.5).tolist() == [[0, 15]]


def test_torch_takes_the_same_winners_ties_included():
    scores = np.random.default_rng(0).integers(0, 4, (3, 20, 30)).astype(np.float32) / 10
    for background in (0.1, 0.21, 0.3):
        found = strongest_by_torch(torch.from_numpy(scores), background)
        assert found.dtype == torch.uint8
        np.testing.assert_array_equal(found, strongest(scores, background))
    assert not strongest_by_torch(torch.zeros(0, 2, 3), 0.21).any()
