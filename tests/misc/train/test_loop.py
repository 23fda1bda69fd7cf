"""The loop both networks are trained by, on a line."""

import logging
import sys

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import Dataset

from misc.errors import InputError
from misc.train.history import read_history
from misc.train.loading import epoch_batches
from misc.train.loop import SHOWN_EVERY, Recipe, RunningMeans, in_words, train
from misc.train.optim import PolySGD
from misc.train.progress import Progress

CPU = torch.device("cpu")


class Line(Dataset):
    """y = 3 x + 1 at eight places."""

    def __len__(self) -> int:
        return 8

    def __getitem__(self, sample):
        x = np.float32(sample[1] / 4 - 1)
        return np.array([x]), np.array([3 * x + 1])


@pytest.fixture
def progress(tmp_path):
    return Progress(tmp_path / "net.pth", minutes=60)


def fit(progress, *, epochs=40, **changes):
    torch.manual_seed(0)
    model = nn.Linear(1, 1)
    seen = []

    def terms(network, x, y):
        seen.append(x.flatten().tolist())
        return {"loss": ((network(x) - y) ** 2).mean(), "other": x.mean().abs()}

    group = {"params": model.parameters(), "lr": 0.3, "weight_decay": 0.0}
    recipe = Recipe(2 * epochs, batch_size=3, seed=5, workers=0, device=CPU)._replace(**changes)
    optimizer = PolySGD([group], max_step=recipe.steps, momentum=0.0)
    train(model, optimizer, Line(), terms, recipe, desc="test", progress=progress)
    return model, seen


def test_it_learns_the_line(progress):
    model, _ = fit(progress)
    torch.testing.assert_close(model.weight.item(), 3.0, rtol=0, atol=0.05)
    torch.testing.assert_close(model.bias.item(), 1.0, rtol=0, atol=0.05)


def test_it_sees_whole_batches_in_the_order_of_the_epochs(progress):
    _, seen = fit(progress, epochs=2)
    batches = [b for epoch in range(2) for b in epoch_batches(8, batch_size=3, seed=5, epoch=epoch)]
    assert seen == [[i / 4 - 1 for _, i in batch] for batch in batches]


def test_the_same_with_workers(tmp_path):
    alone, together = (
        fit(Progress(tmp_path / f"{workers}.pth", minutes=60), epochs=2, workers=workers)[0] for workers in (0, 2)
    )
    assert torch.equal(alone.weight, together.weight)


@pytest.mark.parametrize(("iter_size", "batch_size"), [(2, 4), (4, 2), (8, 1)])
def test_micro_batches_give_the_gradients_of_the_whole_batch(tmp_path, iter_size, batch_size):
    """A step of 8 images: the same images, gradients, weights and records, however many are taken at once."""
    whole, (images,) = fit(Progress(tmp_path / "whole.pth", minutes=60), steps=1, batch_size=8)
    parts, seen = fit(Progress(tmp_path / "p.pth", minutes=60), steps=1, batch_size=batch_size, iter_size=iter_size)
    assert [len(part) for part in seen] == [batch_size] * iter_size and [x for part in seen for x in part] == images
    for ours, theirs in zip(parts.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-6, atol=0)
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=0)
    (record,), (expected,) = (read_history(tmp_path / f"{name}.pth.history.jsonl") for name in ("p", "whole"))
    assert record["loss"] == pytest.approx(expected["loss"], rel=1e-6)


def test_an_interrupted_training_of_micro_batches_goes_on_at_a_step(tmp_path, monkeypatch):
    undisturbed, _ = fit(Progress(tmp_path / "a.pth", minutes=0), steps=12, batch_size=2, iter_size=2)
    kept = Progress(tmp_path / "b.pth", minutes=0)
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(sys.modules[__name__], "Line", lambda: StoppedAfter(4 * 7 + 2))
        fit(kept, steps=12, batch_size=2, iter_size=2)
    resumed, _ = fit(kept, steps=12, batch_size=2, iter_size=2)
    assert torch.equal(undisturbed.weight, resumed.weight) and torch.equal(undisturbed.bias, resumed.bias)


