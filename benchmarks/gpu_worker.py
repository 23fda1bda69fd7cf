"""One part of gpu_check in a process of its own, so that a part that fails or hangs loses no other.

    python -m benchmarks.gpu_worker JOB.json RESULT.json

JOB names the part, the device, whether all is to be tiny, and the folder of inputs and outputs.
"""

import json
import sys
from pathlib import Path
from typing import Any

from misc.errors import InputError


def main() -> int:
    job = json.loads(Path(sys.argv[1]).read_text())
    try:
        result = make(job)
    except InputError as error:  # what a run would say
        print(f"error: {error}", file=sys.stderr)
        return 2
    Path(sys.argv[2]).write_text(json.dumps(result))
    return 0


def make(job: dict[str, Any]) -> dict[str, Any]:
    """The result of a job's part; torch and its like are imported for it alone."""
    match job["part"]:
        case "facts":
            from benchmarks.card import facts

            return facts(job["device"], job["command"])
        case "golden" | "ranks" as part:
            from benchmarks import gpu_runs

            return getattr(gpu_runs, part)(job)
        case "compare" | "walk" | "crf" as part:
            from benchmarks import gpu_parity
            from misc.run.device import keep_freed_memory

            keep_freed_memory()
            return getattr(gpu_parity, part)(job)
        case "prepare":
            from benchmarks.gpu_steps import prepare

            return prepare(job)
        case _:
            from benchmarks.gpu_steps import measure

            return measure(job)


if __name__ == "__main__":
    sys.exit(main())
