"""The demo for several seeds: does the method work, and by how much?

    python -m benchmarks.demo_seeds --seeds 5 6 7 --out result/seeds

Two tables: CAMs and masks on the training images, SBE's and BES's on the same CAMs (they do not depend on the method);
and DeepLab-v2 on the validation images, trained on SBE's masks and, as the upper bound, on the ground truth. Everything
goes through the command line of run_sample.py with configs/demo.yaml; only folders, seed and masks differ.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

SHARED_STEPS = ("make_demo_set", "train_backbone", "train_cam", "make_cam", "eval_cam")
MASK_STEPS = ("make_boundary_label", "train_sbe_boundary", "make_sem_seg", "eval_sem_seg")
MASKS = ("CAM", "BES mask", "SBE mask", "BES mask + CRF", "SBE mask + CRF")
NETWORKS = ("trained on", "network", "network + CRF")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[5, 6, 7])
    parser.add_argument("--out", type=Path, default=Path("result/seeds"))
    args = parser.parse_args()
    masks = [header("seed", *MASKS)]
    networks = [header("seed", *NETWORKS)]
    for seed in args.seeds:
        folder = args.out / str(seed)
        run_demo(folder, seed, "sbe", [])
        run_demo(folder, seed, "bes", ["--no_deeplab", *off(*SHARED_STEPS)])
        truth = [f"--deeplab_mask_dir={folder / 'voc' / 'SegmentationClass'}", "--deeplab_mask_suffix=none"]
        run_demo(folder, seed, "truth", [*truth, *off(*SHARED_STEPS, *MASK_STEPS, "report")])
        cam = miou(folder / "cam" / "eval_cam.json", "CAM")
        scores = {m: folder / m / "sem_seg" / "eval_sem_seg.json" for m in ("bes", "sbe")}
        masks.append(line(seed, cam, *(miou(scores[m], kind) for kind in ("mask", "mask + CRF") for m in scores)))
        for trained_on, name in ("SBE mask + CRF", "sbe"), ("ground truth", "truth"):
            score = folder / name / "deeplab" / "eval_deeplab_seg.json"
            networks.append(line(seed, trained_on, *(miou(score, kind) for kind in NETWORKS[1:])))
        print("\n".join([*masks, "", *networks, ""]), flush=True)


def header(*names: str) -> str:
    return f"{line(*names)}\n{line(*['---'] * len(names))}"


def line(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def miou(table: Path, kind: str) -> str:
    return f"{100 * json.loads(table.read_text())[kind]['miou']:.1f}"


def off(*steps: str) -> list[str]:
    return [f"--no_{step}_pass" for step in steps]


def run_demo(folder: Path, seed: int, name: str, more: list[str]) -> None:
    """Run the demo with outputs of its own in folder / name; name: sbe, bes, or truth, which makes no masks."""
    lists = folder / "voc" / "ImageSets" / "Segmentation"
    places = {
        "voc12_root": folder / "voc",
        "train_aug_list": lists / "train.txt",
        "train_list": lists / "train.txt",
        "val_list": lists / "val.txt",
        "log_name": folder / name,
        "backbone_out": folder / "backbone.pth",
        "backbone_weights": folder / "backbone.pth",
        "cam_weights_name": folder / "cam.pth",
        "cam_out_dir": folder / "cam",
        "bes_weights_name": folder / name / "boundary.pth",
        "cam_vis_dir": folder / name / "cam_vis",
        "boundary_label_dir": folder / name / "boundary_label",
        "sem_seg_out_dir": folder / name / "sem_seg",
        "report_dir": folder / name / "report",
        "deeplab_backbone_weights": folder / "backbone.pth",
        "deeplab_weights_name": folder / name / "deeplab.pth",
        "deeplab_out_dir": folder / name / "deeplab",
    }
    method = "bes" if name == "bes" else "sbe"
    command = [sys.executable, "run_sample.py", "--config=configs/demo.yaml", f"--seed={seed}", f"--method={method}"]
    command += ["--overwrite", *(f"--{setting}={path}" for setting, path in places.items()), *more]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
