"""gpu_check: its page, its processes, how it counts; and one run of it on the CPU at tiny sizes."""

import json
import time
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch

from benchmarks import gpu_check, gpu_page, gpu_runs, gpu_steps
from benchmarks.card import kernels_of
from benchmarks.gpu_check import has_failed, last_line, main, run_part
from benchmarks.gpu_steps import Effort, Enough, StepMeter

CPU = torch.device("cpu")


def kernel(begin: float, duration: float, cat: str = "kernel") -> dict:
    return {"ph": "X", "cat": cat, "name": "k", "ts": begin, "dur": duration}


def test_kernels_of_two_streams():
    """Microseconds 10 to 30, 20 to 40 beside it, 25 to 28 within, and 100 to 101: 31 busy of 91."""
    events = [kernel(20, 20), kernel(10, 20), kernel(25, 3), kernel(100, 1), kernel(50, 9, "gpu_memcpy"), {"ph": "M"}]
    found = kernels_of(events)
    assert found is not None and found.number == 4
    assert (found.busy, found.span) == pytest.approx((31e-6, 91e-6))
    assert kernels_of([kernel(0, 5, "cpu_op")]) is None


@pytest.mark.parametrize(
    ("second", "timed", "seconds"),
    [(0.1, 6, 0.6), (2.0, 3, 6.0)],  # at most 6 steps; at least 5 s
)
def test_a_training_is_timed_without_its_first_steps_and_left(second, timed, seconds):
    class Warm(Effort):
        warm = 3

    clock = iter(second * step for step in range(100))
    now = 0.0
    meter = StepMeter(CPU, Warm(steps=6, profiled=2, seconds=5), clock=lambda: now)
    steps = 0
    with pytest.raises(Enough):
        while True:
            now, steps = next(clock), steps + 1
            meter(None, None, None)
    assert meter.timed == timed and meter.seconds == pytest.approx(seconds)
    assert steps == 3 + timed + 2


def test_counts_of_a_junit_report():
    report = ElementTree.fromstring(
        '<testsuites><testsuite><testcase classname="a" name="one"/><testcase classname="a" name="two"><skipped/>'
        '</testcase><testcase classname="b" name="three"><failure message="Mismatched: 3&#10;more">trace</failure>'
        "</testcase></testsuite></testsuites>"
    )
    assert gpu_runs.counts_of(report) == {"passed": 1, "skipped": 1, "failed": ["b::three: Mismatched: 3 more"]}


@pytest.fixture
def worker(tmp_path, monkeypatch):
    """worker(code): the parts run this Python code instead, with the job's and the result's file as sys.argv."""

    def replace(code: str) -> None:
        (tmp_path / "benchmarks").mkdir()
        (tmp_path / "benchmarks" / "gpu_worker.py").write_text(f"import json, sys, time\n{code}")
        monkeypatch.setattr(gpu_check, "PROJECT", tmp_path)

    return replace


def test_a_part_that_fails_is_told_by_its_last_line(worker):
    worker("print('50 %\\r100 %', flush=True)\nsys.exit('error: there is no such thing')")
    outcome = run_part({"part": "walk"}, 60)
    assert outcome["failed"] == "exit code 1: error: there is no such thing"
    assert has_failed(outcome)
    assert last_line("a\n 10 %\r 20 %\r\n\n") == "20 %"


@pytest.mark.slow
def test_a_part_that_hangs_is_ended_with_what_it_started(worker, tmp_path):
    worker(
        "import pathlib, subprocess\n"
        "child = subprocess.Popen(['sleep', '60'])\n"
        f"pathlib.Path({str(tmp_path / 'child')!r}).write_text(str(child.pid))\n"
        "print('begun', flush=True)\ntime.sleep(60)"
    )
    assert run_part({"part": "walk"}, 3)["failed"] == "not finished after 3 s: begun"
    assert is_gone(int((tmp_path / "child").read_text()))


def is_gone(pid: int) -> bool:
    """Whether a process has ended, whether or not anybody has asked how."""
    for _ in range(100):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.05)
    return False


def test_a_failed_part_loses_no_other(worker, tmp_path, capsys):
    worker(
        "job = json.load(open(sys.argv[1]))\n"
        "results = {'golden': {'not_run': 'no pytest'}, 'facts': {'cards': 1, 'rows': [['card', 'a card']]},\n"
        "    'walk': {'grid': [94, 125], 'rows': [{'where': 'card', 'seconds': .0055, 'kernels': 479}]}}\n"
        "if job['part'] == 'crf': sys.exit('error: no memory')\n"
        "json.dump(results[job['part']], open(sys.argv[2], 'w'))"
    )
    out = tmp_path / "report.md"
    assert main(["--parts", "golden,walk,crf", "--out", str(out), "--work", str(tmp_path)]) == 1
    text = out.read_text()
    for piece in (
        "| card | a card |",
        "- golden: no pytest",
        "- crf: exit code 1: error: no memory",
        "| card | 5.5 ms | 479",
    ):
        assert piece in text
    assert json.loads(out.with_suffix(".json").read_text())["walk"]["result"]["rows"][0]["kernels"] == 479
    assert text in capsys.readouterr().out


