"""Draw one image's row: what the chain read and what it made of it.

    python -m step.report.view ID [--out FILE.png] [--config FILE.yaml] [any setting of run_sample.py]

Input, ground truth, CAM, saliency, boundary label, predicted boundary, mask and mask + CRF, as far as they are there.
"""

import argparse
import sys
from pathlib import Path

from misc.config import Config, read_config
from misc.errors import InputError
from misc.run.process import guarded, run_command, say


@guarded
def main(argv: list[str] | None = None) -> int:
    """Write the picture and say where; returns the exit code: 0 done, 2 bad input."""
    arguments = sys.argv[1:] if argv is None else argv
    if arguments in (["-h"], ["--help"]):
        say(__doc__.strip())
        return 0
    if not arguments or arguments[0][:1] in ("", "-"):
        raise InputError("which image? python -m step.report.view ID [--config FILE.yaml] [any setting]")
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--out", type=_png_path)
    try:
        own, settings = parser.parse_known_args(arguments[1:])
    except argparse.ArgumentError as error:
        raise InputError(str(error)) from error
    say(str(view(arguments[0], read_config(settings), own.out)))
    return 0


def _png_path(text: str) -> Path:
    if not text:
        raise argparse.ArgumentTypeError("it is empty: say where the picture goes, or leave it out")
    if Path(text).suffix.lower() != ".png":
        raise argparse.ArgumentTypeError(f"the picture is a PNG, so its name has to end in .png, not {text!r}")
    return Path(text)


def view(image_id: str, args: Config, out: Path | None = None) -> Path:
    """Draw the row of an image; returns the path of the picture, by default report_dir/view/ID.png.

    Raises    InputError if there is no such image or nothing has been made of it.
    """
    # imported only now, so that --help is quick
    from misc.report.charts import row_figure, save_figure
    from misc.report.page import percent
    from misc.run.preflight import Preflight
    from step.report.pictures import image_iou, made_paths, panels_of, scored_kinds
    from step.shared.data import DataSet
    from voc12.image_set import near_miss

    preflight = Preflight()
    preflight.needs_folder("voc12_root", args.voc12_root)
    preflight.finish()
    data = DataSet(args)
    if Path(image_id).name != image_id:
        raise InputError(f"{image_id!r} is not an image ID (a file name without folder and ending)")
    path = data.root.image(image_id)
    if not path.is_file():
        raise InputError(f"there is no image {image_id}: {near_miss(path) or f'expected it at {path}'}")
    if not any(path.is_file() for path in made_paths(image_id, args).values()):
        raise InputError(
            f"nothing has been made of {image_id} yet: run make_cam on a list that holds it, or set --cam_out_dir, "
            "--boundary_label_dir and --sem_seg_out_dir as they were then"
        )
    (shown,) = data.labelled([image_id])
    panels = panels_of(shown, args=args, data=data)
    ious = {kind: image_iou(shown, kind, args=args, data=data) for kind in scored_kinds(args)}
    scores = {kind: f"\nIoU {percent(iou)} %" for kind, iou in ious.items() if iou is not None}
    classes = {int(key) + 1: data.class_names[key] for key in shown.labels}
    out = out or Path(args.report_dir) / "view" / f"{image_id}.png"
    save_figure(row_figure(image_id, panels, [p.name + scores.get(p.name, "\n") for p in panels], classes), out)
    return out


if __name__ == "__main__":
    run_command(main)
