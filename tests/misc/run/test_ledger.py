"""What is kept, what is refused, and what is made anew."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from misc.run.ledger import Ledger
from misc.run.manifest import Manifest, manifest_path
from misc.run.plan import Folder, Input, OneFile, PerImage, Plan, Tables

IDS = ["a", "b"]


class Place:
    """A data set of two images, a checkpoint made of them, a folder made with it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.rate, self.scale, self.ids = 0.1, (1.0, 2.0), list(IDS)
        self.opened: list[str] = []  # files that were asked whether they are whole
        for name in ("a", "b", "c"):
            self.image(name).write_text(f"pixels of {name}")

    def image(self, image_id: str) -> Path:
        return self.root / f"{image_id}.jpg"

    def out(self, image_id: str) -> Path:
        return self.root / "maps" / f"{image_id}.npy"

    @property
    def net(self) -> Path:
        return self.root / "net.pth"

    def plans(self) -> dict[str, Plan]:
        fit = OneFile(self.net, leftovers=[self.root / "net.pth.unfinished"])
        return {
            "fit": Plan(self.ids, [Pixels(self)], fit),
            "draw": Plan(self.ids, [Pixels(self), Net(self)], PerImage(lambda i: [self.out(i)])),
        }

    def settings(self, step: str) -> dict[str, Any]:
        return {"fit": {"rate": self.rate}, "draw": {"scale": self.scale}}.get(step, {})

    def ledger(self, *steps: str, overwrite: bool = False) -> Ledger:
        plans = {step: plan for step, plan in self.plans().items() if step in (steps or ("fit", "draw"))}
        return Ledger(plans, settings=self.settings, overwrite=overwrite, fault=self.fault)

    def reader(self, *ids: str, into: Path | None = None) -> Ledger:
        """The ledger of a step that reads the maps of images, and makes something of them or only measures them."""
        makes = PerImage(lambda i: [into / i]) if into else Tables([self.root / "tables"])
        return Ledger({"read": Plan(ids, [Maps(self, ids)], makes)}, settings=self.settings, overwrite=False)

    def fault(self, path: Path) -> str | None:
        """Sound files have content."""
        self.opened.append(path.name)
        return None if path.exists() and path.read_text() else "damaged"

    def run(self, *steps: str, overwrite: bool = False) -> list[str]:
        """What the chain does; returns the files that were made."""
        ledger = self.ledger(*steps, overwrite=overwrite)
        assert not ledger.problems
        if overwrite:
            ledger.start_anew()
        made = []
        if "fit" in (steps or ("fit",)):
            if ledger.begin("fit"):
                self.net.write_text(f"weights of {self.rate}")
                made.append("net")
            ledger.end("fit")
        if "draw" in (steps or ("draw",)):
            for image_id in ledger.begin("draw"):
                self.out(image_id).parent.mkdir(exist_ok=True)
                self.out(image_id).write_text(image_id)
                made.append(image_id)
            ledger.end("draw")
        return made


class Pixels(Input):
    def __init__(self, place: Place) -> None:
        self.place = place

    def parts(self, image_id: str) -> list[Path | str]:
        return [self.place.image(image_id), "label"]


class Net(Pixels):
    def parts(self, image_id: str) -> list[Path | str]:
        return []

    def whole(self) -> dict[str, Path | str]:
        return {"net": self.place.net}


class Maps(Input):
    def __init__(self, place: Place, ids: Sequence[str]) -> None:
        self.place, self.ids = place, ids

    def folder(self) -> Folder:
        return Folder("maps", self.place.root / "maps", self.place.out, self.ids)


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


def test_what_is_finished_is_kept(place):
    assert place.run() == ["net", "a", "b"]
    assert place.run() == []
    assert place.opened == []  # the digest alone tells
    place.ids.append("c")
    assert place.run("draw") == ["c"]


def test_a_killed_run_goes_on_with_what_is_left(place):
    """It had no time to note the digests."""
    ledger = place.ledger()
    assert ledger.begin("fit") == ledger.begin("draw") == IDS
    place.net.write_text("weights")
    ledger.end("fit")
    place.out("a").parent.mkdir(exist_ok=True)
    place.out("a").write_text("a")
    place.out("b").write_text("")  # damaged
    assert place.run() == ["b"]
    assert sorted(place.opened) == ["a.npy", "b.npy"]
    assert Manifest.read(place.root / "maps" / "manifest.json").files.keys() == {"a.npy", "b.npy"}


