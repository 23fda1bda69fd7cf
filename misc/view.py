"""`python -m misc.view`, the first name of `python -m step.report.view`."""

import runpy

if __name__ == "__main__":
    runpy.run_module("step.report.view", run_name="__main__")
