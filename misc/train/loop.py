"""The training loop all networks share."""

import logging
import math
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import Dataset

from misc.errors import InputError
from misc.run.device import autocast
from misc.run.distributed import is_first, processes, share, summed
from misc.run.log import progress_bar
from misc.train.loading import epoch_batches, load_batches
from misc.train.progress import Progress

log = logging.getLogger(__name__)

SHOWN_EVERY = 5  # steps between two looks at the running loss, which wait for the device

Terms = dict[str, torch.Tensor]  # named scalars; "loss" is what is minimised


def train(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    dataset: Dataset,
    terms: Callable[..., Terms],
    *,
    steps: int,
    batch_size: int,
    seed: int,
    workers: int,
    device: torch.device,
    amp: bool,
    desc: str,
    progress: Progress,
    after_epoch: Callable[[int], dict[str, float]] | None = None,
) -> None:
    """Run `steps` shuffled batches through `terms(network, *batch)` and the optimiser.

    The processes of a run share each batch. Interrupted and started again, it goes on where `progress` was
    last saved.

    dataset     asked by (epoch, index), returns arrays
    terms       from the network and a part of a batch on `device` to the loss and what else is worth showing,
                each this part's summand: the sum over all parts is the value for the batch
    batch_size  of all processes together
    after_epoch called with the number of the epoch, from 1, that is done; returns values for the history
    """
    n = len(dataset)  # type: ignore[arg-type]
    per_epoch = steps_per_epoch(n, batch_size)
    epochs = -(-steps // per_epoch)
    batches = [
        batch for epoch in range(epochs) for batch in epoch_batches(n, batch_size=batch_size, seed=seed, epoch=epoch)
    ][:steps]
    done, sums = progress.restore(model, optimizer)
    if done:
        log.info("going on after step %d of %d", done, steps)
    running, window = RunningMeans(sums), RunningMeans()  # since the epoch began, since the last record
    network = _in_parallel(model, device)
    model.train()
    loaded = load_batches(dataset, [share(batch) for batch in batches[done:]], workers=workers)
    since = time.monotonic()
    with (
        progress.history(done) as history,
        progress_bar(steps * batch_size, desc, initial=done * batch_size) as bar,
    ):
        for step, batch in enumerate(loaded, start=done + 1):
            with autocast(device, amp):
                values = terms(network, *(_to(part, device) for part in batch))
            _descend(optimizer, values["loss"])
            running.add(values)
            window.add(values)
            bar.update(batch_size)
            ends_epoch = step % per_epoch == 0 or step == steps
            if step % SHOWN_EVERY and not ends_epoch:
                continue
            epoch = (step - 1) // per_epoch + 1
            means = running.means()
            _refuse_divergence(means)
            bar.set_postfix(means, refresh=False)
            speed = window.count * batch_size / (time.monotonic() - since)
            rates = [group["lr"] for group in optimizer.param_groups]
            position = {"step": step, "epoch": epoch}
            history.add({**position, **window.means(), "lr": rates, "images_per_second": round(speed, 2)})
            if ends_epoch:
                log.info("epoch %d/%d: %s", epoch, epochs, in_words(means))
                running = RunningMeans()
                if after_epoch is not None:
                    history.add({**position, **after_epoch(epoch)})
                    model.train()
            state = running.state()  # all processes add up; which of them finds it due is its own affair
            if ends_epoch or progress.is_due():
                progress.save(step, model, optimizer, state)
            window, since = RunningMeans(), time.monotonic()


def _descend(optimizer: torch.optim.Optimizer, loss: torch.Tensor) -> None:
    optimizer.zero_grad(set_to_none=True)
    (loss * processes()).backward()  # the processes' gradients are averaged, not summed
    optimizer.step()


def steps_per_epoch(n: int, batch_size: int) -> int:
    """Whole batches in `n` samples; InputError if there is none."""
    if n < batch_size:
        raise InputError(f"{n} training images make no batch of {batch_size}: lower the batch size")
    return n // batch_size


class RunningMeans:
    """Means of named scalars over some steps, each scalar summed over the processes.

    state     what `state` returned, to go on from
    """

    def __init__(self, state: dict[str, float] | None = None) -> None:
        totals = dict(state or {})
        self.count = int(totals.pop("count", 0))
        # what all processes had added up is one process's share from here on
        self._sums: dict[str, torch.Tensor | float] = {
            name: total if is_first() else 0.0 for name, total in totals.items()
        }

    def add(self, values: Terms) -> None:
        self.count += 1
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0) + value.detach()

    def means(self) -> dict[str, float]:
        return {name: total / self.count for name, total in self._totals().items()}

    def state(self) -> dict[str, float]:
        """The sums and how many steps they are of."""
        return {"count": self.count, **self._totals()}

    def _totals(self) -> dict[str, float]:
        totals = summed(torch.tensor([float(total) for total in self._sums.values()]))
        return dict(zip(self._sums, totals.tolist(), strict=True))


def in_words(means: dict[str, float]) -> str:
    return ", ".join(f"{name} {mean:.4f}" for name, mean in means.items())


def _refuse_divergence(means: dict[str, float]) -> None:
    """InputError if the loss is no longer a number: nothing that is saved from here on is of use."""
    if not math.isfinite(means["loss"]):
        raise InputError(f"the training diverged ({in_words(means)}): lower its learning rate")


def _in_parallel(model: nn.Module, device: torch.device) -> nn.Module:
    """The model, or where it shares the work with other processes, the model that averages gradients with theirs."""
    if processes() == 1:
        return model
    # batch norms are frozen: there are no statistics to tell each other
    return DistributedDataParallel(
        model, device_ids=[device.index] if device.type == "cuda" else None, forward_sync_buffers=False
    )


def _to(part: Any, device: torch.device) -> torch.Tensor:
    if part.ndim == 4:
        return part.to(device, memory_format=torch.channels_last, non_blocking=True)
    return part.to(device, non_blocking=True)
