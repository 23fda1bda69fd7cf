"""Write the published form of compact CAM files, for programs that read CAMs of IRN.

    python -m misc.expand_cams result/cam result/cam_published

Every step reads both forms, so that the chain needs none of this. Files that are in TARGET already are left as they
are: interrupted, the same command goes on. There is no way back, since the maps of each scale cannot be told from
their sums: run make_cam with --cam_file compact.
"""

import argparse
from functools import partial
from pathlib import Path

from misc.cores import available_cores
from misc.errors import InputError
from misc.run.arguments import OneLineParser
from misc.run.process import guarded, run_command, say


@guarded
def main(argv: list[str] | None = None) -> int:
    """Returns the exit code: 0 done, 2 bad input."""
    args = _parser().parse_args(argv)
    made, kept = expand(Path(args.source), Path(args.target))
    say(f"{args.target}: {made} CAM files written" + (f", {kept} were there already" if kept else ""))
    return 0


def expand(source: Path, target: Path) -> tuple[int, int]:
    """Write the maps of all CAM files of a folder in published form.

    Returns   how many files were written, and how many were there already.
    Raises    InputError if there is none, if one cannot be read, or if both folders are the same.
    """
    from misc.formats.quick_look import cam_fault  # torch is imported only now, so that --help is quick
    from misc.run.parallel import parallel_map

    if not source.is_dir():
        raise InputError(f"there is no folder {source}")
    if target.exists() and target.samefile(source):
        raise InputError(f"{target} holds the compact files: name another folder for the published ones")
    files = sorted(source.glob("*.npy"))
    if not files:
        raise InputError(f"{source}: holds no CAM files (ID.npy)")
    left = [path for path in files if cam_fault(target / path.name) is not None]
    for _ in parallel_map(partial(expand_one, target=target), left, workers=available_cores(), desc="expand_cams"):
        pass
    return len(left), len(files) - len(left)


def expand_one(path: Path, *, target: Path) -> None:
    from misc.formats.cam_file import read_cam, write_cam

    write_cam(target / path.name, read_cam(path))


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        prog="python -m misc.expand_cams",
        description=__doc__,
    )
    parser.add_argument("source", metavar="SOURCE", help="a folder of CAM files, ID.npy, that make_cam wrote")
    parser.add_argument("target", metavar="TARGET", help="another folder, for the published ones")
    return parser


if __name__ == "__main__":
    run_command(main)