def test_without_a_card_one_line_says_so(worker, tmp_path, capsys):
    worker("json.dump({'cards': 0, 'why': 'no driver', 'rows': []}, open(sys.argv[2], 'w'))")
    assert main(["--work", str(tmp_path)]) == 2
    assert "gpu_check: no card: no driver" in capsys.readouterr().err.splitlines()[-1]
    with pytest.raises(SystemExit):
        main(["--parts", "nonsense"])
    assert "no such part: nonsense" in capsys.readouterr().err


def test_parts_for_which_no_time_is_left(worker, tmp_path):
    worker("json.dump({'cards': 1, 'rows': []}, open(sys.argv[2], 'w'))")
    assert main(["--work", str(tmp_path), "--seconds", "0"]) == 2  # not even the facts
    check = gpu_check.Check(gpu_check.parsed(["--seconds", "0", "--work", str(tmp_path)]), ["walk"], "")
    assert "not_run" in check.run("walk", 60)


def test_the_page_of_all_parts():
    row = {
        "images": 160, "seconds": 5.0, "speed": 32.1, "first_images": 16, "first_seconds": 2.0, "kernels": 1234.4,
        "busy": 0.756, "unit": "image", "utilisation": None, "memory": {"allocated": 2.5e9, "reserved": 3e9},
    }  # fmt: skip
    differences = {"cam_rms": 1e-7, "cam_max": 2e-6, "edge_rms": 3e-8, "edge_max": 4e-7, "boundary_label": 0.0}
    results = {
        "facts": {"result": {"rows": [("card", "H100")]}},
        "golden": {"result": {"passed": 77, "skipped": 88, "failed": ["a::b: wrong"]}},
        "compare": {"result": {"photographs": 3, "size": [375, 500], "rows": [
            {"way": "TF32 off", **differences, "mask": 0.00012, "crf_mask": 0.0}]}},
        "ranks": {"result": {"rows": [{"step": "train_cam", "difference": 1e-3, "moved": 1e-2}]}},
        "crf": {"result": {"size": [375, 500], "rows": [
            {"labels": 21, "where": "C, CPU", "differ": 0, "seconds": 0.4, "threads": 16, "seconds_threads": 0.03}]}},
        "make_cam": {"result": row},
    }  # fmt: skip
    text = gpu_page.page(results, seconds=321, tiny=False)
    for piece in (
        "| card | H100 |", "| took | 321 s |", "77 passed, 1 failed, 88 skipped", "- a::b: wrong",
        "| TF32 off | 1.0e-07 | 2.0e-06 | 3.0e-08 | 4.0e-07 | none | 0.012 % | none |",
        "| train_cam | 1.0e-03 | 1.0e-02 | NO |", "| 21 | C, CPU | 400 ms | 30 ms (16 threads) | none |",
        "| make_cam | 160 in 5 s | 32.1 | 16 in 2 s | 1,234 an image | 76 % | – | 2.50 GB / 3.00 GB |",
    ):  # fmt: skip
        assert piece in text
    assert has_failed(results["golden"]) and not has_failed(results["crf"])


@pytest.mark.slow
def test_a_tiny_run_on_the_cpu(tmp_path):
    parts = "compare,walk,crf,train_cam,make_cam,make_boundary_label,train_sbe_boundary,make_sem_seg,ranks"
    assert main(["--device", "cpu", "--parts", parts, "--work", str(tmp_path), "--seconds", "3000"]) == 0
    found = json.loads((tmp_path / "report.json").read_text())
    (compared,) = found["compare"]["result"]["rows"]
    assert compared["cam_max"] == compared["mask"] == compared["boundary_label"] == 0
    for row in found["ranks"]["result"]["rows"]:
        assert row["difference"] <= 1e-5
    assert found["ranks"]["result"]["rows"][0]["moved"] > 1e-4
    for step in gpu_steps.IMAGES_A_STEP.keys() - {"train_deeplab"}:
        assert found[step]["result"]["images"] == gpu_steps.TINY_IMAGES_A_STEP  # one step was timed
    assert found["make_sem_seg"]["result"]["images"] == gpu_steps.TINY.images


@pytest.mark.slow
def test_the_golden_tests_are_those_that_compute_on_a_device(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_runs, "TESTS", ("tests/misc/method/test_random_walk.py",))
    found = gpu_runs.golden({"device": "cpu"})
    assert found["passed"] >= 27 and found["failed"] == []  # 3 golden cases, 8 grids of 3 lengths
    monkeypatch.setattr(gpu_runs, "find_spec", lambda name: None)
    assert "pytest is not installed" in gpu_runs.golden({"device": "cpu"})["not_run"]