def test_inputs_of_different_runs_of_one_step_are_told_apart(place):
    """Maps of an old network, read beside a new one; then the maps are made of the new one as well."""

    def paint() -> Ledger:
        makes = PerImage(lambda i: [place.root / "painted" / i])
        plan = Plan(IDS, [Maps(place, IDS), Net(place)], makes)
        return Ledger({"paint": plan}, settings=place.settings, overwrite=False, fault=place.fault)

    place.run()
    place.rate = 0.2
    place.run("fit", overwrite=True)
    ledger = paint()
    assert not ledger.problems
    for image_id in ledger.begin("paint"):
        (place.root / "painted").mkdir(exist_ok=True)
        (place.root / "painted" / image_id).write_text("painted")
    ledger.end("paint")
    assert not paint().problems and paint().begin("paint") == []
    place.run("draw", overwrite=True)
    (problem,) = paint().problems
    assert "painted: made from something else" in problem


def test_all_files_of_an_image_that_is_made_again_are_noted_anew(place):
    """They may differ a little on another machine, and are not somebody else's."""

    def pair() -> Ledger:
        makes = PerImage(lambda i: [place.root / "maps" / f"{i}.a", place.root / "maps" / f"{i}.b"])
        return Ledger({"pair": Plan(["x"], [], makes)}, settings=place.settings, overwrite=False, fault=place.fault)

    def make(content: str) -> None:
        ledger = pair()
        assert not ledger.problems
        for image_id in ledger.begin("pair"):
            for ending in "ab":
                (place.root / "maps").mkdir(exist_ok=True)
                (place.root / "maps" / f"{image_id}.{ending}").write_text(content)
        ledger.end("pair")

    make("of one machine")
    (place.root / "maps" / "x.b").unlink()
    make("of another machine")
    assert not pair().problems and pair().begin("pair") == []


def test_a_place_has_one_maker_however_it_is_spelled(place):
    place.run()
    place.rate = 0.3
    plans = place.plans()
    other = place.root / ".." / place.root.name / "net.pth"

    class OtherSpelling(Net):
        def whole(self) -> dict[str, Path | str]:
            return {"net": other}

    plans["draw"] = plans["draw"]._replace(reads=[Pixels(place), OtherSpelling(place)])
    ledger = Ledger(plans, settings=place.settings, overwrite=True)
    assert ledger._origins["draw"].steps["fit"]["settings"] == {"rate": 0.3}


def test_tables_are_of_all_images_each_time(place):
    place.run()
    for _ in range(2):
        ledger = place.reader(*IDS)
        assert not ledger.problems and ledger.begin("read") == IDS
        ledger.end("read")


def test_another_version_of_a_step_is_another_origin_of_what_is_made_of_it(place, monkeypatch):
    place.run()
    plans = place.plans()
    monkeypatch.setattr(place, "plans", lambda: plans | {"draw": plans["draw"]._replace(version=2)})
    (problem,) = place.ledger().problems
    assert "maps" in problem and "computes draw otherwise" in problem


def test_an_interrupted_training_goes_on_and_its_state_goes_in_the_end(place):
    assert place.ledger("fit").begin("fit")
    state = place.root / "net.pth.unfinished"
    state.write_text("after one epoch")
    again = place.ledger("fit")
    assert not again.problems and again.begin("fit") and state.exists()
    place.net.write_text("weights")
    again.end("fit")
    assert not state.exists()
    state.write_text("killed before it was removed")
    last = place.ledger("fit")
    assert not last.begin("fit")
    last.end("fit")
    assert not state.exists()


def test_a_state_of_nobody_knows_what_is_not_touched(place):
    state = place.root / "net.pth.unfinished"
    state.write_text("of another place")
    assert "net.pth.unfinished: there already" in place.ledger("fit").problems[0]
    place.run(overwrite=True)
    assert not state.exists()


def test_a_checkpoint_that_is_gone_is_made_again(place):
    place.run()
    place.net.unlink()
    assert place.run() == ["net"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rate": 0.2}, [r"net\.pth: .*\(rate: 0.1 then, 0.2 now\)", r"maps: .*\(rate of fit: 0.1 then, 0.2 now\)"]),
        ({"scale": (1.0,)}, [r"maps: .*\(scale: \[1.0, 2.0\] then, \[1.0\] now\): pass --overwrite"]),
        (
            {"ids": ["a"]},
            [
                r"net.pth.*images: another content; list of images: 2 IDs \(\w+\) then, 1 IDs \(\w+\) now",
                r"maps.*images of fit: another content; list of images of fit: 2 IDs",
            ],
        ),
    ],
)
def test_other_settings_are_refused_by_name(place, change, said):
    place.run()
    for name, value in change.items():
        setattr(place, name, value)
    problems = place.ledger().problems
    assert len(problems) == len(said)
    for pattern, problem in zip(said, problems, strict=True):
        assert re.search(pattern, problem), problem


