"""One log for the terminal and for the log file."""

import logging
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from tqdm import tqdm

from misc.errors import InputError
from misc.run.distributed import is_first


def start_log(name: str) -> None:
    """Send the log to the terminal and, with the time, to NAME.log, which grows from run to run.

    Of several processes the first one does; of the others, only what goes wrong is said.
    """
    logging.captureWarnings(True)
    logging.getLogger("matplotlib").setLevel(logging.WARNING)  # a first run says "generated new fontManager"
    logging.raiseExceptions = False  # where a full disk loses a line of the log, the step that writes says so
    if not is_first():
        logging.basicConfig(level=logging.CRITICAL, handlers=[logging.NullHandler()], force=True)
        return
    path = Path(f"{name}.log")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        to_file = logging.FileHandler(path, encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot write the log {path}: {error.strerror}") from error
    to_file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    to_terminal = _AboveBars()
    to_terminal.addFilter(lambda record: record.levelno < logging.ERROR)  # misc/run/process.py prints errors
    to_terminal.setFormatter(logging.Formatter("%(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[to_terminal, to_file], force=True)


def progress_bar(total: int | None, desc: str, *, initial: int = 0) -> tqdm:
    """A bar that counts images; of several processes only the first one shows its own."""
    return tqdm(
        total=total, desc=desc, unit="image", initial=initial, disable=not is_first(), file=_LossyStream(sys.stderr)
    )


class _LossyStream:
    """A stream whose reader may leave (| head) and whose disk may fill up. The log file keeps what is lost here."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        with suppress(OSError):
            self._stream.write(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _AboveBars(logging.Handler):
    """Prints above a running progress bar instead of through it."""

    def emit(self, record: logging.LogRecord) -> None:
        out = _LossyStream(sys.stdout)
        tqdm.write(self.format(record), file=out)
        out.flush()
