"""What is read of ground truth and saliency maps before the first step: their values, not only their headers."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from misc.cores import available_cores
from misc.errors import InputError
from misc.formats.images import (
    ON_ITS_SIDE,
    highest_of_16_bits,
    image_size,
    is_turned_unseen,
    on_its_side,
    software_of,
)
from misc.run.preflight import Preflight
from step.shared.data import DataSet
from voc12.contradictions import Finding, Source, label_findings
from voc12.first_look import MASKS_LOOKED_AT, Labels, Masks, look_at_masks, see_mask, spread
from voc12.saliency_look import look_at_saliency

SOFTWARE = "make_saliency"  # noted in the maps that this step made
IMAGES_LOOKED_AT, DECODED = 100, 10  # for the range of 16 bits: headers, and images of 16 bits
TWELVE_BITS = 4096


def look_at_range(preflight: Preflight, paths: Sequence[Path]) -> None:
    """Warn of images of 16 bits that use 12 of them, as cameras and scanners write them: they come out almost black."""
    highest: dict[Path, int] = {}
    for path in spread(paths, IMAGES_LOOKED_AT):
        with suppress(InputError):  # what is wrong with files is told elsewhere
            value = highest_of_16_bits(path) if len(highest) < DECODED else None
            if value is not None:
                highest[path] = value
    if highest and max(highest.values()) < TWELVE_BITS:
        preflight.warning(
            f"{len(highest)} images of 16 bits looked at, such as {next(iter(highest))}, hold nothing above "
            f"{max(highest.values())}: 65535 is white, so these are almost black: scale their values to 65535"
        )


def look_at_truth(preflight: Preflight, data: DataSet, ids: Sequence[str]) -> None:
    """Look at the masks of the images that have one, and compare them with the image labels, where there are any."""
    given = given_files(preflight, {image_id: data.root.truth(image_id) for image_id in ids})
    masks = masks_of(data, given, data.root.truth)
    if masks is None:
        return

    def look() -> None:
        preflight.notice(f"ground truth: {min(len(given), MASKS_LOOKED_AT)} of {len(ids)} masks looked at")
        tell(preflight, look_at_masks(masks, workers=available_cores()))
        tell(preflight, turned_unseen(data, spread(given, MASKS_LOOKED_AT), "masks"))

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
        sample = spread(given, MASKS_LOOKED_AT)
        unseen = turned_unseen(data, sample, "saliency maps", lambda i: software_of(root.saliency(i)) == SOFTWARE)
        tell(preflight, [*findings, *turned_maps(data, sample), *unseen])

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


def turned_unseen(
    data: DataSet, ids: Sequence[str], maps: str, is_own: Callable[[str], bool] = lambda image_id: False
) -> list[Finding]:
    """Images that EXIF turns, of which maps or masks of a program that does not turn have the right size.

    is_own    whether the map of an image was made here, and so is turned alike
    """
    turned = []
    for image_id in ids:
        with suppress(InputError):
            if is_turned_unseen(data.root.image(image_id)) and not is_own(image_id):
                turned.append(data.root.image(image_id))
    if not turned:
        return []
    text = (
        f"{len(turned)} of {len(ids)} images looked at, such as {turned[0]}, are turned or mirrored by EXIF, which "
        f"their size does not tell: their {maps} must be turned alike (EXIF orientation in docs/data.md)"
    )
    return [Finding(text, fatal=False)]


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
