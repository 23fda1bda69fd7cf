"""The house has floors: a module imports from its own room, or from one below."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import PROJECT

# From the ground up; rooms of one floor do not know each other. The longest name that fits is a module's room.
FLOORS = (
    ("misc",),  # errors, files, config, pixels, native: the ground
    ("misc.formats",),
    ("misc.run", "misc.crf"),
    ("misc.evaluation", "misc.method", "misc.expand_cams"),
    ("misc.train",),
    ("misc.report",),
    ("net.cpu",),
    ("net", "voc12"),
    ("step.shared",),
    ("step.report", "step"),
    ("run_sample", "benchmarks"),
)
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
TOPS = {room.split(".")[0] for room in FLOOR_OF}


def room_of(module: str) -> str:
    parts = module.split(".")
    return next(room for n in range(len(parts), 0, -1) if (room := ".".join(parts[:n])) in FLOOR_OF)


def imported(code: str) -> Iterator[str]:
    """The modules of this project that a source imports, inside functions too."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            # `from step import make_cam` imports a module of `step`, `from misc.files import remove` a function
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (name for name in names if name.split(".")[0] in TOPS)


def upward(module: str, code: str) -> list[str]:
    """What a module imports from above, or from another room of its own floor; steps do not know each other."""
    own = room_of(module)
    others = [name for name in imported(code) if room_of(name) != own or own == "step"]
    return [name for name in others if FLOOR_OF[room_of(name)] >= FLOOR_OF[own]]


def modules() -> Iterator[tuple[str, Path]]:
    for top in TOPS:
        for path in [PROJECT / f"{top}.py", *(PROJECT / top).rglob("*.py")]:
            if path.is_file():
                yield ".".join(path.relative_to(PROJECT).with_suffix("").parts).removesuffix(".__init__"), path


def test_nothing_points_upward():
    found = {module: upward(module, path.read_text(encoding="utf-8")) for module, path in modules()}
    assert len(found) > 60
    assert {module: names for module, names in found.items() if names} == {}


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("misc.files", "from misc.run.log import start_log"),
        ("misc.run.chain", "from misc.train.history import check_tensorboard"),
        ("misc.crf.dense_crf", "def f():\n    import misc.run.device"),
        ("misc.report.page", "from step.shared import paths"),
        ("net.resnet50", "from voc12.datasets import ScaledImages"),
        ("net.cpu.convolution", "from net import resnet50"),
        ("step.shared.cams", "from step import make_cam"),
        ("step.make_cam", "from step.report.view import view"),
        ("step.make_cam", "from step.make_sem_seg import make"),
    ],
)
def test_a_planted_upward_import_is_found(module, line):
    assert upward(module, f"import os\n{line}\n") != []


def test_every_file_of_step_is_a_step():
    from run_sample import STEPS

    named = {step.name for step in STEPS if not step.module}
    assert {path.stem for path in (PROJECT / "step").glob("*.py")} - {"__init__"} == named
