"""run_sample.py on cards that are not there: python -m tests.pretended_cuda.run ACCOUNT ARGUMENTS…

Writes what a card would have done in each step to the file ACCOUNT, as JSON, and ends with the run's exit code.
INTERRUPTED in the environment: the run ends when it has saved the state of a training for the first time.
Started by torchrun, there are as many cards as processes, and what they exchange is written as well (processes.py).
"""

import json
import os
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

from tests.pretended_cuda.device import begin, in_threads, pretended


def main(path: str, arguments: list[str]) -> None:
    begin()
    from misc.run import parallel
    from misc.run.chain import Chain
    from misc.train.progress import Progress
    from run_sample import main as run
    from tests.pretended_cuda.processes import exchanged, pretended_nccl

    processes, rank = int(os.environ.get("WORLD_SIZE", "1")), os.environ.get("RANK", "")

    run_step, save = Chain.run, Progress.save

    def counted(chain: Chain, step: Any) -> None:
        with account.of(step.name):
            run_step(chain, step)

    def save_and_end(*args: Any) -> None:
        save(*args)
        os._exit(9)

    with (
        pretended(processes) as account,
        pretended_nccl() if processes > 1 else nullcontext(),
        patch.object(Chain, "run", counted),
        patch.object(parallel, "ThreadPoolExecutor", in_threads(parallel.ThreadPoolExecutor)),
        patch.object(Progress, "save", save_and_end if "INTERRUPTED" in os.environ else save),
    ):
        code = run(arguments)
    found = {"steps": account.by_step, "cards": list(map(str, account.cards_taken)), "exchanged": exchanged}
    Path(path + rank).write_text(json.dumps(found, indent=1), encoding="utf-8")
    sys.stderr.flush()
    os._exit(code)  # threads of the process group may still be at work


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
