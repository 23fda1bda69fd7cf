#!/usr/bin/env python3
"""SBE from one command: read the settings, look at everything that is needed, run the enabled steps in order."""

from misc.config import read_config
from misc.run.plan import Step
from misc.run.process import guarded, run_command

STEPS = (
    Step("make_demo_set", alone=True, makes_data=True),
    Step("train_backbone", alone=True),
    Step("make_saliency"),
    Step("train_cam"),
    Step("make_cam"),
    Step("eval_cam"),
    Step("make_boundary_label"),
    Step("train_sbe_boundary"),
    Step("make_sem_seg"),
    Step("eval_sem_seg"),
    Step("train_deeplab"),
    Step("make_deeplab_seg"),
    Step("eval_deeplab_seg"),
    Step("report", module="step.report.step"),
)


@guarded
def main(argv: list[str] | None = None) -> int:
    """Run the chain; returns the exit code: 0 done, 2 bad input."""
    args = read_config(argv)
    from misc.run.chain import run_chain  # torch and its like are imported only now, so that --help is quick

    run_chain(STEPS, args)
    return 0


if __name__ == "__main__":
    run_command(main)
