"""The training loop all networks share."""

import logging
import math
import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from inspect import signature
from itertools import islice
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import Dataset

from misc.errors import InputError
from misc.run.device import autocast, convolutions_tried_out
from misc.run.distributed import all_sum, cards_group, is_first, own_part, processes
from misc.run.log import progress_bar
from misc.run.memory import is_out_of_memory, shortage
from misc.train.loading import Sample, epoch_batches
from misc.train.progress import Progress
from misc.train.transfer import batches_on

log = logging.getLogger(__name__)

SHOWN_EVERY = 5  # steps between two looks at the running loss, which wait for the device

Terms = dict[str, torch.Tensor]  # named scalars; "loss" is what is minimised


class Recipe(NamedTuple):
    """How a network is trained.

    steps       of the optimiser
    batch_size  images in a micro-batch, of all processes together
    seed        of the order of the images
    workers     loading threads
    device      where the network is
    amp         whether convolutions are computed in bfloat16
    iter_size   micro-batches a step, their losses averaged: a batch of iter_size · batch_size in the memory of one
                micro-batch (Caffe's and DeepLab's name)
    """

    steps: int
    batch_size: int
    seed: int
    workers: int
    device: torch.device
    amp: bool = False
    iter_size: int = 1

    @property
    def images_per_step(self) -> int:
        return self.batch_size * self.iter_size


