"""What is kept, what is refused, and what is made anew."""

import json
from pathlib import Path

import pytest

from misc.run.ledger import Judged, Ledger, Product
from misc.run.manifest import Manifest, manifest_path

IDS = ["a", "b"]


class Place:
    """A data set of two images, a checkpoint made of them, a folder made with it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.rate, self.scale, self.ids = 0.1, (1.0, 2.0), list(IDS)
        for name in ("a", "b", "c"):
            self.image(name).write_text(f"pixels of {name}")

    def image(self, image_id: str) -> Path:
        return self.root / f"{image_id}.jpg"

    def out(self, image_id: str) -> Path:
        return self.root / "maps" / f"{image_id}.npy"

    @property
    def net(self) -> Path:
        return self.root / "net.pth"

    def products(self) -> list[Product]:
        images = {"ids": self.ids, "image_inputs": lambda i: (self.image(i), "label")}
        return [
            Product("fit", [self.net], {"rate": self.rate}, **images, leftovers=[self.root / "net.pth.unfinished"]),
            Product(
                "draw", [self.root / "maps"], {"scale": self.scale}, **images, inputs={"net": self.net},
                outputs=lambda i: [self.out(i)],
            ),
        ]  # fmt: skip

    def ledger(self, *steps: str, overwrite: bool = False) -> Ledger:
        products = [p for p in self.products() if p.step in (steps or ("fit", "draw"))]
        settings = {"rate": self.rate, "scale": self.scale}
        return Ledger(products, settings=settings, overwrite=overwrite, fault=self.fault)

    def fault(self, path: Path) -> str | None:
        """Sound files have content."""
        return None if path.exists() and path.read_text() else "damaged"

    def run(self, *steps: str, overwrite: bool = False) -> list[str]:
        """What the driver does; returns the files that were made."""
        ledger = self.ledger(*steps, overwrite=overwrite)
        assert not ledger.problems
        if overwrite:
            ledger.start_anew()
        made = []
        if "fit" in (steps or ("fit",)) and ledger.begin("fit"):
            self.net.write_text(f"weights of {self.rate}")
            ledger.end("fit")
            made.append("net")
        if "draw" in (steps or ("draw",)) and ledger.begin("draw"):
            for image_id in self.ids:
                if self.fault(self.out(image_id)):
                    self.out(image_id).parent.mkdir(exist_ok=True)
                    self.out(image_id).write_text(image_id)
                    made.append(image_id)
            ledger.end("draw")
        return made


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


def test_what_is_finished_is_kept(place):
    assert place.run() == ["net", "a", "b"]
    assert place.run() == []
    place.ids.append("c")
    assert place.run("draw") == ["c"]


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
    assert not place.ledger("fit").begin("fit") and not state.exists()


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
    import re

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
    target = place.root / "read"
    folders = {"maps": (place.root / "maps", place.out)}
    reader = Product("read", [target], {}, IDS, lambda i: (), outputs=lambda i: [target / i], folders=folders)
    origin = Ledger([reader], settings={}, overwrite=False)._origins["read"]
    place.out("b").write_text("b")
    untouched = Ledger([reader], settings={}, overwrite=False)._origins["read"]
    assert origin.images["a"] == untouched.images["a"] and origin.images["b"] != untouched.images["b"]


def test_a_damaged_map_is_made_again(place):
    place.run()
    place.out("b").write_text("")
    assert place.run() == ["b"]


def test_files_a_manifest_does_not_tell_of_are_no_input(place):
    place.run()
    place.out("c").write_text("of other settings")
    for products, judged in (([], [Judged(place.root / "maps", ["a", "c"])]),):
        (problem,) = Ledger(products, settings={}, overwrite=False, judged=judged).problems
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
    (problem,) = Ledger([], settings={}, overwrite=True, judged=[Judged(place.root / "maps", IDS)]).problems
    assert "manifest.json: not a manifest" in problem and "remove it" in problem
    assert place.run(overwrite=True) == ["net", "a", "b"]


def test_a_manifest_of_another_version(place):
    place.run()
    path = manifest_path(place.root / "maps", is_folder=True)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 0}))
    assert "another version" in place.ledger().problems[0]
