#!/usr/bin/env python3
"""SBE from one command: read the settings, check the inputs, run the enabled steps in order."""

import importlib
import logging
import multiprocessing
import os
import signal
import sys
import time
from typing import Any

from misc.config import Config, read_config
from misc.errors import InputError

# A step is a module of `step` with check(args, preflight) and run(args), switched by `<name>_pass`.
PREPARATION = ("make_demo_set",)  # makes the data set that the checks of the others look at
STEPS = (
    "train_backbone",
    "train_cam",
    "make_cam",
    "eval_cam",
    "make_boundary_label",
    "train_sbe_boundary",
    "make_sem_seg",
    "eval_sem_seg",
)

log = logging.getLogger("run_sample")


def main(argv: list[str] | None = None) -> int:
    """Run the chain; returns the exit code: 0 done, 2 bad input, 130 interrupted, 143 terminated."""
    signal.signal(signal.SIGTERM, _terminate)
    try:
        run(read_config(argv))
    except InputError as error:
        return stopped(f"error: {error}", 2)
    except KeyboardInterrupt:
        return stopped("interrupted", 130)
    except Exception:
        log.exception("defect")
        raise
    return 0


def _terminate(signum: int, frame: object) -> None:
    """On SIGTERM, as schedulers send it: end the worker processes and then this one.

    Not by an exception: one that is raised while an object is being deleted is lost.
    """
    stopped("terminated", 143)
    for child in multiprocessing.active_children():
        child.kill()
    os._exit(143)


def stopped(text: str, code: int) -> int:
    print(text, file=sys.stderr)
    if logging.getLogger().handlers:  # the log has begun; this reaches its file only
        log.error("%s", text)
    return code


def run(args: Config) -> None:
    from misc.log import start_log  # torch and its like are imported only now, so that --help is quick

    start_log(args.log_name)
    names = [name for name in PREPARATION + STEPS if getattr(args, f"{name}_pass")]
    if not names:
        raise InputError("every step is switched off: nothing to do")
    log.info("%s, seed %d, %d steps: %s", args.method.upper(), args.seed, len(names), ", ".join(names))
    started = time.monotonic()
    outcomes: list[tuple[str, float, dict[str, float]]] = []
    checked: dict[str, Any] = {}
    for number, name in enumerate(names, start=1):
        if name not in PREPARATION and not checked:
            checked = check([later for later in names if later not in PREPARATION], args)
        step = importlib.import_module(f"step.{name}")
        log.info("[%d/%d] %s%s", number, len(names), name, checked.get(name, ""))
        begun = time.monotonic()
        result = step.run(args)
        outcomes.append((name, time.monotonic() - begun, result or {}))
    log.info("%s", summary(outcomes, time.monotonic() - started))


def check(names: list[str], args: Config) -> dict[str, str]:
    """Look at all that the steps will need; returns for each what it reads and writes, for the log."""
    from functools import partial

    from misc.device import check_amp, pick_device
    from misc.preflight import Preflight

    preflight = Preflight()
    preflight.attempt(partial(pick_device, args.device))
    if args.amp and not preflight.problems:
        preflight.attempt(partial(check_amp, pick_device(args.device)))
    preflight.folder("voc12_root", args.voc12_root)
    if not preflight.problems:
        for name in names:
            preflight.step(name)
            importlib.import_module(f"step.{name}").check(args, preflight)
    preflight.finish()
    return {name: f": {traffic}" for name, traffic in preflight.traffic.items()}


def summary(outcomes: list[tuple[str, float, dict[str, float]]], seconds: float) -> str:
    """The table at the end: each step, its time, and the mIoU in percent where it measured one."""
    rows = [f"{'step':<22}{'time':>10}  mIoU"]
    for name, took, result in outcomes:
        scores = ", ".join(f"{kind} {100 * miou:.2f}" for kind, miou in result.items())
        rows.append(f"{name:<22}{took:9.1f}s  {scores}".rstrip())
    return "\n".join(["done", *rows, f"{'all':<22}{seconds:9.1f}s"])


if __name__ == "__main__":
    sys.exit(main())
