"""Which images of a run are worth a look: the best, the worst, and some between."""

from functools import partial
from typing import NamedTuple

from misc.config import Config
from misc.errors import InputError
from misc.report.page import Card, thumbnail
from misc.report.panels import shrink
from misc.run.parallel import parallel_map
from step.report.pictures import image_iou, made_paths, panels_of, scored_kinds
from step.shared.data import DataSet, Labelled

THUMBNAIL = 320  # long side of the pictures, pixels; a page of 60 images is 2 to 10 MB large


class Gallery(NamedTuple):
    """The images to show.

    shown       best first where they are ranked, else in the order of the list
    ranked_by   the kind of prediction whose IoU ranks them, or None
    words       how they were chosen
    """

    shown: list[Labelled]
    ranked_by: str | None
    words: str


def candidates(images: list[Labelled], args: Config, data: DataSet) -> list[Labelled]:
    """The images that may enter the gallery: all, or those that show report_class.

    Raises    InputError if there is no such class, or no image of it.
    """
    if args.report_class is None:
        return images
    if args.report_class not in data.class_names:
        raise InputError(f"report_class: {args.report_class!r} is not among the classes of {args.class_names}")
    wanted = data.class_names.index(args.report_class)
    of_class = [image for image in images if wanted in image.labels]
    if not of_class:
        raise InputError(f"report_class: no image of {args.infer_list_or_default} shows {args.report_class!r}")
    return of_class


def choose(images: list[Labelled], args: Config, data: DataSet) -> Gallery:
    """At most report_images of the images something has been made of, ranked by the last prediction that has scores."""
    what = "images" if args.report_class is None else f"images of class {args.report_class}"
    made = [image for image in images if any(path.is_file() for path in made_paths(image.image_id, args).values())]
    if not made:
        words = f"The gallery is empty: nothing has been made of the {len(images)} {what} yet. Run make_cam."
        return Gallery([], None, words)
    for kind in reversed(scored_kinds(args)):
        ranked = rank(made, kind, args, data)
        if ranked:
            places = best_worst_and_between(len(ranked), args.report_images)
            words = (
                f"{len(places)} of {len(ranked)} {what} with ground truth, by the IoU of {kind}: "
                f"{words_of_choice(len(ranked), args.report_images)}. "
                "IoU in percent, the mean over the labels in the prediction or in the ground truth of the image."
            )
            return Gallery([ranked[place] for place in places], kind, words)
    places = evenly(0, len(made), min(len(made), args.report_images))
    words = f"{len(places)} of {len(made)} {what}, spread evenly over the list; no ground truth, so no scores."
    return Gallery([made[place] for place in places], None, words)


def rank(images: list[Labelled], kind: str, args: Config, data: DataSet) -> list[Labelled]:
    """Those with a prediction of this kind and with ground truth, from the highest to the lowest IoU."""
    scored = [image for image in images if made_paths(image.image_id, args)[kind].is_file()]
    score = partial(image_iou, kind=kind, args=args, data=data)
    iou = parallel_map(score, scored, workers=args.workers, desc=f"IoU of {kind}")
    pairs = [(value, image) for value, image in zip(iou, scored, strict=True) if value is not None]
    return [image for _, image in sorted(pairs, key=lambda pair: (-pair[0], pair[1].image_id))]


def best_worst_and_between(n: int, most: int) -> list[int]:
    """Places in a ranking of n, at most `most`, in order: a third from either end, the rest spread between.

    Of 2 the best and the worst, of 1 the middle.
    """
    if n <= most:
        return list(range(n))
    third = most // 3
    return [*range(third), *evenly(third, n - third, most - 2 * third), *range(n - third, n)]


def words_of_choice(n: int, most: int) -> str:
    """What `best_worst_and_between` chooses."""
    if n <= most:
        return "all"
    if most < 3:
        return ("the one in the middle", "the best and the worst")[most - 1]
    third = most // 3
    return f"the {third} best, the {third} worst and {most - 2 * third} spread between"


def evenly(first: int, end: int, count: int) -> list[int]:
    """`count` places from `first` to before `end`, both ends included where there are two or more."""
    if count == 1:
        return [(first + end - 1) // 2]
    return [first + place * (end - first - 1) // (count - 1) for place in range(count)]


def card_of(image: Labelled, *, args: Config, data: DataSet) -> Card:
    """One image's entry in the gallery."""
    return Card(
        image.image_id,
        [int(key) + 1 for key in image.labels],
        {kind: image_iou(image, kind, args=args, data=data) for kind in scored_kinds(args)},
        [thumbnail(shrink(panel, THUMBNAIL)) for panel in panels_of(image, args=args, data=data)],
    )
