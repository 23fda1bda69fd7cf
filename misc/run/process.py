"""How a command ends: its exit code, and one line for whoever started it."""

import contextlib
import functools
import logging
import os
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

from misc.errors import InputError

log = logging.getLogger(__name__)

Main = Callable[[list[str] | None], int]


def guarded(main: Main) -> Main:
    """A command's main(argv) whose errors become one line on stderr and an exit code.

    Returns   2 for an InputError, and where memory runs out; 1 where another process of the run is gone; a defect is
              logged and raised.
    """

    @functools.wraps(main)
    def wrapper(argv: list[str] | None = None) -> int:
        try:
            return main(argv)
        except InputError as error:
            return _say(f"error: {error}", 2)
        except Exception as error:
            if _is_out_of_memory(error):
                first = (str(error).splitlines() or ["Python asked for it"])[0]
                return _say(f"error: not enough memory ({first}): try a smaller --num_workers or batch size", 2)
            if _lost_another(error):
                return _say("another process of this run has ended, see its message", 1)
            log.exception("defect")
            raise

    return wrapper


def run_command(main: Main) -> NoReturn:
    """Run main() as this process: signals end it at once, closed streams are no error.

    Any run may be killed at any moment and goes on when it is started again. So SIGINT (Ctrl-C) does what SIGTERM does:
    it ends the process without asking Python. An ignored SIGINT stays ignored.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # the caller closed it (2>&-)
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - to the end
    try:
        code = main(None)
    except SystemExit as end:  # of --help; of a process that another one spoke for
        code = int(end.code or 0)
    _end(code)


def _end(code: int) -> NoReturn:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:  # nobody reads on, or the disk is full: Python would say so again, with another exit code
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    if "LOCAL_RANK" in os.environ:
        # threads of the process group may still be at work, and abort when Python takes away what they use
        logging.shutdown()
        os._exit(code)
    sys.exit(code)


def say(text: str) -> None:
    """Print what a command has to say, if anybody reads on and the disk is not full."""
    with contextlib.suppress(OSError):
        print(text, flush=True)


def _say(text: str, code: int) -> int:
    with contextlib.suppress(OSError):  # nobody reads on, or the disk is full
        print(text, file=sys.stderr)
    if logging.getLogger().handlers:  # the log's file has begun; its terminal leaves errors to stderr
        log.error("%s", text)
    return code


def _is_out_of_memory(error: Exception) -> bool:
    """Whether Python, NumPy, C code of ours or torch got no memory; torch raises a RuntimeError on the CPU."""
    said = str(error)
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and ("out of memory" in said or "can't allocate memory" in said)
    )


def _lost_another(error: Exception) -> bool:
    if "torch" not in sys.modules:
        return False
    from misc.run.distributed import lost_another

    return lost_another(error)