def train(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    dataset: Dataset,
    terms: Callable[..., Terms],
    recipe: Recipe,
    *,
    desc: str,
    progress: Progress,
    validate: Callable[[], dict[str, float]] | None = None,
    validate_every: int = 0,
    remedy: str = "lower its learning rate, with --overwrite and the finished steps off",
    needs_less: str = "lower its batch size",
    saves_epochs: bool = True,
) -> None:
    """Run shuffled batches through `terms(network, *micro_batch)` and the optimiser.

    The processes of a run share each micro-batch. Interrupted and started again, it goes on where `progress` was last
    saved.

    dataset         asked by (epoch, index), returns arrays; `ids` names its images
    terms           from the network and this process's part of a micro-batch, on the device, to the loss and what else
                    is worth showing; each is a summand: the sum over the processes is the value for the micro-batch
    validate        returns values for the history
    validate_every  how many steps it is called after; 0: after each epoch
    remedy          what to do where the loss is no longer a number
    needs_less      what to do where memory runs out
    saves_epochs    whether the state is saved at the end of each epoch; it is whenever `progress` finds it due
    Raises          InputError in both cases
    """
    n = len(dataset)  # type: ignore[arg-type]
    per_epoch = steps_per_epoch(n, recipe.images_per_step)
    epochs = -(-recipe.steps // per_epoch)
    done, sums = progress.restore(model, optimizer)
    if done:
        log.info("going on after step %d of %d", done, recipe.steps)
    running, window = RunningMeans(sums), RunningMeans()  # since the epoch began, since the last record
    network = _in_parallel(model, recipe.device)
    model.train()
    batches = _micro_batches(n, recipe)
    parts = [own_part(batch) for batch in batches[done * recipe.iter_size :]]
    losses: list[torch.Tensor] = []  # since the last record
    loaded = batches_on(recipe.device, dataset, parts, workers=recipe.workers)
    since = time.monotonic()
    with (
        progress.history(done) as history,
        progress_bar(recipe.steps * recipe.images_per_step, desc, initial=done * recipe.images_per_step) as bar,
    ):
        for step in range(done + 1, recipe.steps + 1):
            try:
                with convolutions_tried_out(recipe.device):  # all crops are of one size
                    values = _descend(network, optimizer, terms, islice(loaded, recipe.iter_size), recipe)
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                size = f"{recipe.batch_size} images at once"
                raise InputError(f"{desc}: not enough memory for {size} ({shortage(error)}): {needs_less}") from error
            running.add(values)
            window.add(values)
            losses.append(values["loss"])
            bar.update(recipe.images_per_step)
            ends_epoch = step % per_epoch == 0 or step == recipe.steps
            validates = validate is not None and (step % validate_every == 0 if validate_every else ends_epoch)
            if step % SHOWN_EVERY and not ends_epoch and not validates:
                continue
            epoch = (step - 1) // per_epoch + 1
            means = running.means()
            diverged = _first_that_is_no_number(losses)
            if diverged is not None:
                at = step - len(losses) + 1 + diverged
                images = _names(dataset, batches[(at - 1) * recipe.iter_size : at * recipe.iter_size])
                raise InputError(f"the training diverged, its loss is no number at step {at} ({images}): {remedy}")
            bar.set_postfix(means, refresh=False)
            speed = window.count * recipe.images_per_step / (time.monotonic() - since)
            rates = [group["lr"] for group in optimizer.param_groups]
            position = {"step": step, "epoch": epoch}
            history.add({**position, **window.means(), "lr": rates, "images_per_second": round(speed, 2)})
            if ends_epoch:
                log.info("epoch %d/%d: %s", epoch, epochs, in_words(means))
                running = RunningMeans()
            if validate is not None and validates:
                found = validate()
                log.info("step %d: %s", step, in_words(found))
                history.add({**position, **found})
                model.train()
            state = running.state()  # it all-reduces, so every rank calls it, whether or not its clock finds a save due
            if progress.is_due() or step == recipe.steps or (saves_epochs and ends_epoch):
                progress.save(step, model, optimizer, state)
            window, losses, since = RunningMeans(), [], time.monotonic()


def _micro_batches(n: int, recipe: Recipe) -> list[list[Sample]]:
    """The micro-batches of the whole training, `iter_size` of them a step."""
    per_epoch = steps_per_epoch(n, recipe.images_per_step)
    batches = [
        batch
        for epoch in range(-(-recipe.steps // per_epoch))
        for batch in epoch_batches(n, batch_size=recipe.images_per_step, seed=recipe.seed, epoch=epoch)
    ]
    size = recipe.batch_size
    return [batch[start : start + size] for batch in batches[: recipe.steps] for start in range(0, len(batch), size)]


def _descend(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    terms: Callable[..., Terms],
    micro_batches: Iterable[list[torch.Tensor]],
    recipe: Recipe,
) -> Terms:
    """One step of the optimiser; returns the terms, averaged over the micro-batches, without their graphs."""
    optimizer.zero_grad(set_to_none=True)
    total: Terms = {}
    for number, batch in enumerate(micro_batches, start=1):
        # the processes exchange their gradients once, in the backward pass of the last micro-batch
        keeps = isinstance(network, DistributedDataParallel) and number < recipe.iter_size
        with network.no_sync() if keeps else nullcontext():  # type: ignore[operator]
            with autocast(recipe.device, recipe.amp):
                values = terms(network, *batch)
            # DistributedDataParallel averages the processes' gradients; the loss's are to be summed
            (values["loss"] * (processes() / recipe.iter_size)).backward()
        for name, value in values.items():
            total[name] = total.get(name, 0) + value.detach() / recipe.iter_size
    optimizer.step()
    return total


def steps_per_epoch(n: int, images_per_step: int) -> int:
    """Whole batches in `n` samples; InputError if there is none."""
    if n < images_per_step:
        raise InputError(f"{n} training images make no batch of {images_per_step}: lower the batch size")
    return n // images_per_step


class RunningMeans:
    """Means of named scalars over some steps, each scalar summed over the processes.

    state     what `state` returned, to go on from
    """

    def __init__(self, state: dict[str, float] | None = None) -> None:
        totals = dict(state or {})
        self.count = int(totals.pop("count", 0))
        # the first process goes on from the sums over all processes, the others from zero
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
        totals = all_sum(torch.tensor([float(total) for total in self._sums.values()]))
        return dict(zip(self._sums, totals.tolist(), strict=True))


def in_words(means: dict[str, float]) -> str:
    return ", ".join(f"{name} {mean:.4f}" for name, mean in means.items())


def _first_that_is_no_number(losses: list[torch.Tensor]) -> int | None:
    """The place of the first loss, summed over the processes, that is not finite: nothing after it is of use."""
    values = all_sum(torch.stack(losses)).tolist()
    return next((place for place, value in enumerate(values) if not math.isfinite(value)), None)


def _names(dataset: Dataset, batches: list[list[Sample]]) -> str:
    ids = getattr(dataset, "ids", None)
    indices = [index for batch in batches for _, index in batch]
    return "images " + ", ".join(str(index if ids is None else ids[index]) for index in indices)


def _in_parallel(model: nn.Module, device: torch.device) -> nn.Module:
    """The model, or where it shares the work with other processes, the model that averages gradients with theirs."""
    if processes() == 1:
        return model
    # batch norms are frozen: there are no statistics to tell each other
    known = signature(DistributedDataParallel).parameters
    name = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"  # as older torch calls it
    options: dict[str, Any] = {name: False}
    if device.type == "cuda":
        options |= {"device_ids": [device.index], "process_group": cards_group()}
    return DistributedDataParallel(model, **options)