def test_after_each_epoch_in_training_mode_again(caplog, progress):
    caplog.set_level(logging.INFO)
    model = nn.Linear(1, 1)
    modes, epochs = [], []

    def terms(network, x, y):
        modes.append(model.training)
        return {"loss": (network(x) - y).abs().mean()}

    def validate():
        epochs.append(len(epochs) + 1)
        assert f"epoch {epochs[-1]}/3: loss" in caplog.text
        model.eval()
        return {"validation_loss": 7.0}

    group = {"params": model.parameters(), "lr": 0.0, "weight_decay": 0.0}
    optimizer, recipe = PolySGD([group], max_step=6, momentum=0.0), Recipe(6, 4, seed=0, workers=0, device=CPU)
    train(model, optimizer, Line(), terms, recipe, desc="test", progress=progress, validate=validate)
    assert epochs == [1, 2, 3]
    assert modes == [True] * 6


def test_fewer_images_than_a_batch(progress):
    with pytest.raises(InputError, match="8 training images make no batch of 9: lower the batch size"):
        fit(progress, batch_size=9)


def test_memory_that_runs_out_names_the_training_and_what_to_lower(progress):
    def terms(network, x, y):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    group = {"params": nn.Linear(1, 1).parameters(), "lr": 0.3, "weight_decay": 0.0}
    optimizer, recipe = PolySGD([group], max_step=6, momentum=0.0), Recipe(6, 4, seed=0, workers=0, device=CPU)
    says = {"desc": "train_cam", "progress": progress, "needs_less": "lower --cam_batch_size"}
    with pytest.raises(InputError, match=r"^train_cam: .*memory for 4 images.*2\.00 GiB.*: lower --cam_batch_size$"):
        train(nn.Linear(1, 1), optimizer, Line(), terms, recipe, **says)


def test_running_means():
    running = RunningMeans()
    for loss in (1.0, 2.0, 6.0):
        running.add({"loss": torch.tensor(loss), "ground": torch.tensor(2 * loss)})
    assert running.means() == {"loss": 3.0, "ground": 6.0}
    assert in_words(running.means()) == "loss 3.0000, ground 6.0000"


def test_running_means_go_on_from_a_state():
    running = RunningMeans()
    running.add({"loss": torch.tensor(1.0)})
    later = RunningMeans(running.state())
    for loss in (2.0, 6.0):
        later.add({"loss": torch.tensor(loss)})
    assert later.means() == {"loss": 3.0}


class Stopped(Exception):
    pass


class StoppedAfter(Line):
    """The line, until a step asks for more samples than it is to get."""

    def __init__(self, samples):
        self.samples = samples

    def __getitem__(self, sample):
        self.samples -= 1
        if self.samples < 0:
            raise Stopped
        return super().__getitem__(sample)


@pytest.mark.parametrize("steps", [0, 1, 7, 8, 13, 15])
def test_an_interrupted_training_ends_as_an_undisturbed_one(steps, tmp_path, monkeypatch):
    """Saved at every look (minutes=0), stopped after some steps, started again."""
    undisturbed, seen = fit(Progress(tmp_path / "a.pth", minutes=0), epochs=8)
    before = (tmp_path / "a.pth.history.jsonl").read_text()

    kept = Progress(tmp_path / "b.pth", minutes=0)
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(sys.modules[__name__], "Line", lambda: StoppedAfter(3 * steps))
        fit(kept, epochs=8)
    resumed, rest = fit(kept, epochs=8)
    assert torch.equal(undisturbed.weight, resumed.weight) and torch.equal(undisturbed.bias, resumed.bias)
    assert rest == seen[-len(rest) :] and len(rest) <= 16 - steps + SHOWN_EVERY
    assert without_speed(tmp_path / "b.pth.history.jsonl") == without_speed(tmp_path / "a.pth.history.jsonl")
    assert '"lr"' in before and '"images_per_second"' in before


def without_speed(path):
    return [{k: v for k, v in record.items() if k != "images_per_second"} for record in read_history(path)]


def test_the_state_of_another_network_is_refused(tmp_path):
    fit(Progress(tmp_path / "net.pth", minutes=60), epochs=1)
    model = nn.Linear(2, 1)
    optimizer = PolySGD([{"params": model.parameters(), "lr": 1, "weight_decay": 0}], max_step=1, momentum=0)
    with pytest.raises(InputError, match=r"net.pth.unfinished: no state of this training .*--overwrite"):
        Progress(tmp_path / "net.pth", minutes=60).restore(model, optimizer)
    (tmp_path / "net.pth.unfinished").write_bytes(b"damaged")
    with pytest.raises(InputError, match=r"net.pth.unfinished: .*: pass --overwrite"):
        Progress(tmp_path / "net.pth", minutes=60).restore(model, optimizer)
