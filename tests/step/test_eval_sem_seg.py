"""Scores from make_sem_seg to the curve of eval_sem_seg, through the command line."""

import json
from pathlib import Path

import numpy as np
import pytest

from misc.evaluation.confusion import confusion_matrix
from misc.formats.cam_file import CAM, write_cam
from misc.formats.checkpoint import save_weights
from misc.formats.images import read_label_map
from misc.formats.score_file import read_scores
from misc.method.masks import classes_of
from misc.pixels import stride4
from net.resnet50_sbe import ResNet50SBE
from run_sample import main
from tests.step.test_eval_cam import ids_of, miou_of
from tests.test_chain import error_of, only
from voc12.image_set import VOCRoot

MASK_PIXELS = 0.002  # share of the pixels that float16 may move; seen: .0004


@pytest.fixture
def arguments(tiny_voc, tiny_args, tmp_path, fill_with_formula):
    """A command line for masks of all six images, with CAMs and a boundary network that are there."""
    network = ResNet50SBE()
    fill_with_formula(network.state_dict())
    save_weights(network, tmp_path / "sess" / "bes.pth")
    ids = ids_of(tiny_voc, "train") + ids_of(tiny_voc, "val")
    for seed, image_id in enumerate(ids):
        truth = read_label_map(VOCRoot(tiny_voc).truth(image_id))
        keys = np.array([number - 1 for number in np.unique(truth) if 0 < number < 255], np.int64)
        rng = np.random.default_rng(seed)
        coarse = np.stack([truth == key + 1 for key in keys])[:, ::4, ::4]
        cam_s4 = (0.7 * coarse + 0.3 * rng.random(coarse.shape)).astype(np.float32)
        assert cam_s4.shape[1:] == tuple(map(stride4, truth.shape))
        cam = CAM(keys, cam_s4, np.zeros((len(keys), *truth.shape), np.float32))
        write_cam(tmp_path / "cam_out_dir" / f"{image_id}.npy", cam)
    (tmp_path / "all.txt").write_text("\n".join(ids))
    # one step between high walls, so that scores differ on so few pixels
    return lambda **changes: tiny_args(**{"infer_list": tmp_path / "all.txt", "exp_times": 0, "beta": 20} | changes)


def masks_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.png")}


def result_of(folder: Path) -> dict:
    return json.loads((folder / "sem_seg" / "eval_sem_seg.json").read_text())


@pytest.mark.slow
def test_the_curve_is_that_of_masks_made_at_each_threshold(tiny_voc, arguments, tmp_path, capsys):
    assert main([*arguments(save_scores=True), *only("make_sem_seg", "eval_sem_seg")]) == 0
    said = capsys.readouterr().out
    files = list((tmp_path / "sem_seg").glob("*_scores.npz"))
    assert f"6 files of scores, {round(sum(f.stat().st_size for f in files) / 6)} bytes an image" in said
    assert "6 of 6 CAM files are sbe" in said and "the CRF, which is not swept" in said
    assert "scores at 0.21 and masks differ in 0.0" in said and "more than rounding" not in said
    curve = result_of(tmp_path)["mask"]["sweep"]["curves"]["evaluation"]
    assert curve["images"] == 4 and "sweep" not in result_of(tmp_path)["mask + CRF"]
    assert len(set(curve["miou"])) > 30  # thresholds matter

    for threshold in (0.05, 0.21, 0.5):  # walk again, and compare
        changes = {"sem_seg_out_dir": tmp_path / "again", "sem_seg_bg_thres": threshold}
        assert main([*arguments(**changes), "--overwrite", *only("make_sem_seg")]) == 0
        confusion = np.zeros((21, 21), np.int64)
        for image_id in ids_of(tiny_voc, "train"):
            truth = read_label_map(VOCRoot(tiny_voc).truth(image_id))
            mask = read_label_map(tmp_path / "again" / f"{image_id}.png")
            keys, scores = read_scores(
                tmp_path / "sem_seg" / f"{image_id}_scores.npz", size=truth.shape, n_classes=20
            )  # fmt: skip
            assert (classes_of(scores, keys, threshold) != mask).mean() <= MASK_PIXELS
            confusion += confusion_matrix(truth, mask, 21)
        assert curve["miou"][round(100 * threshold)] == pytest.approx(miou_of(confusion), abs=0.003)


