"""The three steps of the second stage through the command line, on masks that are the ground truth."""

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.models import ResNet
from torchvision.models.resnet import Bottleneck

from misc.config import read_config
from misc.crf.dense_crf import DenseCRF, unary_from_probabilities
from misc.formats.images import read_label_map, write_mask
from misc.train.history import History, history_path
from net import deeplab_v2
from net.deeplab_weights import first_head, trained_network
from run_sample import main
from step import make_deeplab_seg, train_deeplab
from step.shared.data import DataSet
from step.shared.deeplab import start_network
from tests.conftest import PROJECT
from tests.test_chain import SWITCHED_OFF, error_of, files_below
from tests.test_interruption import Run, assert_same, succeed
from voc12.datasets import PreparedImages
from voc12.generated_set import generate
from voc12.image_set import read_list


@pytest.fixture(autouse=True)
def one_block_a_stage(monkeypatch):
    """What the command line calls a ResNet-50 has a quarter of its blocks."""
    monkeypatch.setitem(deeplab_v2.BLOCKS, 50, [1, 1, 1, 1])


@pytest.fixture(scope="module")
def small_backbone(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("small") / "resnet.pth"
    torch.manual_seed(0)
    torch.save(ResNet(Bottleneck, [1, 1, 1, 1], zero_init_residual=True).state_dict(), path)
    return path


@pytest.fixture
def program(tmp_path) -> Path:
    """run_sample.py with that small ResNet."""
    path = tmp_path / "program.py"
    path.write_text(
        f"import sys; sys.path.insert(0, {str(PROJECT)!r})\n"
        "from net import deeplab_v2; deeplab_v2.BLOCKS[50] = [1, 1, 1, 1]\n"
        "from misc.run.process import run_command; from run_sample import main; run_command(main)\n"
    )
    return path


@pytest.fixture
def deeplab_args(tiny_voc, tiny_args, small_backbone, tmp_path):
    """deeplab_args(deeplab_steps=2): a command line for the second stage alone; the masks lie in tmp_path/masks."""
    masks = tmp_path / "masks"
    if not masks.exists():
        for image_id in read_list(tiny_voc / "ImageSets" / "Segmentation" / "train.txt"):
            write_mask(
                masks / f"{image_id}_crf.png", read_label_map(tiny_voc / "SegmentationClass" / f"{image_id}.png")
            )

    def arguments(**changes: object) -> list[str]:
        values = {
            "deeplab_mask_dir": masks,
            "deeplab_backbone_weights": small_backbone,
            "deeplab_depth": 50,
            "deeplab_crop_size": 33,
            "deeplab_batch_size": 1,
            "deeplab_iter_size": 2,
            "deeplab_steps": 2,
            "deeplab_learning_rate": 1e-5,
            "deeplab_weights_name": tmp_path / "sess" / "deeplab.pth",
            "deeplab_out_dir": tmp_path / "deeplab",
            **changes,
        }
        return [*tiny_args(**values), *SWITCHED_OFF, "--deeplab"]

    return arguments


def test_all_three(tiny_voc, deeplab_args, tmp_path, capsys):
    """Masks of val for the network and after the CRF, a table; the same bytes whoever loads, and at once or by one."""
    assert main(deeplab_args(deeplab_validate_every=1, deeplab_validate_images=1)) == 0, capsys.readouterr().err
    said = capsys.readouterr().out
    assert "[1/3] train_deeplab: reads " in said and "network + CRF" in said
    ids = read_list(tiny_voc / "ImageSets" / "Segmentation" / "val.txt")
    for image_id in ids:
        with Image.open(tiny_voc / "JPEGImages" / f"{image_id}.jpg") as image:
            size = image.size
        for ending in ("", "_crf"):
            with Image.open(tmp_path / "deeplab" / f"{image_id}{ending}.png") as mask:
                assert (mask.mode, mask.size) == ("P", size) and np.array(mask).max() <= 20
    assert len(list((tmp_path / "deeplab").glob("*.png"))) == 2 * len(ids)
    result = json.loads((tmp_path / "deeplab" / "eval_deeplab_seg.json").read_text())
    assert result.keys() == {"network", "network + CRF"} and result["network"]["threshold"] is None
    history = [json.loads(line) for line in (tmp_path / "sess" / "deeplab.pth.history.jsonl").read_text().splitlines()]
    assert sum("validation_miou" in record for record in history) == 2
    at_once = files_below(tmp_path)

    for folder in ("sess", "deeplab"):
        shutil.rmtree(tmp_path / folder)
    for step in ("train_deeplab", "make_deeplab_seg", "eval_deeplab_seg"):  # without validation, with loading threads
        alone = [argument for argument in deeplab_args(num_workers=2) if argument != "--deeplab"]
        assert main([*alone, f"--{step}_pass"]) == 0
    step_by_step = files_below(tmp_path)
    assert [name for name in at_once.keys() | step_by_step.keys() if at_once.get(name) != step_by_step.get(name)] == []


@pytest.mark.slow
def test_evaluation_and_report_of_predictions(tiny_voc, deeplab_args, finished_args, tmp_path):
    """Predictions that are the ground truth, but for a corner after the CRF; the masks of train are there as well."""
    for image_id in read_list(tiny_voc / "ImageSets" / "Segmentation" / "val.txt"):
        truth = read_label_map(tiny_voc / "SegmentationClass" / f"{image_id}.png")
        mask = np.where(truth == 255, 0, truth).astype(np.uint8)
        write_mask(tmp_path / "deeplab" / f"{image_id}.png", mask)
        mask[:9, :9] = 20
        write_mask(tmp_path / "deeplab" / f"{image_id}_crf.png", mask)
    with History(history_path(tmp_path / "sess" / "deeplab.pth")) as history:
        history.add({"step": 5, "epoch": 1, "loss": 2.0, "lr": [0.1], "images_per_second": 9})
        history.add({"step": 5, "epoch": 1, "validation_miou": 0.3, "validation_accuracy": 0.7})
    evaluate = ["--no_train_deeplab_pass", "--no_make_deeplab_seg_pass", "--eval_sem_seg_pass", "--report_pass"]
    assert main([*deeplab_args(), *evaluate]) == 0
    result = json.loads((tmp_path / "deeplab" / "eval_deeplab_seg.json").read_text())
    assert result["network"]["miou"] == 1 > result["network + CRF"]["miou"]
    assert result["network + CRF"]["miou_of_true_labels"] > result["network + CRF"]["miou"]  # 20 is in no truth
    page = (tmp_path / "report" / "index.html").read_text()
    for name in ("train_deeplab", "mIoU along the chain", "Confusion matrix: network + CRF"):
        assert name in page, name


@pytest.mark.slow
def test_options_of_training_and_prediction(tiny_voc, deeplab_args, tmp_path):
    """Checkpointing changes no byte of the network; more scales and the mirror image change the masks' manifest."""
    assert main([*deeplab_args(deeplab_steps=1), "--no_make_deeplab_seg_pass", "--no_eval_deeplab_seg_pass"]) == 0
    plain = tmp_path / "sess" / "deeplab.pth"
    other = deeplab_args(deeplab_steps=1, deeplab_weights_name=tmp_path / "other.pth", deeplab_test_scales="[1.0, 0.5]")
    assert main([*other, "--deeplab_checkpointing", "--deeplab_test_flip", "--no_eval_deeplab_seg_pass"]) == 0
    assert (tmp_path / "other.pth").read_bytes() == plain.read_bytes()
    assert len(list((tmp_path / "deeplab").glob("*_crf.png"))) == 2


def test_probabilities_are_averaged_over_scales_and_mirror_images(tiny_voc, deeplab_args, tmp_path):
    """And the masks are their argmax, without and with DeepLab's CRF."""
    changes = {"deeplab_test_scales": "[1.0, 0.5]", "deeplab_test_flip": True, "deeplab_learning_rate": 0.01}
    arguments = deeplab_args(**changes)
    assert main(arguments) == 0
    args = read_config(arguments)
    data, image_id = DataSet(args), read_list(args.val_list)[0]
    (found,) = make_deeplab_seg.predict(args, data, [image_id], torch.device("cpu"))
    network = trained_network(args.deeplab_weights_name, data.n_labels).eval()
    _, size, scaled = PreparedImages([image_id], data.root, (1.0, 0.5), network.family.pixels)[0]
    total = np.zeros(found.probabilities.shape)
    for pixels in map(torch.from_numpy, scaled):
        for flips in ([], [3]):
            with torch.no_grad():
                logits = network.predict(pixels[None].flip(flips)).flip(flips)
            full = torch.nn.functional.interpolate(logits, size, mode="bilinear", align_corners=False)
            total += full[0].softmax(dim=0).numpy() / 4
    np.testing.assert_allclose(found.probabilities, total, atol=1e-4)
    mask, refined = (read_label_map(tmp_path / "deeplab" / f"{image_id}{ending}.png") for ending in ("", "_crf"))
    assert (mask == total.argmax(axis=0)).mean() >= 0.999
    image = np.array(Image.open(data.root.image(image_id)))[:, :, ::-1]
    crf = DenseCRF(image, data.n_labels, sxy=67, srgb=3, compat=4, gaussian_sxy=1, gaussian_compat=3)
    assert (refined == crf.infer(unary_from_probabilities(total))).mean() >= 0.999


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        {"deeplab_loss": "balanced"},
        {"deeplab_scales": "[0.5]"},
        {"deeplab_momentum": 0},
        {"deeplab_weight_decay": 100},
        {"deeplab_learning_rate": 1e-4},
        {"deeplab_crop_size": 65},
        {"deeplab_iter_size": 1},
        {"seed": 6},
    ],
)
def test_every_setting_of_the_training_changes_the_network(change, deeplab_args, tmp_path):
    only_training = ["--no_make_deeplab_seg_pass", "--no_eval_deeplab_seg_pass"]
    networks = []
    for name, changes in (("usual", {}), ("changed", change)):
        path = tmp_path / f"{name}.pth"
        assert main([*deeplab_args(deeplab_weights_name=path, **changes), *only_training]) == 0
        networks.append(path.read_bytes())
    assert networks[0] != networks[1]


