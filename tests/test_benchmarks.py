"""The benchmarks' plain implementations of the specification agree with ours: a second, independent reference."""

import json
import os

import numpy as np
import pytest
import torch

from benchmarks import inputs, measure, published, report, run, worker
from benchmarks.crf_rows import DenseCRFRow
from benchmarks.deeplab_rows import PredictDeepLab, TrainDeepLab
from benchmarks.inputs import TINY
from benchmarks.step_rows import MakeBoundaryLabel, MakeCam, MakeSemSeg
from benchmarks.training_rows import BoundaryTraining, TrainCam
from misc.method.random_walk import random_walk
from step import make_boundary_label, make_cam, make_sem_seg


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The inputs of the tiny benchmarks."""
    folder = tmp_path_factory.mktemp("benchmarks")
    inputs.write_weights(folder / "weights")
    inputs.write_set(folder / "voc_{}x{}".format(*TINY.image), TINY.image, TINY.images)
    return folder


@pytest.mark.parametrize("grid", [(1, 1), (1, 9), (3, 2), (12, 15), (23, 17)])
def test_the_dense_walk_is_ours(grid):
    cam, edge = inputs.walk_input(grid) if min(grid) > 5 else (torch.rand(2, *grid), torch.rand(grid))
    dense = published.random_walk_dense(cam, edge)
    ours = random_walk(cam, edge, beta=5, exp_times=8)
    exact = published.random_walk_double(cam.numpy(), edge.numpy())
    np.testing.assert_allclose(ours, exact, atol=1e-5, rtol=0)
    np.testing.assert_allclose(dense, exact, atol=1e-4, rtol=0)


def test_the_dense_walk_gives_the_published_numbers(golden):
    g = golden("random_walk")
    for case in range(3):
        walked = published.random_walk_dense(
            torch.from_numpy(g[f"cam{case}"]),
            torch.from_numpy(g[f"edge{case}"][0]),
            beta=int(g[f"beta{case}"]),
            exp_times=int(g[f"exp_times{case}"]),
            radius=int(g[f"radius{case}"]),
        )
        np.testing.assert_allclose(walked, g[f"rw{case}"][:, 0], atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("kind", "step", "limit"),
    [(MakeCam, make_cam, 1e-4), (MakeBoundaryLabel, make_boundary_label, 1e-3), (MakeSemSeg, make_sem_seg, 1e-3)],
)
def test_the_plain_steps_write_what_ours_write(folder, kind, step, limit):
    if kind is not MakeCam:
        pytest.importorskip("pydensecrf")
    row = kind(TINY, folder)
    row.published_all()
    row.args = inputs.settings(row.root, row.here, row.weights, num_workers=0, cam_out_dir=row.args.cam_out_dir)
    step.make(row.args, list(row.keys))
    for name, value in row.differences(None, None).items():
        assert value <= (1 if name == "edge, of 255" else limit), name


def test_the_plain_boundary_label_gives_the_published_pixels(golden):
    g = golden("pseudo_masks")
    shares = []
    for case in (name.removeprefix("conf_") for name in g if name.startswith("conf_")):
        label = published.boundary_label(g[f"conf_{case}"].astype(np.int64), g[f"sal_{case}"], 20)
        shares.append((label == g[f"boundary_label_{case}"]).mean())
    assert len(shares) == 6
    assert min(shares) >= 0.999


@pytest.mark.parametrize("n_labels", [2, 3, 4, 21])
def test_both_sides_of_a_dense_crf_give_the_same_labels(folder, n_labels):
    pytest.importorskip("pydensecrf")
    row = DenseCRFRow(TINY, folder, n_labels=n_labels)
    sides = row.published().run(), row.ours().run()
    assert row.differences(*sides)["share of pixels"] <= 1e-4


@pytest.mark.parametrize("kind", [BoundaryTraining, TrainCam])
def test_the_gradients_of_both_sides_agree(folder, kind):
    assert kind(TINY, folder).differences(None, None)["gradients, relative"] <= 1e-4


@pytest.mark.slow
def test_both_sides_of_deeplab_agree(folder):
    assert TrainDeepLab(TINY, folder).differences(None, None)["gradients, relative"] <= 2e-3
    row = PredictDeepLab(TINY, folder)
    assert row.differences(row.published().run(), row.ours().run())["logits"] <= 1e-4


@pytest.mark.slow
def test_both_sides_of_a_training_row_run(folder):
    row = BoundaryTraining(TINY, folder)
    assert row.published().units == row.ours().units == TINY.steps
    row.published().run()
    row.ours().run()


def test_the_report(folder, tmp_path, capsys):
    seconds = {"published": [4.0, 8.0, 6.0], "ours": [3.0, 2.0, 1.0]}
    row = {
        "title": "a row", "unit": "an image", "slow": False, "units": {"published": 1, "ours": 5}, "seconds": seconds,
        "targets": [["ratio", 3], ["ours_mb", 100], ["difference", 1e-4]], "differences": {"maps": 1e-3},
        "memory": {"published": 2e9, "ours": 5e7}, "command": "python", "machine": "here",
    }  # fmt: skip
    line = report.comparison(row)
    for text in ("**3×**", "≥ 3× met", "≤ 100 MB met", "≤ 0.0001 MISSED", "2.00 GB / 50 MB", "6 s (3)", "2 s (3×5)"):
        assert text in line
    rows = dict.fromkeys((*report.EPOCHS, *report.INFERENCE), row)
    assert report.chain(rows) == {"published": 5 * 3 + 3 * 3 + 18, "ours": 5 * 1 + 3 * 1 + 6}
    assert report.chain({"make_cam": row}) is None
    assert report.machines(rows) == ["Machine: here."]
    elsewhere = rows | {"make_cam": row | {"machine": "there"}}
    assert report.chain(elsewhere) is None
    assert "- there: make_cam" in report.machines(elsewhere)
    assert report.exponent([10, 100, 1000], [2, 200, 20000]) == pytest.approx(2)
    with pytest.raises(SystemExit):
        run.main(["--rows", "nonsense"])
    assert "no such row: nonsense" in capsys.readouterr().err


@pytest.mark.slow
def test_times_and_memory_of_a_row(folder, tmp_path):
    row = worker.ROWS["walk"](TINY, folder, (20, 30))
    job = {"tiny": True, "folder": str(folder), "row": "walk@20x30"}
    found = measure.times(job, ("published", "ours"), repeat=2, repeat_slow=1)
    assert {side: len(times) for side, times in found["seconds"].items()} == {"published": 1, "ours": 2}
    exact = published.random_walk_double(row.cam.numpy(), row.edge.numpy())
    ours = random_walk(row.cam, row.edge, beta=5, exp_times=8).numpy()
    assert found["differences"]["ours – float64"] == np.abs(ours - exact).max() < 1e-5
    used = worker.memory(row, "ours", tmp_path / "begun")
    assert used["peak"] > 0.9 * used["baseline"] > 0
    assert (tmp_path / "begun").exists()
    assert measure.tree_bytes(os.getpid(), files=True) > measure.tree_bytes(os.getpid(), files=False) > 10e6


def test_rows_are_merged_into_earlier_results(tmp_path, monkeypatch, capsys):
    answer = {
        "torch": "2", "threads": 2, "amp": True, "title": "a row", "unit": "an image",
        "units": {"published": 1, "ours": 1},
        "seconds": {"published": [4.0], "ours": [2.0]}, "targets": [], "differences": {"maps": 0.0},
    }  # fmt: skip
    monkeypatch.setattr(run, "worker", lambda job: (answer, None))
    monkeypatch.setattr(run, "times", lambda *_, **__: answer)
    monkeypatch.setattr(run, "memory_above_input", lambda *_: 1e6)
    out = tmp_path / "results.md"
    for rows in ("make_cam", "train_cam,chain"):
        assert run.main(["--tiny", "--work", str(tmp_path), "--out", str(out), "--rows", rows]) == 0
    assert set(json.loads(out.with_suffix(".json").read_text())["rows"]) == {"make_cam", "train_cam"}
    assert out.read_text().count("**2×**") == 2
    assert "some are missing yet" in capsys.readouterr().out
