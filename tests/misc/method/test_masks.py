import numpy as np

from misc.method.masks import class_numbers, classes_of, strongest


def test_argmax_over_background_and_classes():
    scores = np.array([[[0.1, 0.5, 0.21]], [[0.2, 0.5, 0.9]]], np.float32)
    # ties go to the first, background being the very first, as argmax has it
    assert strongest(scores, 0.21).tolist() == [[0, 1, 2]]
    assert strongest(np.full((1, 1, 1), 0.21, np.float32), 0.21).tolist() == [[0]]


def test_class_numbers_start_at_one():
    assert class_numbers(np.array([0, 7, 253])).tolist() == [0, 1, 8, 254]
    scores = np.array([[[0.1, 0.9]]], np.float32)
    assert classes_of(scores, np.array([14]), 0.5).tolist() == [[0, 15]]
