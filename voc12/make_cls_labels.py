"""Write the image-level labels of a data set into one file, from its XML annotations or its masks.

    python -m voc12.make_cls_labels --voc12_root ROOT --list train.txt --class_names classes.txt --out labels.csv

Every object of an annotation counts, also those marked difficult or truncated, as in VOC's published labels;
of a mask every class number counts, however few pixels it has. An --out that ends in .csv gets class names
(header image_id,classes) and may list IDs with blanks, any other one gets lines 'ID c c …' of numbers from 0.
"""

import argparse
from collections import Counter
from pathlib import Path

from misc.cores import available_cores
from misc.errors import InputError
from misc.run.arguments import OneLineParser, whole_number
from misc.run.process import guarded, run_command, say
from voc12.annotation import Shown, annotated_classes, shown_in
from voc12.image_set import VOCRoot, merged, other_truth, read_list
from voc12.label_file import write_label_file


@guarded
def main(argv: list[str] | None = None) -> int:
    """Returns the exit code: 0 done, 2 bad input."""
    args = _parser().parse_args(argv)
    from voc12.image_labels import read_class_names  # imports torch; --help is quick without

    root = VOCRoot(Path(args.voc12_root), truth_dir=Path(args.truth_dir) if args.truth_dir else None)
    if not root.root.is_dir():
        raise InputError(f"voc12_root: there is no folder {root.root}")
    if args.source == "masks" and (args.missing_xml != "error" or args.drop_unknown_classes):
        raise InputError("--missing_xml and --drop_unknown_classes are of --source xml, not of masks")
    ids = merged(*(read_list(path, notice=say) for path in args.list))
    class_names = read_class_names(args.class_names)
    out = output_file(args.out, overwrite=args.overwrite)
    shown = shown_classes(
        root,
        ids,
        class_names,
        names_file=args.class_names,
        source=args.source,
        empty_if_missing=args.missing_xml == "empty",
        drop_unknown=args.drop_unknown_classes,
        workers=available_cores() if args.num_workers is None else args.num_workers,
    )
    labels = {image_id: found.classes for image_id, found in shown.items()}
    if not any(labels.values()):
        raise InputError(f"none of {len(labels)} images shows a class, such as {ids[0]}: nothing to learn from")
    write_label_file(out, labels, class_names)
    left_out = Counter(name for found in shown.values() for name in found.unknown)
    if left_out:
        counts = ", ".join(f"{name!r} ({count})" for name, count in left_out.most_common())
        say(f"left out: {left_out.total()} objects that are no class: {counts}")
    unlabelled = sum(not classes for classes in labels.values())
    say(f"{args.out}: {len(labels)} images, {unlabelled} of them without a class")
    return 0


def shown_classes(
    root: VOCRoot,
    ids: list[str],
    class_names: list[str],
    *,
    names_file: str,
    source: str,
    empty_if_missing: bool,
    drop_unknown: bool,
    workers: int,
) -> dict[str, Shown]:
    """What each image shows.

    names_file         of the class names, for what is said of them
    source             xml (Annotations/) or masks (SegmentationClass/, or the root's truth_dir)
    empty_if_missing   an image without XML shows nothing; else it is an error
    drop_unknown       objects that are no class are told apart; else they are an error
    Raises             InputError if the files do not hold what is expected (see voc12/contradictions.py)
    """
    from misc.run.parallel import parallel_map
    from voc12.image_labels import masked_classes

    path_of = {image_id: (root.annotation if source == "xml" else root.truth)(image_id) for image_id in ids}
    missing = [path for path in path_of.values() if not path.is_file()]
    if missing and not empty_if_missing:
        from voc12.first_look import misplaced_mask

        advice = "if images without objects have none, say --missing_xml empty; "
        if source == "masks":
            advice = other_truth(missing[0]) or misplaced_mask(missing[0])
        raise InputError(
            f"{len(missing)} of {len(ids)} files missing, such as {missing[0]}: {advice}see --source and --list"
        )
    if len(missing) == len(ids):
        raise InputError(f"none of {len(ids)} annotations is there, such as {missing[0]}: see --voc12_root and --list")
    if missing:
        say(f"{len(missing)} of {len(ids)} images have no XML, such as {missing[0]}: they show no class")

    if source == "masks":
        check_masks(root, ids, class_names, names_file, workers=workers)

    def read(path: Path) -> Shown:
        if source == "masks":
            return Shown(masked_classes(path, class_names), [])
        return shown_in(path, class_names) if drop_unknown else Shown(annotated_classes(path, class_names), [])

    absent = set(missing)
    there = {image_id: path for image_id, path in path_of.items() if path not in absent}
    found = parallel_map(read, list(there.values()), workers=workers, desc="make_cls_labels")
    shown = dict(zip(there, found, strict=True))
    return {image_id: shown.get(image_id, Shown([], [])) for image_id in ids}


def check_masks(root: VOCRoot, ids: list[str], class_names: list[str], names_file: str, *, workers: int) -> None:
    """Look at masks, and at the annotations of their images, if there are any; warn, or raise InputError."""
    from voc12.contradictions import Source
    from voc12.first_look import Masks, look_at_masks

    def annotated(image_id: str) -> list[int]:
        return annotated_classes(root.annotation(image_id), class_names)

    source = Source(str(root.truth("ID").parent), class_names, names_file, labels_used=False)
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
    parser.add_argument(
        "--missing_xml",
        choices=("error", "empty"),
        default="error",
        help="an image without XML: an error, or it shows no class (labelImg writes none for an image without objects)",
    )
    parser.add_argument(
        "--drop_unknown_classes", action="store_true", help="leave out objects of other classes; else an error"
    )
    parser.add_argument("--out", required=True, help="the label file to write")
    parser.add_argument("--overwrite", action="store_true", help="replace the file if it is there")
    parser.add_argument("--num_workers", type=whole_number, help="threads that read (default: one a core)")
    return parser


if __name__ == "__main__":
    run_command(main)
