"""The texts of a converted data set: lists, class names, labels, settings, and the summary."""

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from misc.config import Config
from misc.errors import InputError
from voc12.class_names import ALONE, other_kind
from voc12.convert.own_files import OwnFiles
from voc12.convert.source import TEST, TRAIN, VAL, Found, SourceImage
from voc12.image_set import SETTINGS, VOCRoot
from voc12.label_file import label_text
from voc12.list_forms import ids_of

SETTINGS_HEAD = """# Written by voc12.convert: where things are, and what differs from the published settings.
# make_saliency_pass: there are no saliency maps. Put those of a detector into Sal/ and take the line away.
"""
SHOWN = 5


def write_texts(own: OwnFiles, found: Found, labels: dict[str, list[int]]) -> None:
    """Write lists, class names, labels and, when what is left of earlier conversions is removed, the settings.

    labels    ID → the classes that the image shows, from 0
    Raises    InputError if a list or the label file cannot hold the names
    """
    root, lists = own.root, lists_of(found.images)
    for name, ids in lists.items():
        path = list_path(root, name)
        if ids_of(ids, path)[0] != ids:
            raise InputError(f"{path}: the IDs, such as {ids[0]!r}, would be read otherwise: rename the images")
        own.write_text(path.relative_to(root).as_posix(), _lines(ids))
    classes = root / "classes.txt"
    mark = [ALONE] if other_kind(classes, found.class_names) else []
    own.write_text(classes.name, _lines([*mark, *found.class_names]))
    separates = any(";" in name for name in found.class_names)  # names in a .csv
    label_file = "cls_labels.txt" if separates else "cls_labels.csv"
    own.write_text(label_file, label_text(root / label_file, labels, found.class_names))
    own.remove_unused()
    settings = settings_of(Path(os.path.abspath(root)), label_file, lists, found.images)
    content = yaml.safe_dump(settings, allow_unicode=True, sort_keys=False, width=1000)
    own.write_text(SETTINGS, SETTINGS_HEAD + content)


def list_path(root: Path, name: str) -> Path:
    """Where a list is written: always in the target, other than VOCRoot.image_set, which takes x.txt for a path."""
    return root / "ImageSets" / "Segmentation" / f"{name}.txt"


def lists_of(images: list[SourceImage]) -> dict[str, list[str]]:
    """List name → IDs. There is always a train list, and where masks are given, they are of all that it holds.

    If some of the training images have masks and others only classes, train_aug lists all and train those with masks,
    as VOC does.
    """
    lists: dict[str, list[str]] = {}
    for image in images:
        for name in dict.fromkeys(image.sets):  # train.txt and Training.txt may both be there
            lists.setdefault(name, []).append(image.image_id)
    if TRAIN not in lists:
        elsewhere = {*lists.get(VAL, []), *lists.get(TEST, [])}
        ids = [image.image_id for image in images]
        lists = {TRAIN: [image_id for image_id in ids if image_id not in elsewhere] or ids, **lists}
    with_mask = {image.image_id for image in images if image.mask}
    masked = [image_id for image_id in lists[TRAIN] if image_id in with_mask]
    if 0 < len(masked) < len(lists[TRAIN]):
        lists |= {"train_aug": lists.get("train_aug", lists[TRAIN]), TRAIN: masked}
    return lists


def settings_of(root: Path, label_file: str, lists: dict[str, list[str]], images: list[SourceImage]) -> dict[str, Any]:
    """What differs from the defaults. Paths are absolute, so that the file works from any folder."""

    def path_of(name: str) -> str:
        return str(list_path(root, name))

    training = "train_aug" if "train_aug" in lists else TRAIN
    validation = VAL if VAL in lists else training
    with_mask = {image.image_id for image in images if image.mask}
    settings: dict[str, Any] = {
        "voc12_root": str(root),
        "class_names": str(root / "classes.txt"),
        "cls_labels": str(root / label_file),
        "train_aug_list": path_of(training),
        "train_list": path_of(TRAIN),
        "val_list": path_of(validation),
        "make_saliency_pass": True,
    }
    if not with_mask.issuperset(lists[TRAIN]):
        settings |= {"eval_cam_pass": False, "eval_sem_seg_pass": False}
    if VAL in lists and not with_mask.issuperset(lists[VAL]):
        settings["eval_deeplab_seg_pass"] = False
    elif VAL not in lists:
        settings["deeplab_eval_set"] = TRAIN
    count = len(lists[training])
    defaults = Config()
    for name in ("cam_batch_size", "bes_batch_size", "deeplab_batch_size"):
        if count < getattr(defaults, name):
            settings[name] = count
    micro_batches = max(1, count // min(count, defaults.deeplab_batch_size))
    if micro_batches < defaults.deeplab_iter_size:
        settings["deeplab_iter_size"] = micro_batches
    return settings


def _lines(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def summary(root: Path, found: Found, labels: dict[str, list[int]]) -> str:
    """What was found, and what to type next."""
    shown = Counter(number for classes in labels.values() for number in classes)
    by_class = [(name, shown[number]) for number, name in enumerate(found.class_names)]
    lists = lists_of(found.images)
    lines = [
        f"{root}: {len(labels)} images, {sum(image.mask is not None for image in found.images)} of them with masks",
        f"lists: {', '.join(f'{name} {len(ids)}' for name, ids in lists.items())}",
        f"images by class: {', '.join(f'{name} {n}' for name, n in by_class if n)}",
    ]
    lines += counted({"classes that no image shows": [name for name, n in by_class if not n]})
    lines += found.notes
    without = [image_id for image_id, classes in labels.items() if not classes]
    lines += counted({"images without a class": without} if without else {})
    lines += [f"left out: {line}" for line in counted(found.left_out)]
    if VOCRoot(root).image(found.images[0].image_id).is_symlink():
        lines.append("images are links to those of SOURCE: keep it, or use --copy")
    if not any(TRAIN in image.sets for image in found.images):
        others = [name for name in (VAL, TEST) if name in lists]
        named = ", ".join(others)
        made_of = f"the images that {named} leave over" if others else "all images"
        if set(lists[TRAIN]) <= {image_id for name in others for image_id in lists[name]}:
            made_of = f"the images of {named}, and figures on these say nothing about others"
        lines.append(f"no training list: train is made of {made_of}")
    if VAL not in lists:
        lines.append("no validation list: the classifier is validated on its training images")
    return "\n".join([*lines, f"next: python run_sample.py --voc12_root {root} --config {root / SETTINGS}"])


def counted(why: dict[str, list[str]]) -> list[str]:
    """A line for each reason: how many, and the first of them."""
    return [
        f"{reason}, {len(names)}: {_printable(', '.join(names[:SHOWN]))}" + (", …" if len(names) > SHOWN else "")
        for reason, names in why.items()
        if names
    ]


def _printable(names: str) -> str:
    """File names that are not UTF-8 hold what no terminal is sent."""
    return names.encode(errors="backslashreplace").decode()
