"""Whatever ends a run, the next one ends with the files of an undisturbed run."""

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.conftest import PROJECT
from tests.test_chain import CHAIN, files_below, only

# states are saved at every look, so that kills within an epoch have something to go on from
SETTINGS = {"num_workers": 2, "checkpoint_minutes": 0, "cam_num_epoches": 2, "bes_num_epoches": 3}


def command_for(tiny_args, out: Path, **changes: object) -> list[str]:
    folders = {name: out / name for name in ("cam_out_dir", "cam_vis_dir", "boundary_label_dir", "sem_seg_out_dir")}
    files = {"cam_weights_name": out / "cam.pth", "bes_weights_name": out / "bes.pth", "log_name": out / "log"}
    return [sys.executable, str(PROJECT / "run_sample.py"), *tiny_args(**folders, **files, **SETTINGS | changes)]


class Run(subprocess.Popen):
    """A chain in a session of its own; what it says goes to a file, since a pipe that nobody reads blocks it."""

    def __init__(self, command: list[str], **options) -> None:
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed by `ends`
        streams = {"stdout": subprocess.DEVNULL, "stderr": self._errors}
        super().__init__(command, text=True, start_new_session=True, **streams | options)

    def ends(self) -> tuple[int, str]:
        """Its exit code and what it said."""
        code = self.wait(timeout=300)
        with self._errors as file:
            file.seek(0)
            return code, file.read()


def succeed(command: list[str]) -> None:
    code, error = Run(command).ends()
    assert code == 0, error


def curves(out: Path) -> dict[str, list[dict]]:
    """The histories without what depends on the time."""
    lines = {path.name: path.read_text().splitlines() for path in out.glob("*.jsonl")}
    return {
        name: [{k: v for k, v in json.loads(line).items() if k != "images_per_second"} for line in found]
        for name, found in lines.items()
    }


def seconds_of(log: str) -> dict[str, float]:
    """What each step took, from the table at the end of a log."""
    rows = [line.split() for line in log.splitlines()]
    return {
        row[0]: float(row[1].rstrip("s")) for row in rows if len(row) > 1 and row[0] in CHAIN and row[1][0].isdigit()
    }


@pytest.fixture(scope="module")
def undisturbed(tiny_voc, backbone_file, tmp_path_factory):
    """undisturbed(tiny_args, steps): the folder of a run of these steps that nobody disturbed."""
    made: dict[str, Path] = {}

    def outputs(tiny_args, steps: Sequence[str] = CHAIN) -> Path:
        key = " ".join(steps)
        if key not in made:
            out = tmp_path_factory.mktemp("undisturbed")
            succeed([*command_for(tiny_args, out), *only(*steps)])
            made[key] = out
        return made[key]

    return outputs


def assert_same(out: Path, expected: Path) -> None:
    ours, theirs = files_below(out), files_below(expected)
    assert ours.keys() == theirs.keys()  # no temporary file, no state of an unfinished training either
    assert [name for name in ours if ours[name] != theirs[name]] == []
    assert curves(out) == curves(expected)


@pytest.mark.slow
@pytest.mark.parametrize("steps", [["train_cam"], CHAIN], ids=["one", "every"])
def test_kills_at_random_moments(steps, undisturbed, tiny_args, tmp_path, effort):
    """A run is killed once in each of these steps, a new one going on where the last one ended; several stories."""
    expected = undisturbed(tiny_args, steps)
    took = seconds_of((expected / "log.log").read_text())
    assert took.keys() == set(steps)
    rng = random.Random(7)
    kills = 0
    for story in range(effort(1, 8)):
        out = tmp_path / str(story)
        for step in steps:
            log = out / "log.log"
            begun_before = log.read_text().count(f"] {step}") if log.exists() else 0
            run = Run([*command_for(tiny_args, out), *only(*steps)])
            while run.poll() is None and not (log.exists() and log.read_text().count(f"] {step}") > begun_before):
                time.sleep(0.01)
            time.sleep(rng.uniform(0, 0.8 * took[step]))  # a step that goes on takes less than the whole
            ended = run.poll() is not None
            run.send_signal(rng.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT]))
            code, error = run.ends()
            assert code in ((0,) if ended else (-signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT, 0)), error
            assert "Traceback" not in error
            kills += code != 0
        succeed([*command_for(tiny_args, out), *only(*steps)])
        assert_same(out, expected)
    print(f"{kills} kills")
    assert kills >= effort(1, 8) * (len(steps) + 1) // 2  # a short step may have ended


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_told_to_end_does_so_without_a_word(signum, tiny_args, tmp_path):
    run = Run(command_for(tiny_args, tmp_path))
    log = tmp_path / "log.log"
    while run.poll() is None and not (log.exists() and "] make_boundary_label" in log.read_text()):
        time.sleep(0.01)
    run.send_signal(signum)
    code, error = run.ends()
    assert ended(run.pid), "processes outlived the run"
    assert code == -signum and "Traceback" not in error


