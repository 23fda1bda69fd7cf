#!/usr/bin/env python3
"""SBE from one command: read the settings, check the inputs, run the enabled steps in order."""

import contextlib
import importlib
import logging
import multiprocessing
import os
import select
import signal
import sys
import threading
import time
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from misc.config import Config, read_config
from misc.errors import InputError

if TYPE_CHECKING:
    from misc.run.ledger import Ledger

# A step is a module of `step` with check(args, preflight) and run(args), switched by `<name>_pass`.
DATA = "make_demo_set"  # makes the data set that the checks of the others look at
ALONE = (DATA, "train_backbone")  # done by one process before the others join in
STEPS = (
    "train_backbone",
    "make_saliency",
    "train_cam",
    "make_cam",
    "eval_cam",
    "make_boundary_label",
    "train_sbe_boundary",
    "make_sem_seg",
    "eval_sem_seg",
    "report",
)

SAID = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}  # the last words of a run that is told to end

log = logging.getLogger("run_sample")


def main(argv: list[str] | None = None) -> int:
    """Run the chain; returns the exit code: 0 done, 2 bad input (130 and 143: see `obey_signals`)."""
    try:
        run(read_config(argv))
    except InputError as error:
        return stopped(f"error: {error}", 2)
    except Exception as error:
        from misc.run.distributed import lost_another

        if lost_another(error):
            return stopped("another process of this run has ended, see its message", 1)
        log.exception("defect")
        raise
    return 0


def obey_signals() -> None:
    """On SIGINT (Ctrl-C) and SIGTERM (as schedulers send it), end this process and its workers: code 128 + signal.

    By a thread that the signal itself tells. Python runs a signal's handler in the main thread, between two of its
    own instructions, and does not get there while that computes, or waits for a disk or a process that is gone; an
    exception of such a handler is lost where an object is being deleted, and waits for all other threads.
    A signal that is ignored stays so, as for a command that a script starts in the background.
    """
    told, tell = os.pipe()
    os.set_blocking(tell, False)
    signal.set_wakeup_fd(tell, warn_on_full_buffer=False)
    for signum in SAID:
        if signal.getsignal(signum) is not signal.SIG_IGN:
            signal.signal(signum, _await_end)
    os.register_at_fork(after_in_child=_leave_signals_to_parent)
    threading.Thread(target=_obey, args=(told,), daemon=True).start()


def _await_end(signum: int, frame: object) -> None:
    """In the main thread: say nothing of workers that die of the signal, too; go on if it holds a lock of the log."""
    time.sleep(1)


def _leave_signals_to_parent() -> None:
    """A worker that is told to end has nothing to say, and none of its own to end."""
    signal.set_wakeup_fd(-1)
    for signum in SAID:
        if signal.getsignal(signum) is _await_end:
            signal.signal(signum, signal.SIG_DFL)


def _obey(told: int) -> None:
    """End this process by the first of the signals: not held up by who does not read stderr, nor long by a disk."""
    while (signum := os.read(told, 1)[0]) not in SAID:
        pass
    try:
        signal.alarm(5)  # by the system, if the rest has to wait
        for child in multiprocessing.active_children():
            child.kill()
        said = SAID[signal.Signals(signum)]
        with contextlib.suppress(OSError):
            if select.select([], [sys.stderr], [], 0)[1]:
                below_bar = "\n" if sys.stderr.isatty() else ""
                # not by print: the main thread may be in the midst of one
                os.write(sys.stderr.fileno(), f"{below_bar}{said}\n".encode())
        _log_error(said)
    finally:
        os._exit(128 + signum)


def stopped(text: str, code: int) -> int:
    with contextlib.suppress(OSError):  # nobody reads on, or the disk is full
        print(text, file=sys.stderr)
    _log_error(text)
    return code


def _log_error(text: str) -> None:
    """To the log's file only, if the log has begun: what the terminal is told goes to stderr."""
    if logging.getLogger().handlers:
        log.error("%s", text)


def run(args: Config) -> None:
    # torch and its like are imported only now, so that --help is quick
    from misc.run.device import keep_freed_memory, pick_device
    from misc.run.distributed import is_first, launched, process_group
    from misc.run.log import start_log

    if launched() > 1:
        from misc.run.parallel import end_with_parent

        end_with_parent()
    start_log(args.log_name)
    keep_freed_memory()
    names = [name for name in (DATA, *STEPS) if getattr(args, f"{name}_pass")]
    if not names:
        raise InputError("every step is switched off: nothing to do")
    log.info("%s, seed %d, %d steps: %s", args.method.upper(), args.seed, len(names), ", ".join(names))
    chain = Run(args, names)
    for name in names:
        if name in ALONE and is_first():
            chain.step(name)
    with process_group(pick_device(args.device)):
        for name in names:
            if name not in ALONE:
                chain.step(name)
    log.info("%s", chain.summary())


