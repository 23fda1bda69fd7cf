"""The loop both networks are trained by, on a line."""

import logging

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import Dataset

from misc.errors import InputError
from misc.loading import epoch_batches
from misc.optim import PolySGD
from misc.training import RunningMeans, steps_per_epoch, train

CPU = torch.device("cpu")


class Line(Dataset):
    """y = 3 x + 1 at eight places."""

    def __len__(self) -> int:
        return 8

    def __getitem__(self, sample):
        x = np.float32(sample[1] / 4 - 1)
        return np.array([x]), np.array([3 * x + 1])


def fit(**changes):
    torch.manual_seed(0)
    model = nn.Linear(1, 1)
    seen = []

    def terms(x, y):
        seen.append(x.flatten().tolist())
        return {"loss": ((model(x) - y) ** 2).mean(), "other": x.mean().abs()}

    group = {"params": model.parameters(), "lr": 0.3, "weight_decay": 0.0}
    settings = {
        "batch_size": 3,
        "epochs": 40,
        "seed": 5,
        "workers": 0,
        "device": CPU,
        "amp": False,
        "desc": "test",
    } | changes
    train(model, PolySGD([group], max_step=2 * settings["epochs"], momentum=0.0), Line(), terms, **settings)
    return model, seen


def test_it_learns_the_line():
    model, _ = fit()
    torch.testing.assert_close(model.weight.item(), 3.0, rtol=0, atol=0.05)
    torch.testing.assert_close(model.bias.item(), 1.0, rtol=0, atol=0.05)


def test_it_sees_whole_batches_in_the_order_of_the_epochs():
    _, seen = fit(epochs=2)
    batches = [b for epoch in range(2) for b in epoch_batches(8, batch_size=3, seed=5, epoch=epoch)]
    assert seen == [[i / 4 - 1 for _, i in batch] for batch in batches]


def test_the_same_with_workers():
    alone, together = fit(epochs=2)[0], fit(epochs=2, workers=2)[0]
    assert torch.equal(alone.weight, together.weight)


def test_after_each_epoch_in_training_mode_again(caplog):
    caplog.set_level(logging.INFO)
    model = nn.Linear(1, 1)
    modes, epochs = [], []

    def terms(x, y):
        modes.append(model.training)
        return {"loss": (model(x) - y).abs().mean()}

    def after(epoch):
        epochs.append(epoch)
        assert f"epoch {epoch}/3: loss" in caplog.text
        model.eval()

    group = {"params": model.parameters(), "lr": 0.0, "weight_decay": 0.0}
    train(
        model, PolySGD([group], max_step=6, momentum=0.0), Line(), terms, batch_size=4, epochs=3, seed=0, workers=0,
        device=CPU, amp=False, desc="test", after_epoch=after,
    )  # fmt: skip
    assert epochs == [1, 2, 3]
    assert modes == [True] * 6


def test_fewer_images_than_a_batch():
    with pytest.raises(InputError, match="8 training images make no batch of 9: lower the batch size"):
        fit(batch_size=9)


@pytest.mark.parametrize(("n", "batch_size", "steps"), [(10582, 16, 661), (16, 16, 1), (17, 16, 1), (1, 1, 1)])
def test_steps_per_epoch(n, batch_size, steps):
    assert steps_per_epoch(n, batch_size) == steps


def test_running_means():
    running = RunningMeans()
    for loss in (1.0, 2.0, 6.0):
        running.add({"loss": torch.tensor(loss), "ground": torch.tensor(2 * loss)})
    assert running.means() == {"loss": 3.0, "ground": 6.0}
    assert str(running) == "loss 3.0000, ground 6.0000"
