"""Run steps in order: look at everything that they need, then let each make what is not finished."""

import logging
import time
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from misc.config import Config
from misc.errors import InputError
from misc.formats.quick_look import file_fault
from misc.run.device import (
    Place,
    check_device,
    check_places,
    keep_freed_memory,
    keep_within_quota,
    log_device,
    pick_device,
    use_device,
)
from misc.run.distributed import (
    all_gather,
    is_first,
    launched,
    on_first,
    own_part,
    process_group,
    processes,
    wait_for_all,
)
from misc.run.ledger import Ledger
from misc.run.log import start_log
from misc.run.memory import release_memory
from misc.run.parallel import end_with_parent
from misc.run.plan import OneFile, Plan, Step
from misc.run.preflight import Preflight

log = logging.getLogger(__name__)


class Outcome(NamedTuple):
    """What a step has to show: its time in seconds, and by name its mIoUs, or a text."""

    step: str
    seconds: float
    result: dict[str, float] | str


def run_chain(table: Sequence[Step], args: Config) -> None:
    """Run the steps of the table that `args` switches on.

    Raises    InputError, before a step runs, with all that is wrong; or by the step that meets it.
    """
    if launched() > 1:
        end_with_parent()
    start_log(args.log_name)
    keep_freed_memory()
    keep_within_quota()
    steps = [step for step in table if getattr(args, f"{step.name}_pass")]
    if not steps:
        raise InputError("every step is switched off: nothing to do")
    names = ", ".join(step.name for step in steps)
    log.info("%s, seed %d, %d steps: %s", args.method.upper(), args.seed, len(steps), names)
    device = pick_device(args.device)
    log_device(args.device, device, tf32=args.tf32)
    use_device(device, tf32=args.tf32, deterministic=args.deterministic)
    chain = Chain(steps, args)
    for step in steps:
        if step.alone and is_first():
            chain.run(step)
    with process_group(device):
        if processes() > 1:
            on_first(partial(check_places, all_gather(Place.of(device, amp=args.amp))))
        for step in steps:
            if not step.alone:
                chain.run(step)
    log.info("%s", chain.summary())


class Chain:
    """The steps of one run. The first process looks at everything and keeps the ledger; it tells the others."""

    def __init__(self, steps: Sequence[Step], args: Config) -> None:
        self._steps, self._args = steps, args
        self._started = time.monotonic()
        self._outcomes: list[Outcome] = []
        self._checked: Checked | None = None

    def run(self, step: Step) -> None:
        """Run a step for what is left to make. Everything is looked at before the first step that reads data."""
        begun = time.monotonic()
        ids = on_first(partial(self._begin, step))
        result = None
        if step.makes_data:
            result = step.load().make(self._args)
        elif ids is None:
            log.info("finished already")
        else:
            result = step.load().make(self._args, ids.of_this_process())
        release_memory()  # the next step's tensors are of other sizes
        wait_for_all()
        on_first(partial(self._end, step))
        self._outcomes.append(Outcome(step.name, time.monotonic() - begun, result or {}))

    def _begin(self, step: Step) -> "Left | None":
        """What is left to make; None if nothing is."""
        if not step.makes_data and self._checked is None:
            self._checked = look([other for other in self._steps if not other.makes_data], self._args)
        traffic = f": {self._checked.traffic[step.name]}" if self._checked else ""
        log.info("[%d/%d] %s%s", self._steps.index(step) + 1, len(self._steps), step.name, traffic)
        if self._checked is None:
            return None
        plan = self._checked.plans[step.name]
        left = self._checked.ledger.begin(step.name)
        if plan.has_folders and len(left) < len(plan.ids):
            log.info("%d of %d images are finished already", len(plan.ids) - len(left), len(plan.ids))
        return Left(left, shared=not isinstance(plan.makes, OneFile)) if left else None

    def _end(self, step: Step) -> None:
        if self._checked is not None:
            self._checked.ledger.end(step.name)

    def summary(self) -> str:
        """The table at the end: each step, its time, and its mIoU in percent if it has one; then what it says."""
        rows, words = [f"{'step':<22}{'time':>10}  mIoU"], []
        for step, seconds, result in self._outcomes:
            scores = ""
            if isinstance(result, str):
                words.append(f"{step}: {result}")
            else:
                scores = ", ".join(f"{kind} {100 * miou:.2f}" for kind, miou in result.items())
            rows.append(f"{step:<22}{seconds:9.1f}s  {scores}".rstrip())
        return "\n".join(["done", *rows, f"{'all':<22}{time.monotonic() - self._started:9.1f}s", *words])


class Left(NamedTuple):
    """The images that a step has left to make; shared: each process makes a part of them."""

    ids: list[str]
    shared: bool

    def of_this_process(self) -> list[str]:
        return own_part(self.ids) if self.shared else self.ids


class Checked(NamedTuple):
    """What the look at everything found: the plans, a line of the log for each step, and what may be kept."""

    plans: dict[str, Plan]
    traffic: dict[str, str]
    ledger: Ledger


def look(steps: Sequence[Step], args: Config) -> Checked:
    """Look at all that the steps will need and at what they would write over; InputError with all that is wrong."""
    preflight = Preflight()
    preflight.attempt(partial(check_device, pick_device(args.device), amp=args.amp))
    preflight.needs_folder("voc12_root", args.voc12_root)
    preflight.finish()
    plans: dict[str, Plan] = {}
    for step in steps:
        preflight.step(step.name)
        plan = plans[step.name] = step.load().plan(args)
        for item in plan.reads:
            item.look(preflight)
        preflight.makes(step.name, plan.places(), plan.files())
    preflight.finish()
    ledger = Ledger(plans, settings=args.of, overwrite=args.overwrite, fault=file_fault)
    for problem in ledger.problems:
        preflight.problem(problem)
    preflight.finish()
    if args.overwrite:
        ledger.start_anew()
    return Checked(plans, {name: str(traffic) for name, traffic in preflight.traffic.items()}, ledger)
