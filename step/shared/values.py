"""What is read of ground truth and saliency maps before the first step: their values, not only their headers."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from misc.cores import available_cores
from misc.errors import InputError
from misc.formats.images import ON_ITS_SIDE, image_size, on_its_side
from misc.run.preflight import Preflight
from step.shared.data import DataSet
from voc12.contradictions import Finding, Source, label_findings
from voc12.first_look import MASKS_LOOKED_AT, Labels, Masks, look_at_masks, see_mask, spread
from voc12.saliency_look import look_at_saliency


def look_at_truth(preflight: Preflight, data: DataSet, ids: Sequence[str]) -> None:
    """Look at the masks of the images that have one, and compare them with the image labels, where there are any."""
    given = given_files(preflight, {image_id: data.root.truth(image_id) for image_id in ids})
    masks = masks_of(data, given, data.root.truth)
    if masks is None:
        return

    def look() -> None:
        preflight.notice(f"ground truth: {min(len(given), MASKS_LOOKED_AT)} of {len(ids)} masks looked at")
        tell(preflight, look_at_masks(masks, workers=available_cores()))

    if given:
        preflight.attempt(look, once=f"values of ground truth {hash(tuple(given))}")


def compare_with_labels(preflight: Preflight, data: DataSet, ids: Sequence[str], path: Callable[[str], Path]) -> None:
    """Compare masks that a network made, or anybody, with the image labels."""
    masks = masks_of(data, ids, path)
    if masks is not None and masks.labels is not None:
        seen = [see_mask(masks, image_id).shown for image_id in ids]
        tell(preflight, label_findings([shown for shown in seen if shown is not None], masks.source))


def masks_of(data: DataSet, ids: Sequence[str], path: Callable[[str], Path]) -> Masks | None:
    """Masks, and the image labels to compare them with; None without class names, which others miss."""
    labels = labels_of(data)
    try:
        labels_file = str(data.labels.path) if labels and data.labels.path else None
        folder, ending = str(path("").parent), path("").name
        source = Source(folder, data.class_names, data.class_names_file, labels_file, ending)
    except InputError:
        return None
    return Masks(ids, path, data.root.image, labels, source)


def look_at_saliency_maps(preflight: Preflight, data: DataSet, ids: Sequence[str]) -> None:
    """Look at the saliency maps that are there."""
    given = given_files(preflight, {image_id: data.root.saliency(image_id) for image_id in ids})

    def look() -> None:
        root = data.root
        count, findings = look_at_saliency(given, root.saliency, root.saliency_folder, workers=available_cores())
        preflight.notice(f"saliency: {count} of {len(ids)} maps looked at")
        tell(preflight, [*findings, *turned_maps(data, spread(given, MASKS_LOOKED_AT))])

    if given:
        preflight.attempt(look, once=f"values of saliency maps {hash(tuple(given))}")


def turned_maps(data: DataSet, ids: Sequence[str]) -> list[Finding]:
    """Saliency maps that have height and width of their image swapped."""
    turned = []
    for image_id in ids:
        with suppress(InputError):  # what is wrong with files is told elsewhere
            sizes = image_size(data.root.saliency(image_id)), image_size(data.root.image(image_id))
            if on_its_side(*sizes):
                turned.append(f"{data.root.saliency(image_id)} is {sizes[0]}, its image {sizes[1]}")
    if not turned:
        return []
    text = f"{len(turned)} of {len(ids)} saliency maps looked at lie on their side, such as {turned[0]}{ON_ITS_SIDE}"
    return [Finding(text, fatal=True)]


def given_files(preflight: Preflight, files: dict[str, Path]) -> list[str]:
    """The IDs whose file is there, and is not an earlier step's to write anew."""
    return [image_id for image_id, file in files.items() if not preflight.is_to_come(file) and file.is_file()]


def labels_of(data: DataSet) -> Labels | None:
    try:
        return data.labels.__getitem__
    except InputError:  # a label file that cannot be used; told by those who need it
        return None


def tell(preflight: Preflight, findings: Sequence[Finding]) -> None:
    """What cannot be right is a problem, what may be meant a warning."""
    for finding in findings:
        (preflight.problem if finding.fatal else preflight.warning)(finding.text)