@pytest.mark.slow
def test_scores_change_no_mask_and_may_be_added_later(arguments, tmp_path, capsys):
    assert main([*arguments(), *only("make_sem_seg", "eval_sem_seg")]) == 0
    assert "4 of 4 images lack scores, which make_sem_seg --save_scores keeps" in capsys.readouterr().out
    assert "sweep" not in result_of(tmp_path)["mask"]
    assert not (tmp_path / "sem_seg" / "eval_sem_seg_curve.csv").exists()
    before = masks_in(tmp_path / "sem_seg")
    assert not list((tmp_path / "sem_seg").glob("*.npz")) and len(before) == 18

    assert main([*arguments(save_scores=True, num_workers=2), *only("make_sem_seg", "eval_sem_seg")]) == 0
    assert masks_in(tmp_path / "sem_seg") == before
    scores = {path: path.read_bytes() for path in (tmp_path / "sem_seg").glob("*_scores.npz")}
    assert len(scores) == 6 and (tmp_path / "sem_seg" / "eval_sem_seg_curve.csv").is_file()

    next(iter(scores)).write_bytes(b"cut")  # noticed, and made again
    assert main([*arguments(save_scores=True), *only("make_sem_seg")]) == 0
    assert {path: path.read_bytes() for path in scores} == scores


@pytest.mark.slow
def test_scores_of_other_masks_do_not_stay(arguments, tmp_path):
    assert main([*arguments(save_scores=True), *only("make_sem_seg")]) == 0
    assert main([*arguments(beta=2), "--overwrite", *only("make_sem_seg")]) == 0
    assert not list((tmp_path / "sem_seg").glob("*.npz"))


def test_masks_of_another_threshold_are_noticed(arguments, capsys):
    assert main([*arguments(save_scores=True), *only("make_sem_seg")]) == 0
    assert main([*arguments(sem_seg_bg_thres=0.6), *only("eval_sem_seg")]) == 0
    assert "the masks were made at another sem_seg_bg_thres" in capsys.readouterr().out


@pytest.mark.slow
def test_a_threshold_chosen_on_another_list(tiny_voc, arguments, tmp_path, capsys):
    sweep_list = tiny_voc / "ImageSets" / "Segmentation" / "val.txt"
    steps = only("make_sem_seg", "eval_sem_seg")
    missing = error_of([*arguments(sweep_list=sweep_list), *steps], capsys)
    assert "6 of 6 scores missing" in missing and "--save_scores" in missing
    assert main([*arguments(sweep_list=sweep_list, save_scores=True), *steps]) == 0
    result = result_of(tmp_path)["mask"]
    curves, best = result["sweep"]["curves"], result["sweep"]["best"]
    assert {name: curve["images"] for name, curve in curves.items()} == {"evaluation": 4, "sweep_list": 2}
    k = int(np.argmax(curves["sweep_list"]["miou"]))
    assert (best["chosen_on"], best["threshold"]) == ("sweep_list", k / 100)
    assert best["miou"] == curves["evaluation"]["miou"][k]
    pixels = sum((read_label_map(VOCRoot(tiny_voc).truth(i)) != 255).sum() for i in ids_of(tiny_voc, "train"))
    assert np.sum(result["confusion"]) == pixels  # the masks of val do not count

    (tmp_path / "sem_seg" / "demo_00005.png").unlink()  # of val only the scores are read
    assert main([*arguments(sweep_list=sweep_list), *only("eval_sem_seg")]) == 0
    (tmp_path / "sem_seg" / "demo_00005_scores.npz").write_bytes(b"no scores")
    message = error_of([*arguments(sweep_list=sweep_list), *only("eval_sem_seg")], capsys)
    assert "1 of 6 scores unreadable" in message and "demo_00005_scores.npz" in message


def test_scores_of_some_images_make_no_sweep(arguments, tmp_path, capsys):
    assert main([*arguments(save_scores=True), *only("make_sem_seg", "eval_sem_seg")]) == 0
    (tmp_path / "sem_seg" / "demo_00001_scores.npz").unlink()
    assert main([*arguments(), *only("eval_sem_seg")]) == 0
    assert "1 of 4 images lack scores" in capsys.readouterr().out
    assert "sweep" not in result_of(tmp_path)["mask"]
    assert not (tmp_path / "sem_seg" / "eval_sem_seg_curve.csv").exists()  # no curve of an earlier run stays
