"""The demo for several seeds, SBE and BES on the same CAMs: does the method work, and by how much?

    python -m benchmarks.demo_seeds --seeds 5 6 7 --out result/seeds

Everything goes through the command line of run_sample.py with configs/demo.yaml; only the folders and
the seed differ. BES starts from SBE's CAMs (they do not depend on the method).
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

SHARED_STEPS = ("make_demo_set", "train_backbone", "train_cam", "make_cam", "eval_cam")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[5, 6, 7])
    parser.add_argument("--out", type=Path, default=Path("result/seeds"))
    args = parser.parse_args()
    print("| seed | CAM | BES mask | SBE mask | BES mask + CRF | SBE mask + CRF |\n" + "| --- " * 6 + "|")
    for seed in args.seeds:
        folder = args.out / str(seed)
        run_demo(folder, seed, "sbe", [])
        run_demo(folder, seed, "bes", [f"--no_{name}_pass" for name in SHARED_STEPS])
        cam = json.loads((folder / "cam" / "eval_cam.json").read_text())["CAM"]["miou"]
        masks = {m: json.loads((folder / m / "sem_seg" / "eval_sem_seg.json").read_text()) for m in ("bes", "sbe")}
        figures = [cam, *(masks[m][kind]["miou"] for kind in ("mask", "mask + CRF") for m in ("bes", "sbe"))]
        print(f"| {seed} | " + " | ".join(f"{100 * figure:.1f}" for figure in figures) + " |", flush=True)


def run_demo(folder: Path, seed: int, method: str, more: list[str]) -> None:
    lists = folder / "voc" / "ImageSets" / "Segmentation"
    places = {
        "voc12_root": folder / "voc",
        "train_aug_list": lists / "train.txt",
        "train_list": lists / "train.txt",
        "val_list": lists / "val.txt",
        "log_name": folder / method,
        "backbone_out": folder / "backbone.pth",
        "backbone_weights": folder / "backbone.pth",
        "cam_weights_name": folder / "cam.pth",
        "cam_out_dir": folder / "cam",
        "bes_weights_name": folder / method / "boundary.pth",
        "cam_vis_dir": folder / method / "cam_vis",
        "boundary_label_dir": folder / method / "boundary_label",
        "sem_seg_out_dir": folder / method / "sem_seg",
        "report_dir": folder / method / "report",
    }
    command = [sys.executable, "run_sample.py", "--config", "configs/demo.yaml", f"--seed={seed}", f"--method={method}"]
    command += ["--overwrite", *(f"--{name}={path}" for name, path in places.items()), *more]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
