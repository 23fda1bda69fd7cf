"""One log for the terminal and for the log file."""

import logging
import sys
from pathlib import Path

from tqdm import tqdm

from misc.distributed import is_first
from misc.errors import InputError


def start_log(name: str) -> None:
    """Send the log to the terminal and, with the time, to NAME.log, which grows from run to run.

    Of several processes the first one does; of the others, only what goes wrong is said.
    """
    logging.captureWarnings(True)
    logging.raiseExceptions = False  # a full disk ends no run by its log, and a step says it in one line
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
    to_terminal = _BesideBars()
    to_terminal.addFilter(lambda record: record.levelno < logging.ERROR)  # the driver prints those itself
    to_terminal.setFormatter(logging.Formatter("%(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[to_terminal, to_file], force=True)


def progress_bar(total: int | None, desc: str, *, initial: int = 0) -> tqdm:
    """A bar that counts images; of several processes only the first one shows its own."""
    return tqdm(total=total, desc=desc, unit="image", initial=initial, disable=not is_first())


class _BesideBars(logging.Handler):
    """Prints above a running progress bar instead of through it."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            tqdm.write(self.format(record), file=sys.stdout)
            sys.stdout.flush()
        except BrokenPipeError:  # nobody reads on (| head): the log file does
            pass
