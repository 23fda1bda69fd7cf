"""The training loop both networks share."""

import logging
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset
from tqdm import tqdm

from misc.device import autocast
from misc.errors import InputError
from misc.loading import epoch_batches, load_batches
from misc.optim import PolySGD

log = logging.getLogger(__name__)

SHOWN_EVERY = 5  # steps between two looks at the running loss

Terms = dict[str, torch.Tensor]  # named scalars; "loss" is what is minimised


def train(
    model: nn.Module,
    optimizer: PolySGD,
    dataset: Dataset,
    terms: Callable[..., Terms],
    *,
    batch_size: int,
    epochs: int,
    seed: int,
    workers: int,
    device: torch.device,
    amp: bool,
    desc: str,
    after_epoch: Callable[[int], None] = lambda epoch: None,
) -> None:
    """Run `epochs` of shuffled batches through `terms(*batch)` and the optimiser.

    dataset     asked by (epoch, index), returns arrays
    terms       from a batch on `device` to the loss and what else is worth showing
    after_epoch called with the number of the epoch, from 1, that is done
    """
    n = len(dataset)  # type: ignore[arg-type]
    per_epoch = steps_per_epoch(n, batch_size)
    batches = [
        batch for epoch in range(epochs) for batch in epoch_batches(n, batch_size=batch_size, seed=seed, epoch=epoch)
    ]
    model.train()
    running = RunningMeans()
    with tqdm(total=len(batches) * batch_size, desc=desc, unit="image") as bar:
        for step, batch in enumerate(load_batches(dataset, batches, workers=workers), start=1):
            with autocast(device, amp):
                values = terms(*(_to(part, device) for part in batch))
            optimizer.zero_grad(set_to_none=True)
            values["loss"].backward()
            optimizer.step()
            running.add(values)
            bar.update(batch_size)
            if step % SHOWN_EVERY == 0:  # reading the loss waits for the device
                bar.set_postfix(running.means(), refresh=False)
                running.check()
            if step % per_epoch == 0:
                epoch = step // per_epoch
                log.info("epoch %d/%d: %s", epoch, epochs, running)
                running.check()
                running = RunningMeans()
                after_epoch(epoch)
                model.train()


def steps_per_epoch(n: int, batch_size: int) -> int:
    """Whole batches in `n` samples; InputError if there is none."""
    if n < batch_size:
        raise InputError(f"{n} training images make no batch of {batch_size}: lower the batch size")
    return n // batch_size


class RunningMeans:
    """Means of named scalars since the epoch began."""

    def __init__(self) -> None:
        self._sums: dict[str, torch.Tensor | float] = {}
        self._count = 0

    def add(self, values: Terms) -> None:
        self._count += 1
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0) + value.detach()

    def means(self) -> dict[str, float]:
        return {name: float(total) / self._count for name, total in self._sums.items()}

    def check(self) -> None:
        """InputError if the loss is no longer a number: nothing that is saved from here on is of use."""
        if not math.isfinite(self.means()["loss"]):
            raise InputError(f"the training diverged ({self}): lower its learning rate")

    def __str__(self) -> str:
        return ", ".join(f"{name} {mean:.4f}" for name, mean in self.means().items())


def _to(part: Any, device: torch.device) -> torch.Tensor:
    if part.ndim == 4:
        return part.to(device, memory_format=torch.channels_last, non_blocking=True)
    return part.to(device, non_blocking=True)
