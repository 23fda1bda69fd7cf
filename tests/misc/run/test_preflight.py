"""Everything that is wrong, said at once, before any work."""

from pathlib import Path

import pytest

from misc.errors import InputError
from misc.run.preflight import Preflight


def text_of(preflight: Preflight) -> str:
    with pytest.raises(InputError) as error:
        preflight.finish()
    return str(error.value)


def touch(folder: Path, *names: str) -> list[Path]:
    paths = [folder / name for name in names]
    for path in paths:
        path.touch()
    return paths


def test_nothing_wrong(tmp_path):
    preflight = Preflight()
    preflight.needs_folder("voc12_root", str(tmp_path))
    preflight.reads("images", touch(tmp_path, "a", "b"))
    preflight.writes([tmp_path / "new" / "folder" / "c"])
    preflight.finish()
    assert not (tmp_path / "new").exists()  # it only looks


def test_all_problems_come_together(tmp_path):
    preflight = Preflight()
    preflight.needs_folder("voc12_root", "")
    preflight.needs_folder("other", str(tmp_path / "no"))
    preflight.reads("images", [tmp_path / "a.jpg"], remedy="get it")
    preflight.problem("something else")
    preflight.problem("something else")
    lines = text_of(preflight).splitlines()
    assert lines[0] == "4 problems"
    assert lines[1:] == [
        "  - voc12_root is not set: pass --voc12_root PATH",
        f"  - other: there is no folder {tmp_path}/no",
        f"  - images missing: {tmp_path}/a.jpg: get it",
        "  - something else",
    ]


def test_one_problem_is_one_line():
    preflight = Preflight()
    preflight.problem("that is it")
    assert text_of(preflight) == "that is it"


@pytest.mark.parametrize(("missing", "shown"), [(1, 1), (5, 5), (6, 5), (300, 5)])
def test_at_most_five_names_and_how_many(tmp_path, missing, shown):
    there = touch(tmp_path, "x", "y")
    preflight = Preflight()
    preflight.reads("images", [*there, *(tmp_path / f"m{i}" for i in range(missing))])
    text = text_of(preflight)
    assert text.startswith(f"{missing} of {missing + 2} images missing: ")
    assert text.count(f"{tmp_path}/m") == shown
    assert text.endswith("…") == (missing > shown)


def test_what_an_earlier_step_writes_need_not_be_there(tmp_path):
    preflight = Preflight()
    preflight.reads("maps", [tmp_path / "early"])
    preflight.writes(tmp_path / name for name in ("a", "b"))
    preflight.reads("maps", [tmp_path / "a", tmp_path / "c"], probe=lambda path: "never asked of a")
    assert preflight.is_to_come(tmp_path / "a") and not preflight.is_to_come(tmp_path / "c")
    assert text_of(preflight).splitlines()[1:] == [
        f"  - maps missing: {tmp_path}/early",
        f"  - maps missing: {tmp_path}/c",
    ]


def test_a_remedy_may_depend_on_what_is_missing(tmp_path):
    touch(tmp_path, "a")
    preflight = Preflight()
    preflight.reads("images", [tmp_path / "a"], remedy=lambda path: pytest.fail("asked without need"))
    preflight.reads("images", [tmp_path / n for n in "abc"], remedy=lambda path: f"look for {path.name}")
    assert text_of(preflight) == f"2 of 3 images missing: {tmp_path}/b, {tmp_path}/c: look for b"


def test_a_folder_is_no_file(tmp_path):
    preflight = Preflight()
    preflight.reads("images", [tmp_path])
    assert "images missing" in text_of(preflight)


def test_a_file_is_probed_once_and_its_fault_told(tmp_path):
    asked = []

    def probe(path: Path) -> str | None:
        asked.append(path.name)
        return "too dark" if path.name == "b" else None

    preflight = Preflight()
    paths = touch(tmp_path, "a", "b")
    preflight.reads("images", paths, probe=probe)
    preflight.reads("images", paths, probe=probe)
    assert asked == ["a", "b"]
    assert text_of(preflight) == f"1 of 2 images unreadable: {tmp_path}/b (too dark)"


def test_labels_are_tried():
    def read(image_id: str) -> None:
        if image_id != "good":
            raise InputError(f"no label for {image_id}")

    preflight = Preflight()
    preflight.reads_each("image labels", ["good", "x", "y"], read)
    assert text_of(preflight) == "2 of 3 image labels unusable: no label for x, no label for y"


def test_attempt_takes_input_errors_only():
    def refuse() -> None:
        raise InputError("no weights")

    preflight = Preflight()
    preflight.attempt(refuse)
    preflight.attempt(lambda: None)
    assert text_of(preflight) == "no weights"
    with pytest.raises(ZeroDivisionError):
        preflight.attempt(lambda: 1 / 0)


@pytest.mark.parametrize("place", ["file/a.png", "file/deep/a.png"])
def test_a_file_in_the_way_of_a_folder(tmp_path, place):
    touch(tmp_path, "file")
    preflight = Preflight()
    preflight.writes([tmp_path / place])
    assert "cannot write into" in text_of(preflight)


def test_traffic_is_told_step_by_step(tmp_path):
    preflight = Preflight()
    preflight.step("one")
    preflight.writes([Path("cam/a.npy"), Path("cam/b.npy")])
    preflight.step("two")
    preflight.reads("CAMs", [Path("cam/a.npy"), Path("cam/b.npy")])
    preflight.writes([Path("out/w.pth")])
    assert {name: str(traffic) for name, traffic in preflight.traffic.items()} == {
        "one": "reads ; writes cam/",
        "two": "reads cam/; writes out/w.pth",
    }


@pytest.mark.parametrize("spelling", ["a.png", "../{name}/a.png"])
def test_what_is_read_is_not_written_over(tmp_path, spelling):
    """However the folder is spelled; what an earlier step writes may be read."""
    touch(tmp_path, "a.png")
    other = tmp_path / spelling.format(name=tmp_path.name)
    preflight = Preflight()
    preflight.reads("masks", [tmp_path / "a.png"])
    preflight.makes("draw", [other.parent], [other])
    assert "what this run reads" in text_of(preflight) and "name another" in text_of(preflight)
    later = Preflight()
    later.makes("draw", [tmp_path], [tmp_path / "a.png"])
    later.reads("masks", [other])
    later.finish()
    assert later.is_to_come(other)