class Run:
    """The enabled steps of one run, one after the other; what the first process finds out, it tells the others."""

    def __init__(self, args: Config, names: list[str]) -> None:
        self._args, self._names = args, names
        self._started = time.monotonic()
        self._outcomes: list[tuple[str, float, dict[str, float] | str]] = []
        self._checked: Checked | None = None

    def step(self, name: str) -> None:
        """Run a step, unless all it makes is finished; everything is checked before the first one that reads data."""
        from misc.run.distributed import on_first, wait_for_all

        begun = time.monotonic()
        result = None
        if on_first(lambda: self._begin(name)):
            result = importlib.import_module("step.report.step" if name == "report" else f"step.{name}").run(self._args)
            wait_for_all()
            on_first(lambda: self._end(name))
        else:
            log.info("finished already")
        self._outcomes.append((name, time.monotonic() - begun, result or {}))

    def _begin(self, name: str) -> bool:
        if name != DATA and self._checked is None:
            self._checked = check([later for later in self._names if later != DATA], self._args)
        traffic = self._checked.traffic[name] if self._checked else ""
        log.info("[%d/%d] %s%s", self._names.index(name) + 1, len(self._names), name, traffic)
        return self._checked is None or self._checked.ledger.begin(name)

    def _end(self, name: str) -> None:
        if self._checked is not None:
            self._checked.ledger.end(name)

    def summary(self) -> str:
        """The table at the end: each step, its time, and its mIoU in percent if it has one; then what it says."""
        rows, words = [f"{'step':<22}{'time':>10}  mIoU"], []
        for name, took, result in self._outcomes:
            if isinstance(result, str):
                words.append(f"{name}: {result}")
                result = {}
            scores = ", ".join(f"{kind} {100 * miou:.2f}" for kind, miou in result.items())
            rows.append(f"{name:<22}{took:9.1f}s  {scores}".rstrip())
        return "\n".join(["done", *rows, f"{'all':<22}{time.monotonic() - self._started:9.1f}s", *words])


class Checked(NamedTuple):
    """What the look at everything found: for each step a line of the log, and what may be kept."""

    traffic: dict[str, str]
    ledger: "Ledger"


def check(names: list[str], args: Config) -> Checked:
    """Look at all that the steps will need and at what they would write over; InputError with all that is wrong."""
    from misc.formats.quick_look import file_fault
    from misc.run.device import check_amp, pick_device
    from misc.run.ledger import Ledger
    from misc.run.preflight import Preflight
    from misc.train.history import check_tensorboard

    preflight = Preflight()
    preflight.attempt(partial(pick_device, args.device))
    if args.amp and not preflight.problems:
        preflight.attempt(partial(check_amp, pick_device(args.device)))
    if args.tensorboard:
        preflight.attempt(check_tensorboard)
    preflight.folder("voc12_root", args.voc12_root)
    if not preflight.problems:
        for name in names:
            preflight.step(name)
            importlib.import_module("step.report.step" if name == "report" else f"step.{name}").check(args, preflight)
    preflight.finish()
    ledger = Ledger(
        preflight.products,
        settings=asdict(args),
        overwrite=args.overwrite,
        judged=preflight.judged,
        fault=file_fault,
    )
    for problem in ledger.problems:
        preflight.problem(problem)
    preflight.finish()
    if args.overwrite:
        ledger.start_anew()
    return Checked({name: f": {traffic}" for name, traffic in preflight.traffic.items()}, ledger)


def open_closed_streams() -> None:
    """What would go to a stream that the caller has closed (2>&-) goes nowhere, and is no error."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - to the end


def leave(code: int) -> NoReturn:
    """End this process; one of several ends without taking the interpreter apart.

    Threads of its process group may still be at work, and abort when what they use is gone: seen after all was done.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:  # nobody reads on, or the disk is full: said again at exit, with another exit code
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    if "LOCAL_RANK" in os.environ:
        logging.shutdown()
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    open_closed_streams()
    obey_signals()
    try:
        leave(main())
    except SystemExit as end:  # of --help; of a process that another one spoke for
        leave(int(end.code or 0))
