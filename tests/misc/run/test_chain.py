"""The order of a run: everything is looked at first; then each step makes what is left."""

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from misc.config import Config
from misc.errors import InputError
from misc.run.chain import Left, run_chain
from misc.run.plan import Input, OneFile, PerImage, Plan, Step, Tables
from misc.run.preflight import Preflight

TABLE = (
    Step("make_demo_set", module="planted.demo", alone=True, makes_data=True),
    Step("train_backbone", module="planted.backbone", alone=True),
    Step("train_cam", module="planted.fit"),
    Step("make_cam", module="planted.draw"),
    Step("eval_cam", module="planted.measure"),
)
ON = {f"{step.name}_pass": True for step in TABLE}


class Bad(Input):
    def look(self, preflight: Preflight) -> None:
        preflight.problem("no weights")


class Planted:
    """Steps in place of the project's. They note what they are asked, and write what they are to make."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.asked, self.ids, self.reads = root, [], ["a", "b", "c"], []
        self.says = {"CAM": 0.5, "other": 0.25}
        makes = {
            "backbone": OneFile(root / "backbone.pth"),
            "fit": OneFile(root / "net.pth"),
            "draw": PerImage(lambda image_id: [root / "maps" / image_id]),
            "measure": Tables([root / "table"]),
        }
        for name in ("demo", *makes):
            module = ModuleType(name)
            if name in makes:
                module.plan = lambda args, name=name: self.plan(name, makes[name])
            module.make = lambda args, ids=None, name=name: self.make(name, makes.get(name), ids)
            monkeypatch.setitem(sys.modules, f"planted.{name}", module)

    def plan(self, name: str, makes) -> Plan:
        self.asked.append(f"plan {name}")
        return Plan(self.ids, self.reads, makes)

    def make(self, name: str, makes, ids: list[str] | None):
        self.asked.append(f"make {name}" + (f" of {' '.join(ids)}" if ids is not None else ""))
        for path in Plan(ids or [], [], makes).files() if makes else []:
            path.parent.mkdir(exist_ok=True)
            path.write_text(name)
        return {"measure": self.says, "draw": "look at the maps"}.get(name)

    def run(self, **changes: object) -> list[str]:
        """What the steps are asked in a run, in order."""
        self.asked.clear()
        settings = {"voc12_root": str(self.root), "log_name": str(self.root / "log"), "device": "cpu"}
        run_chain(TABLE, Config(**settings | ON | changes))
        return list(self.asked)

    @property
    def log(self) -> str:
        return (self.root / "log.log").read_text()


@pytest.fixture
def planted(tmp_path, monkeypatch) -> Planted:
    return Planted(tmp_path, monkeypatch)


def test_the_data_set_is_made_then_all_is_looked_at_then_the_steps_follow_in_order(planted):
    looks = ["plan backbone", "plan fit", "plan draw", "plan measure"]
    makes = [f"make {name} of a b c" for name in ("backbone", "fit", "draw", "measure")]
    assert planted.run() == ["make demo", *looks, *makes]
    assert re.findall(r"\[(\d)/5\] (\w+)", planted.log) == [(str(n), step.name) for n, step in enumerate(TABLE, 1)]


def test_steps_that_are_off_are_not_asked(planted):
    off = dict.fromkeys(ON, False)
    assert planted.run(**off | {"eval_cam_pass": True}) == ["plan measure", "make measure of a b c"]
    with pytest.raises(InputError, match="nothing to do"):
        planted.run(**off)


def test_only_what_is_left_is_made(planted):
    planted.run()
    (planted.root / "maps" / "b").unlink()
    assert planted.run()[5:] == ["make draw of b", "make measure of a b c"]
    assert "2 of 3 images are finished already" in planted.log
    everything = planted.run(overwrite=True)
    assert "make fit of a b c" in everything and "make draw of a b c" in everything


def test_what_is_wrong_is_said_before_any_step_runs(planted):
    planted.reads = [Bad()]
    with pytest.raises(InputError, match=r"^no weights$"):  # once, although four steps read them
        planted.run(make_demo_set_pass=False)
    assert not [asked for asked in planted.asked if asked.startswith("make")]
    with pytest.raises(InputError, match="voc12_root"):
        planted.run(make_demo_set_pass=False, voc12_root="no such folder")


def test_the_table_at_the_end(planted):
    planted.run(make_demo_set_pass=False)
    table = planted.log[planted.log.rindex("done\n") :].splitlines()
    assert [line.split()[0] for line in table[2:-2]] == [step.name for step in TABLE[1:]]
    assert table[5].endswith("CAM 50.00, other 25.00") and table[3].split()[-1].endswith("s")
    assert table[6].startswith("all ") and table[7] == "make_cam: look at the maps"


def test_each_process_makes_its_own_part_of_the_images_and_all_train(monkeypatch):
    monkeypatch.setattr("misc.run.chain.own_part", lambda ids: ids[1::2])
    assert Left(["a", "b", "c", "d"], shared=True).of_this_process() == ["b", "d"]
    assert Left(["a", "b", "c", "d"], shared=False).of_this_process() == ["a", "b", "c", "d"]
