"""What a training says of itself as it goes: JSON lines beside its checkpoint and, if asked for, TensorBoard events."""

import errno
import json
import math
import os
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from misc.errors import InputError
from misc.files import replacing, strict_json

Record = dict[str, Any]  # {"step": 12, "epoch": 1, "loss": 0.41, "lr": [0.1, 1.0], …}


def history_path(checkpoint: str | Path) -> Path:
    """Where the history of the training that writes this checkpoint lies."""
    return Path(f"{checkpoint}.history.jsonl")


def read_history(path: str | Path) -> list[Record]:
    """The records of a history, in order. A last line that a killed run left half written is dropped.

    Returns   dicts with "step", an integer; every other value is a number, None (it was not finite), or a
              list of such.
    Raises    InputError naming the line that is no record.
    """
    try:
        lines = Path(path).read_bytes().split(b"\n")
    except OSError as error:
        raise InputError(f"{path}: the training history cannot be read ({error.strerror})") from error
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            if line.strip():
                records.append(_record(line))
        except (ValueError, RecursionError) as error:  # JSON of another shape, no JSON, no UTF-8
            if number == len(lines) and line.startswith(b"{") and not line.endswith(b"}"):
                break
            raise InputError(
                f"{path}, line {number}: not a training history ({error}), expected "
                'JSON lines like {"step": 1, "loss": 0.5}: move it away, or point to another checkpoint'
            ) from error
    return records


class History:
    """Appends the records of one training to its history; a context manager.

    path          the JSON lines; the folder is made if need be
    resume_from   the last step that is kept of an earlier run; 0: a new training, whatever is there is replaced
    tensorboard   a folder for event files with the same values; None: none
    Raises        InputError if the file cannot be read, while resuming, or written.
    """

    def __init__(self, path: str | Path, *, resume_from: int = 0, tensorboard: str | Path | None = None) -> None:
        self.path = Path(path)
        self._resume_from = resume_from
        self._tensorboard = tensorboard

    def __enter__(self) -> Self:
        kept = read_history(self.path) if self._resume_from and self.path.exists() else []
        with replacing(self.path) as temporary:
            temporary.write_bytes(b"".join(_line(record) for record in kept if record["step"] <= self._resume_from))
        with ExitStack() as opened:
            # appended to, not replaced: what a killed run has logged is what one wants to see
            self._file = opened.enter_context(open(self.path, "ab", buffering=0))
            self._events = None
            if self._tensorboard is not None:
                self._events = opened.enter_context(_writer(self._tensorboard, self._resume_from))
            self._opened = opened.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.close()

    def add(self, record: Record) -> None:
        """Write one record: "step", and numbers or lists of numbers. It is on its way to the disk on return."""
        line = _line(record)
        try:
            if self._file.write(line) < len(line):  # unbuffered, in one piece: a killed run leaves whole lines
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise InputError(f"cannot write {self.path}: {error.strerror or error}") from error
        if self._events is not None:
            for name, value in scalars(record).items():
                self._events.add_scalar(name, value, record["step"])


def scalars(record: Record) -> dict[str, float]:
    """The values of a record by name, without step, epoch and what is None; of a list each as "name/0", "name/1", …."""
    named: dict[str, float | None] = {}
    for name, value in record.items():
        if isinstance(value, list):
            named |= {f"{name}/{index}": item for index, item in enumerate(value)}
        elif name not in ("step", "epoch"):
            named[name] = value
    return {name: value for name, value in named.items() if value is not None}


def check_tensorboard() -> None:
    """InputError if event files were asked for and cannot be written."""
    try:
        import torch.utils.tensorboard  # noqa: F401
    except ImportError as error:
        raise InputError(
            "tensorboard: the package is not installed: pip install -r requirements-tensorboard.txt"
        ) from error


def _writer(folder: str | Path, resume_from: int) -> Any:
    from torch.utils.tensorboard import SummaryWriter

    try:
        # TensorBoard forgets what earlier event files in the folder say of this step and of later ones
        return SummaryWriter(str(folder), purge_step=resume_from + 1)
    except OSError as error:
        raise InputError(f"cannot write TensorBoard events into {folder}: {error.strerror or error}") from error


def _line(record: Record) -> bytes:
    finite = {name: _finite(value) for name, value in record.items()}
    return json.dumps(finite, allow_nan=False).encode() + b"\n"


def _finite(value: Any) -> Any:
    """JSON has no word for NaN and infinity: null."""
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _record(line: bytes) -> Record:
    """One line's record; ValueError if it is none."""
    record = strict_json(line)
    if not isinstance(record, dict) or type(record.get("step")) is not int:
        raise ValueError('no object with an integer "step"')
    for name, value in record.items():
        for item in value if isinstance(value, list) else [value]:
            if item is not None and type(item) not in (int, float):
                raise ValueError(f"{name!r} is no number")
    return record
