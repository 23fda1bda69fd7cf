"""A training that is not finished: kept beside the checkpoint it is to become, so that it can go on."""

import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from misc.errors import InputError, reason
from misc.formats.checkpoint import read_content, save_content
from misc.run.distributed import is_first
from misc.train.history import History, Record, history_path

Tensors = dict[str, torch.Tensor]


def unfinished_path(checkpoint: str | Path) -> Path:
    """Where the state of an unfinished training of this checkpoint lies."""
    return Path(f"{checkpoint}.unfinished")


class Progress:
    """Saves and restores what a training needs to go on as if it had never stopped.

    checkpoint   path of the finished network
    minutes      how often a state is worth saving within an epoch
    tensorboard  whether the history also goes to TensorBoard, into a folder beside the checkpoint
    """

    def __init__(self, checkpoint: str | Path, *, minutes: float, tensorboard: bool = False) -> None:
        self._checkpoint, self._path = checkpoint, unfinished_path(checkpoint)
        self._minutes, self._tensorboard = minutes, tensorboard
        self._saved_at = time.monotonic()

    def restore(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[int, dict[str, float]]:
        """Bring both to the saved state; returns the steps done, and the sums that `save` was given.

        Raises    InputError if the state cannot be read, or is of another network.
        """
        if not self._path.is_file():
            return 0, {}
        try:
            content = read_content(self._path)
        except InputError as error:
            raise InputError(f"{error}: pass --overwrite to start anew") from error
        try:
            own, saved = changing_tensors(model), content["model"]
            if {n: t.shape for n, t in own.items()} != {n: t.shape for n, t in saved.items()}:
                raise ValueError("its tensors are those of another network")
            with torch.no_grad():
                for name, tensor in own.items():
                    tensor.copy_(saved[name])
            optimizer.load_state_dict(content["optimizer"])
            return int(content["step"]), dict(content["sums"])
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            raise InputError(
                f"{self._path}: no state of this training ({reason(error)}): pass --overwrite to start anew"
            ) from error

    def save(self, step: int, model: nn.Module, optimizer: torch.optim.Optimizer, sums: dict[str, float]) -> None:
        if is_first():
            content = {
                "step": step,
                "model": changing_tensors(model),
                "optimizer": optimizer.state_dict(),
                "sums": sums,
            }
            save_content(content, self._path)
        self._saved_at = time.monotonic()

    def is_due(self) -> bool:
        return time.monotonic() - self._saved_at >= 60 * self._minutes

    def history(self, resume_from: int) -> "History | _Nowhere":
        if not is_first():
            return _Nowhere()
        events = Path(f"{self._checkpoint}.tensorboard") if self._tensorboard else None
        return History(history_path(self._checkpoint), resume_from=resume_from, tensorboard=events)


class _Nowhere:
    """The history of a process that writes none."""

    def __enter__(self) -> "_Nowhere":
        return self

    def __exit__(self, *exception: Any) -> None: ...

    def add(self, record: Record) -> None: ...


def changing_tensors(model: nn.Module) -> Tensors:
    """What training changes: parameters that learn, and buffers (the statistics of a batch norm)."""
    learning = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    return learning | dict(model.named_buffers())