def ended(session: int) -> bool:
    """Whether the processes of a session end within half a minute; those that do not are killed."""
    for _ in range(150):
        try:
            os.killpg(session, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.2)
    os.killpg(session, signal.SIGKILL)
    return False


@pytest.mark.slow
def test_a_run_that_is_to_ignore_a_signal_ignores_it(tiny_args, tmp_path):
    arguments = [*command_for(tiny_args, tmp_path), *only("train_cam")]
    run = Run([sys.executable, "-c", IGNORING, *arguments])
    log = tmp_path / "log.log"
    while run.poll() is None:
        if log.exists():
            run.send_signal(signal.SIGINT)
        time.sleep(0.1)
    code, error = run.ends()
    assert code == 0, error


IGNORING = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
os.execv(sys.argv[1], sys.argv[1:])
"""


@pytest.mark.slow
@pytest.mark.parametrize("stream", [1, 2])
def test_a_closed_stream_is_no_error(stream, tiny_args, tmp_path):
    arguments = [*command_for(tiny_args, tmp_path), *only("train_cam")]
    code, error = Run(["sh", "-c", f'exec "$@" {stream}>&-', "sh", *arguments]).ends()
    assert code == 0, error
    assert "done" in (tmp_path / "log.log").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("megabytes", [80, 1, 120])
def test_files_that_may_not_grow(megabytes, undisturbed, tiny_args, tmp_path):
    """A limit on the size of files: the step that meets it says what it could not write."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (megabytes << 20, resource.RLIM_INFINITY))

    code, error = Run(command_for(tiny_args, tmp_path), preexec_fn=limit).ends()
    assert code == 2 and "cannot write" in error and "File too large" in error
    assert "Traceback" not in error
    assert not list(tmp_path.rglob("*.tmp"))
    succeed(command_for(tiny_args, tmp_path))
    assert_same(tmp_path, undisturbed(tiny_args))


@pytest.mark.slow
@pytest.mark.parametrize("free", [150, 0, 1, 300])
def test_a_full_disk(free, undisturbed, tiny_args, tmp_path):
    """A small tmpfs with `free` megabytes left; then room is made."""
    disk, kept = tmp_path / "disk", tmp_path / "kept"
    for folder in (disk, kept):
        folder.mkdir()
    command = subprocess.list2cmdline(command_for(tiny_args, disk))
    script = (
        f"mount -t tmpfs -o size=700m none {disk} || exit 77; "
        f"head -c {700 - free}M /dev/zero > {disk}/filler 2> {kept}/filled; "
        f"{command} > {kept}/out 2> {kept}/errors; echo $? > {kept}/code; "
        f"rm {disk}/filler; {command} > {kept}/out2 2> {kept}/errors2 || exit 1; cp -r {disk} {kept}/disk"
    )
    if not shutil.which("unshare"):
        pytest.skip("needs unshare")
    done = subprocess.run(["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script], timeout=300)
    if done.returncode not in (0, 1):
        pytest.skip("a tmpfs cannot be mounted here")
    assert done.returncode == 0, (kept / "errors2").read_text()
    error = (kept / "errors").read_text()
    assert (kept / "code").read_text() == "2\n" and "cannot write" in error and "No space left" in error
    assert "Traceback" not in error
    assert_same(kept / "disk", undisturbed(tiny_args))


@pytest.mark.slow
def test_finished_steps_are_not_done_again(undisturbed, tiny_args, tmp_path):
    out = shutil.copytree(undisturbed(tiny_args), tmp_path / "copy")
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.suffix in (".pth", ".npy", ".png")}
    succeed(command_for(tiny_args, out))
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert_same(out, undisturbed(tiny_args))


@pytest.mark.slow
def test_damaged_and_missing_files_are_made_again(undisturbed, tiny_args, tmp_path):
    out = shutil.copytree(undisturbed(tiny_args), tmp_path / "copy")
    cut = {
        "cam_out_dir/demo_00001.npy": -100,
        "cam_out_dir/demo_00002.npy": 0,
        "sem_seg_out_dir/demo_00000_crf.png": -20,
    }
    for name, end in cut.items():
        (out / name).write_bytes((out / name).read_bytes()[:end])
    (out / "cam_vis_dir" / "demo_00003.png").unlink()
    succeed([*command_for(tiny_args, out), *only("make_cam", "make_boundary_label", "make_sem_seg")])
    assert_same(out, undisturbed(tiny_args))
