"""Convert a data set of another layout into VOC's, with lists, image labels and settings: ready to run.

    python -m voc12.convert labelme annotated/ VOC_of_mine/
    python run_sample.py --voc12_root VOC_of_mine --config VOC_of_mine/set.yaml

SOURCE is only read. Images become symbolic links to it, or copies where there are none (or with --copy); masks become
palette PNGs of class numbers. Interrupted, the same command goes on and keeps what is finished.
"""

import argparse
from pathlib import Path

from misc.cores import available_cores
from misc.errors import InputError
from misc.run.arguments import OneLineParser, whole_number
from misc.run.process import guarded, run_command, say
from voc12.convert import coco, coco14, cvat, labelme, masks, roboflow, sbd
from voc12.convert.source import Format, folder_of, refuse_overlap

FORMATS: dict[str, Format] = {
    "labelme": labelme,
    "cvat": cvat,
    "roboflow": roboflow,
    "sbd": sbd,
    "masks": masks,
    "coco14": coco14,
    "coco": coco,
}
FOLDERS = ("images", "masks")  # options that name folders to be read
COMMON = ("format", "source", "target", "copy", "overwrite", "num_workers")  # arguments of all formats


@guarded
def main(argv: list[str] | None = None) -> int:
    """Returns the exit code: 0 done, 2 bad input."""
    args = _parser().parse_args(argv)
    from voc12.convert.target import Target  # imports torch; --help is quick without

    source, target = Path(args.source), Path(args.target)
    refuse_overlap(source, target)
    if source.suffix.lower() in (".zip", ".tar", ".tgz", ".gz"):
        raise InputError(f"{source} is packed: unpack it and give its folder as SOURCE")
    for name in FOLDERS:
        given = getattr(args, name, None)
        if given and (folder := folder_of(source, given)).is_dir():
            refuse_overlap(folder, target)
    found = FORMATS[args.format].read(source, args)
    # read() sets in `args` what the source itself told and later files could tell otherwise
    options = {name: value for name, value in vars(args).items() if name not in COMMON}
    record = {"format": args.format, "source": str(source.resolve()), "options": options}
    workers = available_cores() if args.num_workers is None else args.num_workers
    say(Target(target, copy=args.copy, overwrite=args.overwrite).write(found, record=record, workers=workers))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(prog="python -m voc12.convert", description=__doc__)
    formats = parser.add_subparsers(dest="format", metavar="FORMAT", required=True)
    for name, module in FORMATS.items():
        says, _, more = (module.__doc__ or "").partition("\n")
        one = formats.add_parser(name, help=says, description=f"SOURCE holds {says}\n{more}")
        one.add_argument("source", metavar="SOURCE", help="the folder to read; it is never changed")
        one.add_argument("target", metavar="TARGET", help="the folder to write, new or empty or of the same command")
        module.add_options(one)
        one.add_argument("--copy", action="store_true", help="copy images instead of linking to those of SOURCE")
        one.add_argument("--overwrite", action="store_true", help="first remove an earlier conversion from TARGET")
        one.add_argument("--num_workers", type=whole_number, help="threads that work (default: one a core)")
    return parser


if __name__ == "__main__":
    run_command(main)
