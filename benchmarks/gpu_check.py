"""Does it work on this card, are the results those of a CPU, and how fast is it? One page to paste into a report.

    python -m benchmarks.gpu_check                               # all parts, in less than ten minutes
    python -m benchmarks.gpu_check --parts walk,crf,make_cam     # some of them
    python -m benchmarks.gpu_check --device cpu                  # does the program run? Tiny, the figures mean nothing

Each part runs in a process of its own and has a limit of time; one that fails is told by its last line. The page and,
beside it, all figures as JSON are written after each part. Exit code: 0, 1 if a part failed, 2 if there is no card.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks.gpu_page import page
from misc.files import replacing

PROJECT = Path(__file__).resolve().parent.parent
# the most seconds of each part, in their order
LIMITS = {
    "golden": 240, "compare": 120, "walk": 60, "crf": 90, "train_cam": 90, "make_cam": 90, "make_boundary_label": 90,
    "train_sbe_boundary": 90, "make_sem_seg": 90, "train_deeplab": 120, "make_deeplab_seg": 90, "ranks": 150,
}  # fmt: skip
UNPREPARED = ("golden", "walk", "crf", "ranks")  # they need no files
FACTS_LIMIT, PREPARE_LIMIT = 120, 240
SLACK_OF_CPU = 4  # with --device cpu, how many times as long a part may take
MOST_OF_LOG = 6000  # characters of what a failed part printed, kept beside the figures
LEAST = 5  # seconds; with less a part is not begun

Result = dict[str, Any]


def parsed(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default=",".join(LIMITS), help=f"some of {','.join(LIMITS)}")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: tiny, to try the program")
    parser.add_argument("--tiny", action="store_true", help="small inputs on the card as well")
    parser.add_argument("--seconds", type=float, default=600, help="of all parts together, at the most (default 600)")
    parser.add_argument("--out", type=Path, help="the page (default report.md in --work)")
    parser.add_argument("--work", type=Path, default=Path("result/gpu_check"), help="where inputs and outputs go")
    args = parser.parse_args(argv)
    args.parts = args.parts.split(",")
    if unknown := set(args.parts) - LIMITS.keys():
        parser.error(f"no such part: {', '.join(sorted(unknown))} (there are {', '.join(LIMITS)})")
    return args


def main(argv: list[str] | None = None) -> int:
    args = parsed(argv)
    command = " ".join(["python -m benchmarks.gpu_check", *(sys.argv[1:] if argv is None else argv)])
    check = Check(args, [part for part in LIMITS if part in args.parts], command)
    facts = check.run("facts", FACTS_LIMIT)
    if "result" not in facts:
        print(f"gpu_check: PyTorch cannot be asked for the card: {said(facts)}", file=sys.stderr)
        return 2
    if args.device == "cuda" and not facts["result"]["cards"]:
        print(f"gpu_check: no card: {facts['result']['why']} (--device cpu tries the program)", file=sys.stderr)
        return 2
    check.all_parts()
    print(f"\n{check.page()}\nwritten to {check.out}")
    return 1 if any(has_failed(result) for result in check.results.values()) else 0


class Check:
    """The parts of one check, and what came of them."""

    def __init__(self, args: argparse.Namespace, parts: list[str], command: str) -> None:
        self.args, self.parts = args, parts
        self.begun = time.monotonic()
        self.results: dict[str, Result] = {}
        self.out = args.out or args.work / "report.md"
        tiny = args.tiny or args.device == "cpu"
        self.slack = SLACK_OF_CPU if args.device == "cpu" else 1
        self.common = {
            "device": args.device, "tiny": tiny, "parts": parts, "command": command,
            "folder": str((args.work / ("tiny" if tiny else "full")).resolve()),
        }  # fmt: skip

    def all_parts(self) -> None:
        prepared: Result = {"result": {}}
        if set(self.parts) - set(UNPREPARED):
            prepared = self.run("prepare", PREPARE_LIMIT)
        for part in self.parts:
            if part in UNPREPARED or "result" in prepared:
                self.run(part, LIMITS[part])
            else:
                self.results[part] = {"failed": f"its inputs were not made: {said(prepared)}", "seconds": 0}
            self.save()

    def run(self, part: str, limit: float) -> Result:
        """A part's `result`, or the line that says why it `failed` or was `not_run`; and its seconds."""
        left = self.args.seconds - (time.monotonic() - self.begun)
        print(f"{part} …", file=sys.stderr, flush=True)
        if left < LEAST:
            outcome: Result = {"not_run": f"the {self.args.seconds:g} s of --seconds are over", "seconds": 0.0}
        else:
            outcome = run_part({**self.common, "part": part}, min(limit * self.slack, left))
        print(f"{part}: {outcome['seconds']:.0f} s{said(outcome)}", file=sys.stderr, flush=True)
        self.results[part] = outcome
        return outcome

    def page(self) -> str:
        return page(self.results, seconds=time.monotonic() - self.begun, tiny=self.common["tiny"])

    def save(self) -> None:
        """Write page and figures, after each part: what is known stays if this process is killed."""
        for path, text in (
            (self.out, self.page()),
            (self.out.with_suffix(".json"), json.dumps(self.results, indent=1)),
        ):
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as temporary:
                temporary.write_text(text, encoding="utf-8")


def run_part(job: dict[str, Any], limit: float) -> Result:
    """Run a job in a process of its own, and end it and those that it started when its time is over."""
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as log:
        asked, answered = Path(folder) / "job.json", Path(folder) / "result.json"
        asked.write_text(json.dumps(job))
        command = [sys.executable, "-m", "benchmarks.gpu_worker", str(asked), str(answered)]
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True, cwd=PROJECT)
        try:
            code = process.wait(limit)
            why = "" if code == 0 else f"exit code {code}"
        except subprocess.TimeoutExpired:
            why = f"not finished after {limit:.0f} s"
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        seconds = time.monotonic() - begun
        log.seek(0)
        if why:
            text = log.read().decode(errors="replace")
            last = last_line(text)
            return {"failed": f"{why}: {last}" if last else why, "seconds": seconds, "log": text[-MOST_OF_LOG:]}
        result = json.loads(answered.read_text())
    if "not_run" in result:
        return {**result, "seconds": seconds}
    return {"result": result, "seconds": seconds}


def last_line(log: str) -> str:
    """The last line that says something; a progress bar returns to the start of its line."""
    lines = [line.strip() for line in re.split(r"[\r\n]", log) if line.strip()]
    return lines[-1][:400] if lines else ""


def said(outcome: Result) -> str:
    """Why there is no result, after a colon; empty if there is one."""
    return "".join(f": {outcome[word]}" for word in ("failed", "not_run") if word in outcome)


def has_failed(outcome: Result) -> bool:
    return "failed" in outcome or bool(outcome.get("result", {}).get("failed"))


if __name__ == "__main__":
    sys.exit(main())