def test_a_validation_that_predicts_one_class_says_so(deeplab_args, caplog):
    args = read_config(deeplab_args(deeplab_validate_images=1))
    data = DataSet(args)
    network = start_network(args, data)
    for parameter in network.aspp.parameters():
        torch.nn.init.zeros_(parameter)
    network.aspp["c0"].bias.data[0] = 1
    found = train_deeplab.validate(network, args, data)
    assert "predicts background everywhere" in caplog.text
    assert 0 < found["validation_miou"] < found["validation_accuracy"] < 1


def test_a_submission_lacks_masks(deeplab_args, tmp_path, capsys):
    alone = ["--no_train_deeplab_pass", "--no_make_deeplab_seg_pass"]
    assert main([*deeplab_args(voc_submission="comp6"), *alone]) == 2
    error = capsys.readouterr().err
    assert "1456 of 1456 predictions missing" in error and "2008_000006" in error


def test_switches():
    args = read_config(["--deeplab", "--no_train_deeplab_pass"])
    assert (args.train_deeplab_pass, args.make_deeplab_seg_pass, args.eval_deeplab_seg_pass) == (False, True, True)
    args = read_config(["--eval_deeplab_seg_pass"])
    assert (args.train_deeplab_pass, args.make_deeplab_seg_pass, args.eval_deeplab_seg_pass) == (False, False, True)
    assert not read_config([]).train_deeplab_pass


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"deeplab_depth": 101}, "--deeplab_depth 50"),
        ({"deeplab_crop_size": 16}, "deeplab_crop_size"),
        ({"deeplab_mask_suffix": "none"}, "4 of 4 masks to learn from missing"),
        ({"deeplab_batch_size": 3}, "4 training images make no batch of 3 × 2"),
        ({"deeplab_backbone_weights": "missing.pth"}, "missing.pth"),
        ({"deeplab_infer_list": "missing.txt", "eval_deeplab_seg_pass": "false"}, "missing.txt"),
    ],
)
def test_refused_before_anything_runs(changes, expected, deeplab_args, tmp_path, capsys):
    assert expected in error_of(deeplab_args(**changes), capsys)
    assert not (tmp_path / "sess").exists()