def test_other_images_are_refused(place):
    place.run()
    place.image("b").write_text("pixels of another b")
    network, maps = place.ledger().problems
    assert "images: another content" in network and "images of fit: another content" in maps
    assert "inputs of 1 of 2 images: b" in maps


def test_overwrite_makes_anew_and_claims_only_what_it_made(place):
    place.run()
    place.scale, place.ids = (1.0,), ["a"]
    place.run("draw", overwrite=True)
    assert Manifest.read(place.root / "maps" / "manifest.json").origin.images.keys() == {"a"}
    place.ids = list(IDS)
    assert "b.npy: there already, and not as draw left it" in place.ledger("draw").problems[0]


def test_overwrite_with_the_same_settings_keeps_the_claim_to_the_rest(place):
    place.run()
    place.ids = ["a"]
    assert place.run("draw", overwrite=True) == ["a"]
    place.ids = list(IDS)
    assert place.run("draw") == []


def test_what_somebody_else_made_is_not_touched(place):
    place.net.write_text("published weights")
    (place.root / "maps").mkdir()
    place.out("b").write_text("by hand")
    network, maps = place.ledger().problems
    assert "net.pth: there already" in network and "--no_fit_pass to use it" in network and "b.npy" in maps
    assert place.run(overwrite=True) == ["net", "a", "b"]


def test_maps_that_were_replaced_are_somebody_elses(place):
    """Where they are made: not touched. Where they are read: another input."""
    place.run()
    place.out("b").write_text("by hand")
    assert "b.npy: there already, and not as draw left it" in place.ledger("draw").problems[0]
    origin = place.reader(*IDS, into=place.root / "read")._origins["read"]
    place.out("b").write_text("b")
    untouched = place.reader(*IDS, into=place.root / "read")._origins["read"]
    assert origin.images["a"] == untouched.images["a"] and origin.images["b"] != untouched.images["b"]


def test_a_damaged_map_is_made_again(place):
    place.run()
    place.out("b").write_text("")
    assert place.run() == ["b"]


def test_files_a_manifest_does_not_tell_of_are_no_input(place):
    place.run()
    place.out("c").write_text("of other settings")
    for into in (None, place.root / "read"):
        (problem,) = place.reader("a", "c", into=into).problems
        assert "says nothing of the files of 1 of 2 images (c): make them by draw, or remove" in problem


def test_overwrite_that_was_interrupted_goes_on_without_it(place):
    """All is claimed before the first step runs."""
    place.run()
    place.rate, place.scale = 0.2, (3.0,)
    ledger = place.ledger(overwrite=True)
    ledger.start_anew()
    assert not place.net.exists() and not place.out("a").exists()
    assert ledger.begin("fit")  # killed here
    assert place.run() == ["net", "a", "b"]


def test_a_checkpoint_that_was_replaced_is_somebody_elses(place, caplog):
    caplog.set_level("INFO")
    place.run()
    place.net.write_text("published weights")
    assert "there already" in place.ledger("fit").problems[0]
    assert "no manifest tells" not in caplog.text
    (problem,) = place.ledger("draw").problems
    assert "no manifest tells" in caplog.text and "net: made by fit then, " in problem


def test_what_was_made_with_other_settings_by_a_step_that_is_off_is_said(place, caplog):
    place.run()
    place.rate = 0.5
    assert not place.ledger("draw").problems
    assert "net.pth: made with rate 0.1; now it is 0.5, but fit is off" in caplog.text


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        '{"format": 1}',
        '{"format": 1, "steps": 3}',
        "nul\0",
        '{"format": 1, "made_by": "x", "steps": {}, "images": {"a": 5}, "files": {}}',
    ],
)
def test_what_is_no_manifest(place, content):
    place.run()
    (place.root / "maps" / "manifest.json").write_text(content)
    (problem,) = place.ledger().problems
    assert "manifest.json: not a manifest" in problem and "--overwrite" in problem
    (problem,) = place.reader(*IDS).problems
    assert "manifest.json: not a manifest" in problem and "remove it" in problem
    assert place.run(overwrite=True) == ["net", "a", "b"]


def test_a_manifest_of_another_version(place):
    place.run()
    path = manifest_path(place.root / "maps", is_folder=True)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 0}))
    assert "another version" in place.ledger().problems[0]
