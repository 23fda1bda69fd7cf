"""The account of a card's memory, against sums by hand."""

import torch
from torch import nn

from benchmarks.card_memory import GIB, META, Living, make_sem_seg, peak, train_sbe_boundary


def test_what_lives_at_the_same_time():
    with Living() as living:
        first = torch.empty(1000, device=META)  # 4000 bytes
        second = first[:500] + 1  # 2000; the view has none of its own
        assert living.now == 6000
        del first
        assert living.now == 2000
        third = second.double()
        assert living.now == living.most == 6000
    del third


def test_a_network_and_what_its_backward_pass_needs():
    """Of x·w with x (1000, 50) and w (20, 50): both, the result, its gradient and that of w."""
    with META:
        network = nn.Linear(50, 20, bias=False)

    def work() -> None:
        network(torch.empty(1000, 50, device=META)).sum().backward()

    bytes_ = peak(network, work) * GIB
    weights, given, result = 4 * 20 * 50, 4 * 1000 * 50, 4 * 1000 * 20
    assert weights + given + result <= bytes_ <= 2 * weights + given + 2 * result + 100


def test_a_larger_batch_takes_more_and_an_image_alone_less():
    one, two = train_sbe_boundary(1), train_sbe_boundary(2)
    assert 0.1 < one < two < 2 * one
    assert make_sem_seg(375, 500, apart=True) < make_sem_seg(375, 500, apart=False)