def change_masks(folder: Path, change) -> None:
    for path in folder.glob("*_crf.png"):
        write_mask(path, change(read_label_map(path)))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (np.zeros_like, "100.00 % of their pixels are background"),
        (lambda mask: np.full_like(mask, 255), "all is void"),
        (
            lambda mask: np.where(np.arange(mask.size).reshape(mask.shape) % 3, 0, 255).astype(np.uint8),
            "255, which is void",
        ),
        (lambda mask: np.full_like(mask, 21), "4 of 4 masks to learn from looked at unusable"),
        (lambda mask: mask[:-1], "its image"),
    ],
)
def test_masks_that_nothing_can_be_learnt_from(change, expected, deeplab_args, tmp_path, capsys):
    arguments = deeplab_args()
    change_masks(tmp_path / "masks", change)
    assert expected in error_of(arguments, capsys)
    assert not (tmp_path / "sess").exists()


def test_checkpoints_of_something_else(deeplab_args, small_backbone, tmp_path, capsys):
    arguments = [*deeplab_args(deeplab_weights_name=small_backbone), "--no_train_deeplab_pass"]
    assert "without a head" in error_of(arguments, capsys)
    state = torch.load(small_backbone, weights_only=True)
    for n in range(4):
        state |= {f"aspp.c{n}.weight": torch.zeros(3, 2048, 3, 3), f"aspp.c{n}.bias": torch.zeros(3)}
    torch.save(state, tmp_path / "two.pth")
    arguments = [*deeplab_args(deeplab_weights_name=tmp_path / "two.pth"), "--no_train_deeplab_pass"]
    assert "2 classes and background, expected 20" in error_of(arguments, capsys)


