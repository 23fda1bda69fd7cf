"""Measure ours against the published way of computing the same thing.

    python -m benchmarks.run                                 # everything; about an hour on two cores
    python -m benchmarks.run --rows walk,make_cam            # some rows; they are merged into the results
    python -m benchmarks.run --tiny                          # does it run? The figures mean nothing

Writes a Markdown table and, beside it, everything that was measured as JSON.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.measure import fresh, machine, memory_above_input, times, worker
from benchmarks.report import INFERENCE, chain, comparison, render

GRIDS = ("47x63", "94x125", "188x250", "250x250")
TINY_GRIDS = ("6x8", "12x16", "24x32")
SIZES = ("375x500", "750x1000", "1500x2000")
TINY_SIZES = ("20x30", "40x60")
COMPARISONS: dict[str, tuple[str, ...]] = {
    "walk": ("walk",),
    "crf": ("crf_2", "crf_3", "crf_4", "crf_21", "crf_torch"),
    "boundary_training": ("boundary_training", "boundary_training_detached", "boundary_training_amp"),
    "make_cam": ("make_cam",),
    "make_boundary_label": ("make_boundary_label",),
    "make_sem_seg": ("make_sem_seg",),
    "train_cam": ("train_cam",),
    "deeplab": ("train_deeplab", "predict_deeplab", "make_deeplab_seg"),
}
ORDER = (
    "walk",
    "walk_scaling",
    "crf",
    "crf_scaling",
    "boundary_training",
    "make_cam",
    "make_boundary_label",
    "make_sem_seg",
    "train_cam",
    "deeplab",
)
ROWS = (*ORDER, "chain", "loader", "memory")
SETS = {False: ("voc_375x500", "voc_3000x4000"), True: ("voc_60x80", "voc_120x160")}  # by --tiny


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default=",".join(ROWS), help=f"some of {','.join(ROWS)}")
    parser.add_argument("--repeat", type=int, default=3, help="repetitions of both sides")
    parser.add_argument("--repeat-slow", type=int, default=1, help="of a published side that takes minutes")
    parser.add_argument("--memory-images", type=int, default=2, help="images of the row memory")
    parser.add_argument("--tiny", action="store_true", help="small inputs, one repetition")
    parser.add_argument("--out", type=Path, help="default benchmarks/results.md; with --tiny result/benchmarks/tiny.md")
    parser.add_argument("--work", type=Path, default=Path("result/benchmarks"), help="where inputs and outputs go")
    args = parser.parse_args(argv)
    wanted = args.rows.split(",")
    if unknown := set(wanted) - set(ROWS):
        parser.error(f"no such row: {', '.join(sorted(unknown))} (there are {', '.join(ROWS)})")
    out = args.out or (args.work / "tiny.md" if args.tiny else Path("benchmarks/results.md"))
    if args.tiny:
        args.repeat = args.repeat_slow = 1
    command = f"python -m benchmarks.run --rows {args.rows} --repeat {args.repeat} --repeat-slow {args.repeat_slow}"
    if "memory" in wanted:
        command += f" --memory-images {args.memory_images}"

    folder = (args.work / ("tiny" if args.tiny else "full")).resolve()
    common = {"tiny": args.tiny, "folder": str(folder)}
    print("preparing inputs", flush=True)
    large_images = args.memory_images if "memory" in wanted else 0
    about, _ = worker({**common, "do": "prepare", "large_images": large_images})
    results = stored(out, args.tiny)
    here = f"{machine()}, torch {about['torch']}, {about['threads']} threads"
    common["amp"] = about["amp"]
    for name in [row for row in ROWS if row in wanted]:
        print(f"measuring {name}", flush=True)
        for key, result in measure(name, args, common).items():
            results["rows"][key] = {"command": command, "machine": here, **result}
            if "published" in result.get("seconds", {}):
                print(comparison(result), flush=True)
        if name == "chain" and not chain(results["rows"]):
            print("the chain is the sum of other rows, and some are missing yet or of another machine", flush=True)
        save(results, out)
    print(f"\n{render(results)}\nwritten to {out} and {out.with_suffix('.json')}")
    return 0


def measure(name: str, args: argparse.Namespace, common: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What a row of the command line stands for, measured."""
    turns = {"repeat": args.repeat, "repeat_slow": args.repeat_slow}
    if name in COMPARISONS:
        sides = ["published", "ours"]
        keys = [key for key in COMPARISONS[name] if key != "boundary_training_amp" or common["amp"]]
    elif name == "walk_scaling":
        sides = ["ours"]
        keys = [f"walk@{grid}" for grid in (TINY_GRIDS if args.tiny else GRIDS)]
    elif name == "crf_scaling":
        sides = ["ours"]
        keys = [f"crf@{size}" for size in (TINY_SIZES if args.tiny else SIZES)]
    if name in (*COMPARISONS, "walk_scaling", "crf_scaling"):
        return {
            key: {
                **times({**common, "row": key}, sides, **turns),
                "memory": {side: memory_above_input(key, side, common) for side in sides},
            }
            for key in keys
        }
    if name == "loader":
        speeds, _ = worker({**common, "do": "loaders"})
        return {"loader": {"speeds": speeds, "workers": next(iter(speeds.values()))["workers"]}}
    if name == "memory":
        return {"memory": {"entries": [e for voc in SETS[args.tiny] for e in step_memory(voc, args, common)]}}
    return {}  # the chain follows from the other rows


def step_memory(voc: str, args: argparse.Namespace, common: dict[str, Any]) -> list[dict[str, Any]]:
    """The inference steps one by one through the driver, on the first images of a set."""
    root, out, weights = Path(common["folder"]) / voc, Path(common["folder"]) / f"out_{voc}", Path(common["folder"])
    ids = (root / "list.txt").read_text().split()[: args.memory_images]
    out.mkdir(exist_ok=True)
    images = out / "list.txt"
    images.write_text("\n".join([*ids, ""]))
    steps = ("train_cam", "make_cam", "eval_cam", "make_boundary_label", "train_sbe_boundary")
    entries = []
    for step in INFERENCE:
        values = {
            "voc12_root": root, "cls_labels": root / "labels.txt", "device": "cpu", "log_name": out / "log",
            "overwrite": True,
            **dict.fromkeys(("train_aug_list", "train_list", "val_list", "infer_list"), images),
            "cam_weights_name": weights / "weights" / "classifier.pth",
            "bes_weights_name": weights / "weights" / "boundary.pth",
            "cam_out_dir": out / "cams" if step == "make_cam" else root / "cams",
            **{name: out / name for name in ("cam_vis_dir", "boundary_label_dir", "sem_seg_out_dir")},
            **{f"{name}_pass": str(name == step).lower() for name in (*steps, "make_sem_seg", "eval_sem_seg")},
        }  # fmt: skip
        command = [sys.executable, "run_sample.py", *(f"--{name}={value}" for name, value in values.items())]
        done = fresh(command, watch=True)
        size = voc.removeprefix("voc_").replace("x", "×")
        entries.append({"step": step, "image": size, "images": len(ids), **done._asdict()})
        print(f"  {entries[-1]}", flush=True)
    return entries


def stored(out: Path, tiny: bool) -> dict[str, Any]:
    """Earlier results, to be added to; those of the other size are not mixed in."""
    path = out.with_suffix(".json")
    if path.exists():
        results = json.loads(path.read_text())
        if results["tiny"] == tiny:
            return results
    return {"tiny": tiny, "rows": {}}


def save(results: dict[str, Any], out: Path) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    out.with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n")
    out.write_text(render(results))


if __name__ == "__main__":
    sys.exit(main())
