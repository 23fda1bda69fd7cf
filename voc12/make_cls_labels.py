"""Write the image-level labels of a data set into one file, from its XML annotations or its masks.

    python -m voc12.make_cls_labels --voc12_root ROOT --list train.txt --class_names classes.txt --out labels.csv

Every object of an annotation counts, also those marked difficult or truncated, as in VOC's published labels;
of a mask every class number counts, however few pixels it has. An --out that ends in .csv gets class names
(header image_id,classes) and may list IDs with blanks, any other one gets lines 'ID c c …' of numbers from 0.
"""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

from misc.cores import available_cores
from misc.errors import InputError
from misc.run.arguments import OneLineParser, whole_number
from misc.run.process import guarded, run_command, say
from voc12.image_set import VOCRoot, merged, other_truth, read_list
from voc12.label_file import write_label_file


@guarded
def main(argv: list[str] | None = None) -> int:
    """Returns the exit code: 0 done, 2 bad input."""
    args = _parser().parse_args(argv)
    from voc12.image_labels import read_class_names  # imports torch; --help is quick without

    labels = make_labels(
        VOCRoot(Path(args.voc12_root), truth_dir=Path(args.truth_dir) if args.truth_dir else None),
        merged(*(read_list(path, notice=say) for path in args.list)),
        read_class_names(args.class_names),
        names_file=args.class_names,
        source=args.source,
        workers=available_cores() if args.num_workers is None else args.num_workers,
        out=output_file(args.out, overwrite=args.overwrite),
    )
    unlabelled = sum(not classes for classes in labels.values())
    say(f"{args.out}: {len(labels)} images, {unlabelled} of them without a class")
    return 0


def make_labels(
    root: VOCRoot,
    ids: list[str],
    class_names: list[str],
    *,
    names_file: str = "--class_names",
    source: str,
    workers: int,
    out: Path,
) -> dict[str, list[int]]:
    """Write the classes of each image, from 0, sorted, to `out` and return them.

    names_file    of the class names, for what is said of them
    source        xml (Annotations/) or masks (SegmentationClass/, or the root's truth_dir)
    Raises        InputError if the files do not hold what is expected (see voc12/contradictions.py), or no class
    """
    if not root.root.is_dir():
        raise InputError(f"voc12_root: there is no folder {root.root}")
    from misc.run.parallel import parallel_map
    from voc12.image_labels import annotated_classes, masked_classes

    path_of, read = (root.annotation, annotated_classes) if source == "xml" else (root.truth, masked_classes)
    paths = [path_of(image_id) for image_id in ids]
    missing = [path for path in paths if not path.is_file()]
    if missing:
        from voc12.first_look import misplaced_mask

        advice = other_truth(missing[0]) or misplaced_mask(missing[0]) if source == "masks" else ""
        raise InputError(
            f"{len(missing)} of {len(paths)} files missing, such as {missing[0]}: {advice}see --source and --list"
        )
    if source == "masks":
        check_masks(root, ids, class_names, names_file, workers=workers)
    reader: Callable[[Path], list[int]] = partial(read, class_names=class_names)
    labels = dict(zip(ids, parallel_map(reader, paths, workers=workers, desc="make_cls_labels"), strict=True))
    if labels and not any(labels.values()):
        raise InputError(f"none of {len(labels)} images shows a class, such as {paths[0]}: nothing to learn from")
    write_label_file(out, labels, class_names)
    return labels


def check_masks(root: VOCRoot, ids: list[str], class_names: list[str], names_file: str, *, workers: int) -> None:
    """Look at masks, and at the annotations of their images, if there are any; warn, or raise InputError."""
    from voc12.contradictions import Source
    from voc12.first_look import Masks, look_at_masks
    from voc12.image_labels import annotated_classes

    def annotated(image_id: str) -> list[int]:
        return annotated_classes(root.annotation(image_id), class_names)

    source = Source(str(root.truth("ID").parent), class_names, names_file)
    findings = look_at_masks(Masks(ids, root.truth, None, annotated, source), workers=workers)
    for finding in findings:
        if not finding.fatal:
            say(f"warning: {finding.text}")
    fatal = [finding.text for finding in findings if finding.fatal]
    if fatal:
        raise InputError("; ".join(fatal))


def output_file(path: str, *, overwrite: bool) -> Path:
    """The file to write; InputError if it is a folder, or is there and may not be replaced."""
    out = Path(path)
    if out.is_dir():
        raise InputError(f"{out} is a folder: --out names a file")
    if out.exists() and not overwrite:
        raise InputError(f"{out} is there already: choose another --out, or say --overwrite")
    return out


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(
        prog="python -m voc12.make_cls_labels",
        description=__doc__,
    )
    parser.add_argument("--voc12_root", required=True, help="the data set, in VOC's layout")
    parser.add_argument("--list", required=True, nargs="+", help="lists of image IDs, one a line")
    parser.add_argument(
        "--class_names", default="voc12/class_names.txt", help="class names, one a line (default: VOC's)"
    )
    parser.add_argument("--source", choices=("xml", "masks"), default="xml", help="Annotations/ or SegmentationClass/")
    parser.add_argument("--truth_dir", help="where the masks lie (default: SegmentationClass/ in voc12_root)")
    parser.add_argument("--out", required=True, help="the label file to write")
    parser.add_argument("--overwrite", action="store_true", help="replace the file if it is there")
    parser.add_argument("--num_workers", type=whole_number, help="threads that read (default: one a core)")
    return parser


if __name__ == "__main__":
    run_command(main)