def test_a_training_that_diverges_names_step_and_images(deeplab_args, tmp_path, capsys):
    error = error_of(deeplab_args(deeplab_learning_rate=1e30), capsys)
    assert "no number at step 2 (images demo_" in error and "--deeplab_loss balanced" in error
    assert not (tmp_path / "sess" / "deeplab.pth").exists()


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 4])
def test_as_many_processes_as_one(processes, deeplab_args, program, tmp_path_factory):
    """An epoch of two steps, whose micro-batch of five neither two nor four divide: the same weights to 1e-5."""
    voc = tmp_path_factory.mktemp("voc")
    generate(voc, seed=3, train_images=20, val_images=3, side=64)
    lists = voc / "ImageSets" / "Segmentation"
    settings = {
        "voc12_root": voc,
        "train_aug_list": lists / "train.txt",
        "val_list": lists / "val.txt",
        "deeplab_mask_dir": voc / "SegmentationClass",
        "deeplab_mask_suffix": "none",
        "deeplab_batch_size": 5,
        "deeplab_learning_rate": 1e-3,
        "deeplab_loss": "balanced",
        "deeplab_validate_every": 2,
    }
    states, histories = [], []
    for count in (1, processes):
        out = tmp_path_factory.mktemp(f"{count}")
        arguments = deeplab_args(**settings, deeplab_weights_name=out / "net.pth", deeplab_out_dir=out / "masks")
        start = ["-m", "torch.distributed.run", f"--nproc_per_node={count}", "--standalone"] if count > 1 else []
        done = subprocess.run(
            [sys.executable, *start, program, *arguments], capture_output=True, text=True, timeout=600
        )
        assert done.returncode == 0, done.stderr
        states.append(torch.load(out / "net.pth", weights_only=True))
        last = (out / "net.pth.history.jsonl").read_text().splitlines()[-1]
        histories.append(json.loads(last)["validation_miou"])
    one, several = states
    assert max(float((one[name] - several[name]).abs().max()) for name in one) <= 1e-5
    moved = (one["aspp.c0.weight"] - first_head(21, seed=5)["aspp.c0.weight"]).abs().max()
    assert moved > 1e-3
    assert histories[0] == pytest.approx(histories[1], abs=1e-3)


@pytest.mark.slow
def test_amp_reaches_the_network_in_training_and_in_prediction(deeplab_args, tmp_path, monkeypatch):
    """bfloat16 moves the weights and the predictions a little, not much; float32 is kept in what is saved."""
    monkeypatch.setattr("misc.run.device.fault_of", lambda device, *, amp: None)  # emulated where the CPU has none
    weights, probabilities = {}, {}
    for amp in (False, True):
        changes = {"deeplab_weights_name": tmp_path / f"{amp}.pth", "amp": str(amp).lower()}
        arguments = deeplab_args(**changes, deeplab_learning_rate=1e-3)
        assert main([*arguments, "--no_make_deeplab_seg_pass", "--no_eval_deeplab_seg_pass"]) == 0
        args = read_config(deeplab_args(amp=str(amp).lower(), deeplab_weights_name=tmp_path / "False.pth"))
        ids = read_list(args.val_list)[:1]
        (predicted,) = make_deeplab_seg.predict(args, DataSet(args), ids, torch.device("cpu"))
        weights[amp] = torch.load(tmp_path / f"{amp}.pth", weights_only=True)
        probabilities[amp] = predicted.probabilities
    moved = [float((weights[True][name] - tensor).abs().max()) for name, tensor in weights[False].items()]
    assert 0 < max(moved) < 0.1 and all(tensor.dtype != torch.bfloat16 for tensor in weights[True].values())
    assert 0 < np.abs(probabilities[True] - probabilities[False]).max() < 0.1


@pytest.mark.slow
def test_kills_at_random_moments(deeplab_args, program, tmp_path, effort):
    """Killed again and again, saved at every look: in the end the files of an undisturbed run."""

    def command(out: Path) -> list[str]:
        places = {"deeplab_weights_name": out / "net.pth", "deeplab_out_dir": out / "masks", "log_name": out / "log"}
        arguments = deeplab_args(
            **places, deeplab_steps=6, deeplab_validate_every=1, deeplab_iter_size=1, checkpoint_minutes=0
        )
        return [sys.executable, str(program), *arguments]

    started = time.monotonic()
    succeed(command(tmp_path / "undisturbed"))
    took = time.monotonic() - started
    rng, out = random.Random(3), tmp_path / "killed"
    kills = 0
    for _ in range(effort(4, 20)):
        run = Run(command(out))
        time.sleep(rng.uniform(0.3, 0.9) * took)
        run.send_signal(rng.choice([signal.SIGKILL, signal.SIGTERM]))
        code, error = run.ends()
        assert code in (0, -signal.SIGKILL, -signal.SIGTERM), error
        kills += code != 0
    succeed(command(out))
    assert kills
    assert_same(out, tmp_path / "undisturbed")
