"""What a training logs survives a kill and a resumption; TensorBoard is told the same."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from misc.errors import InputError
from misc.train.history import History, check_tensorboard, history_path, read_history, scalars
from tests.conftest import PROJECT

FIRST = {"step": 5, "epoch": 1, "loss": 0.5, "ground": 0.2, "lr": [0.1, 1.0], "images_per_second": 31.25}
SECOND = {"step": 10, "epoch": 1, "loss": 0.25, "ground": 0.125, "lr": [0.05, 0.5], "images_per_second": 30.0}
VALIDATED = {"step": 10, "epoch": 1, "validation_loss": 0.375}
THIRD = {"step": 15, "epoch": 2, "loss": 0.2, "ground": 0.1, "lr": [0.025, 0.25], "images_per_second": 32.0}


def write(path: Path, *records: dict, **how: object) -> list[dict]:
    with History(path, **how) as history:
        for record in records:
            history.add(record)
    return read_history(path)


def test_it_lies_beside_the_checkpoint():
    assert history_path("sess/res50_cam.pth") == Path("sess/res50_cam.pth.history.jsonl")


def test_records_are_read_back_one_a_line(tmp_path):
    path = tmp_path / "sess" / "a.history.jsonl"
    assert write(path, FIRST, SECOND, VALIDATED) == [FIRST, SECOND, VALIDATED]
    assert [json.loads(line) for line in path.read_text().splitlines()] == [FIRST, SECOND, VALIDATED]
    assert list(path.parent.iterdir()) == [path]


def test_a_record_is_there_before_the_training_ends(tmp_path):
    with History(tmp_path / "a.jsonl") as history:
        history.add(FIRST)
        assert read_history(tmp_path / "a.jsonl") == [FIRST]


def test_a_killed_training_leaves_whole_lines(tmp_path):
    path = tmp_path / "a.jsonl"
    script = (
        "import os, signal, sys; from misc.train.history import History\n"
        "with History(sys.argv[1]) as history:\n"
        "    for step in range(1, 101): history.add({'step': step, 'loss': 0.5})\n"
        "    os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", script, str(path)], cwd=PROJECT, timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert [record["step"] for record in read_history(path)] == list(range(1, 101))


def test_a_new_training_begins_a_new_history(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("of some other training\n")
    assert write(path, FIRST) == [FIRST]


def test_a_resumed_training_forgets_what_came_after_its_checkpoint(tmp_path):
    path = tmp_path / "a.jsonl"
    write(path, FIRST, SECOND, VALIDATED, THIRD)
    again = {**THIRD, "loss": 0.19}
    assert write(path, again, resume_from=10) == [FIRST, SECOND, VALIDATED, again]


def test_a_resumed_training_whose_history_is_gone_begins_one(tmp_path):
    assert write(tmp_path / "a.jsonl", THIRD, resume_from=10) == [THIRD]


@pytest.mark.parametrize("cut", range(1, len(json.dumps(SECOND)) + 1))
def test_a_half_line_at_the_end_is_dropped(tmp_path, cut):
    """Wherever the second line was cut; only its newline may be missing."""
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(FIRST) + "\n" + json.dumps(SECOND)[:cut])
    whole = [FIRST, SECOND] if cut == len(json.dumps(SECOND)) else [FIRST]
    assert read_history(path) == whole
    assert write(path, THIRD, resume_from=10) == [*whole, THIRD]


@pytest.mark.parametrize(
    ("content", "line", "says"),
    [
        ("<html>\n", 1, "not a training history"),
        ("hello", 1, "JSON lines like"),
        ('{"step": 1}\nstep 2\n{"step": 3}\n', 2, "not a training history"),
        ('{"step": 1}\n\n{"loss": 0.5}\n', 3, 'no object with an integer "step"'),
        ("[1, 2]\n", 1, 'no object with an integer "step"'),
        ('{"step": true}\n', 1, 'no object with an integer "step"'),
        ('{"step": 1.5}\n', 1, 'no object with an integer "step"'),
        ('{"step": 1, "loss": "low"}', 1, "'loss' is no number"),
        ('{"step": 1, "lr": [0.1, [0.2]]}\n', 1, "'lr' is no number"),
        ('{"step": 1, "loss": NaN}\n', 1, "NaN is no finite number"),
        ('{"step": 1, "loss": 1e999}\n', 1, "1e999 is no finite number"),
        ("[" * 100_000 + "\n", 1, "not a training history"),
        (b'{"step": 1}\n\xff\xfe\n', 2, "not a training history"),
    ],
)
def test_what_is_no_history_is_named_with_its_line(tmp_path, content, line, says):
    path = tmp_path / "a.jsonl"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError) as error:
        read_history(path)
    text = str(error.value)
    assert text.startswith(f"{path}, line {line}: ") and says in text and "\n" not in text
    with pytest.raises(InputError, match="not a training history"):
        write(path, THIRD, resume_from=10)
    assert path.read_bytes().startswith(content if isinstance(content, bytes) else content.encode())  # left alone


def test_a_history_that_is_not_there_or_a_folder(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        read_history(tmp_path / "a.jsonl")
    with pytest.raises(InputError, match="directory"):
        read_history(tmp_path)
    with pytest.raises(InputError, match="cannot write"):
        write(tmp_path, FIRST)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_a_full_disk_is_an_input_error(tmp_path):
    with History(tmp_path / "a.jsonl") as history:
        history._file.close()
        history._file = open("/dev/full", "ab", buffering=0)  # noqa: SIM115
        with history._file, pytest.raises(InputError, match=r"cannot write .*a\.jsonl: No space left"):
            history.add(FIRST)


def test_what_is_not_finite_becomes_null(tmp_path):
    record = {"step": 1, "loss": float("nan"), "lr": [float("inf"), 0.1]}
    assert write(tmp_path / "a.jsonl", record) == [{"step": 1, "loss": None, "lr": [None, 0.1]}]


numbers = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
values = numbers | st.none() | st.lists(numbers, max_size=3)
names = st.text(min_size=1).filter(lambda name: name != "step")


@given(records=st.lists(st.builds(lambda step, rest: {"step": step, **rest}, st.integers(1, 9),
                                  st.dictionaries(names, values, max_size=3)), max_size=5),
       resume_from=st.integers(1, 9))  # fmt: skip
def test_any_record_comes_back_unless_a_resumption_drops_it(tmp_path_factory, records, resume_from):
    path = tmp_path_factory.mktemp("history") / "a.jsonl"
    assert write(path, *records) == records
    assert write(path, resume_from=resume_from) == [r for r in records if r["step"] <= resume_from]


def test_scalars_of_a_record():
    assert scalars({**VALIDATED, "lr": [0.1, None, 1.0], "loss": None}) == {
        "validation_loss": 0.375,
        "lr/0": 0.1,
        "lr/2": 1.0,
    }


def events(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard makes of a folder of event files: for each name its steps and values."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(folder)).Reload()
    tags = accumulator.Tags()["scalars"]
    return {tag: [(event.step, event.value) for event in accumulator.Scalars(tag)] for tag in tags}


@pytest.mark.filterwarnings("ignore")  # tensorboard's own
def test_tensorboard_is_told_the_same(tmp_path):
    folder = tmp_path / "events"
    write(tmp_path / "a.jsonl", FIRST, SECOND, VALIDATED, tensorboard=folder)
    told = events(folder)
    assert told["loss"] == [(5, 0.5), (10, 0.25)]
    assert told["lr/1"] == [(5, 1.0), (10, 0.5)]
    assert told["images_per_second"] == [(5, 31.25), (10, 30.0)]
    assert told["validation_loss"] == [(10, 0.375)]
    assert set(told) == {"loss", "ground", "lr/0", "lr/1", "images_per_second", "validation_loss"}


@pytest.mark.filterwarnings("ignore")  # tensorboard's own
@pytest.mark.parametrize(("resume_from", "kept"), [(5, [(5, 0.5)]), (0, [])])
def test_tensorboard_forgets_what_came_after_the_checkpoint(tmp_path, resume_from, kept):
    folder = tmp_path / "events"
    write(tmp_path / "a.jsonl", FIRST, SECOND, VALIDATED, tensorboard=folder)
    write(tmp_path / "a.jsonl", {**SECOND, "loss": 0.75}, resume_from=resume_from, tensorboard=folder)
    assert events(folder)["loss"] == [*kept, (10, 0.75)]


def test_tensorboard_into_a_file_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot write TensorBoard events into"):
        write(tmp_path / "a.jsonl", tensorboard=tmp_path / "file")


def test_without_the_package_one_line_says_what_to_install(monkeypatch):
    check_tensorboard()
    for name in ("tensorboard", "torch.utils.tensorboard"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InputError, match=r"pip install -r requirements-tensorboard\.txt"):
        check_tensorboard()
