"""What a plan says of its outputs: their files, and the places that a manifest tells of."""

import sys
from pathlib import Path
from types import ModuleType

import pytest

from misc.run.plan import Folder, Input, OneFile, PerImage, Plan, Step, Tables
from misc.run.preflight import Preflight

MASKS, EDGES, NET, TABLE = Path("masks"), Path("edges"), Path("net.pth"), Path("scores.json")


def two_folders(image_id: str) -> list[Path]:
    return [MASKS / f"{image_id}.png", EDGES / f"{image_id}.png", MASKS / f"{image_id}_crf.png"]


def test_files_of_each_image():
    plan = Plan(["a", "b"], [], PerImage(two_folders, leftovers=[TABLE]))
    assert plan.has_folders and plan.places() == [MASKS, EDGES]
    assert plan.files() == [*two_folders("a"), *two_folders("b")]
    assert plan.files_at(EDGES) == [EDGES / "a.png", EDGES / "b.png"]
    assert plan.leftovers == [TABLE]


def test_one_file_of_all_images():
    plan = Plan(["a", "b"], [], OneFile(NET, leftovers=[TABLE]))
    assert not plan.has_folders and plan.places() == plan.files() == plan.files_at(NET) == [NET]
    assert plan.leftovers == [TABLE]


def test_tables_have_no_place_that_a_manifest_tells_of():
    plan = Plan(["a", "b"], [], Tables([TABLE]))
    assert not plan.has_folders and plan.places() == [] and plan.files() == [TABLE] and list(plan.leftovers) == []


class Maps(Input):
    def folder(self) -> Folder:
        return Folder("cam_out_dir", MASKS, lambda image_id: MASKS / image_id, ["a"])


def test_an_input_says_nothing_but_what_applies_to_it():
    plan = Plan(["a"], [Input(), Maps(), Input()], Tables([TABLE]))
    assert [folder.setting for folder in plan.folders()] == ["cam_out_dir"]
    nothing, preflight = Input(), Preflight()
    nothing.look(preflight)
    assert not preflight.problems and not [*nothing.parts("a"), *nothing.whole(), *filter(None, [nothing.folder()])]


@pytest.mark.parametrize(
    ("row", "module"), [(Step("fit"), "step.fit"), (Step("fit", module="other.place"), "other.place")]
)
def test_a_step_is_the_module_of_its_name(row, module, monkeypatch):
    planted = ModuleType(module)
    monkeypatch.setitem(sys.modules, module, planted)
    assert row.load() is planted
