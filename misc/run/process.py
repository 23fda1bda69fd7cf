"""How a command ends: its exit code, and one line for whoever started it."""

import contextlib
import functools
import logging
import os
import re
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

from misc.errors import InputError
from misc.run.memory import is_out_of_memory, shortage

MOST_CHARACTERS = 400  # of another library's error, on one line
# what PyTorch says where a card or its libraries fail; its AcceleratorError is for some of it, and newer
OF_A_CARD = re.compile(r"CUDA error|cuDNN error|CUDNN_STATUS|CUBLAS_STATUS|HIP error")

BESIDE_THE_POINT = re.compile(
    r"\n(?:Exception raised from|CUDA kernel errors might|For debugging consider|Search for )"
)
ALLOCATOR = ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF")  # the second is newer than torch 2.6

log = logging.getLogger(__name__)

Main = Callable[[list[str] | None], int]


def guarded(main: Main) -> Main:
    """A command's main(argv) whose errors become one line on stderr and an exit code.

    Returns   2 for an InputError, and where memory runs out, a card or the exchange between processes fails (the log
              file has the traceback); 1 where another process of the run is gone; a defect is logged and raised.
    """

    @functools.wraps(main)
    def wrapper(argv: list[str] | None = None) -> int:
        try:
            return main(argv)
        except InputError as error:
            return _say(f"error: {error}", 2)
        except Exception as error:
            failure = _failure_of_the_machine(error)
            if failure is None:
                log.exception("defect")
                raise
            return _say(*failure, error=error)

    return wrapper


def run_command(main: Main) -> NoReturn:
    """Run main() as this process: signals end it at once, closed streams are no error.

    Any run may be killed at any moment and goes on when it is started again. So SIGINT (Ctrl-C) does what SIGTERM does:
    it ends the process without asking Python. An ignored SIGINT stays ignored.
    On CUDA, PyTorch's blocks of memory can grow, so that images of many sizes leave no gaps in a card's memory.
    """
    if not any(name in os.environ for name in ALLOCATOR):  # PyTorch reads it when it is imported, later
        os.environ[ALLOCATOR[0]] = "expandable_segments:True"
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


def _say(text: str, code: int, *, error: Exception | None = None) -> int:
    with contextlib.suppress(OSError):  # nobody reads on, or the disk is full
        print(text, file=sys.stderr)
    if logging.getLogger().handlers:  # the log's file has begun; its terminal leaves errors to stderr
        log.error("%s", text, exc_info=error)
    return code


def _failure_of_the_machine(error: Exception) -> tuple[str, int] | None:
    """What is to be said of an error that is none of this program's, and the exit code; None for a defect."""
    if is_out_of_memory(error):
        remedy = "try a smaller batch size, --amp or --num_workers, or another machine"
        return f"error: not enough memory ({shortage(error)}): {remedy}", 2
    if "torch" not in sys.modules:
        return None
    from misc.run.distributed import is_of_exchange, lost_another

    said = _one_line(error)
    if is_of_exchange(error):
        if lost_another(error):
            return f"another process of this run has ended, see its message ({said})", 1
        remedy = "see what the other processes say; with NCCL_DEBUG=INFO in the environment NCCL says more"
        return f"error: the processes of this run cannot exchange their data ({said}): {remedy}", 2
    if "no kernel image" in said:
        remedy = "install a PyTorch made for it (docs/gpu.md), or say --device cpu"
        return f"error: this PyTorch is not made for this card ({said}): {remedy}", 2
    if isinstance(error, RuntimeError) and (OF_A_CARD.search(said) or type(error).__name__ == "AcceleratorError"):
        remedy = "run it again, it goes on; if that helps nothing, look at nvidia-smi, or say --device cpu"
        return f"error: the card failed ({said}): {remedy}", 2
    return None


def _one_line(error: Exception) -> str:
    """The whole text of an error, without torch's account of its C++ functions and its advice on debugging."""
    text = BESIDE_THE_POINT.split(str(error))[0]
    said = f"{type(error).__name__}: {' '.join(text.split())}"
    return said if len(said) <= MOST_CHARACTERS else f"{said[:MOST_CHARACTERS]} …"
