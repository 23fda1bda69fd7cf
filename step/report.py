"""One page about a run: its training curves, its scores, and a gallery of its images from best to worst."""

import logging
from collections.abc import Callable
from functools import partial
from itertools import chain
from pathlib import Path

from matplotlib.figure import Figure

from misc.charts import (
    DPI,
    confusion_figure,
    iou_figure,
    save_figure,
    threshold_figure,
    training_figure,
)
from misc.config import Config
from misc.distributed import is_first
from misc.errors import InputError
from misc.eval_file import Evaluation, read_evaluation
from misc.files import remove, replacing
from misc.history import history_path, read_history
from misc.page import Card, Chart, Page, chart, percent, render, thumbnail
from misc.panels import shrunk
from misc.parallel import parallel_map
from misc.preflight import Preflight
from step.common import DataSet
from step.pictures import SCORED, image_iou, made_paths, panels_of

THUMBNAIL = 320  # long side of the gallery's pictures, pixels; a page of 60 images is 5 to 10 MB large
CONFUSIONS = {"CAM": "confusion_cam.png", "mask": "confusion_mask.png", "mask + CRF": "confusion_mask_crf.png"}
FIGURES = ("train_cam.png", "train_sbe_boundary.png", "thresholds.png", "iou.png", *CONFUSIONS.values())

log = logging.getLogger(__name__)


def checkpoints(args: Config) -> dict[str, Path]:
    """By step, the checkpoints whose histories are shown."""
    return {"train_cam": Path(args.cam_weights_name), "train_sbe_boundary": Path(args.bes_weights_name)}


def evaluation_files(args: Config) -> dict[str, Path]:
    return {
        "eval_cam": Path(args.cam_out_dir) / "eval_cam.json",
        "eval_sem_seg": Path(args.sem_seg_out_dir) / "eval_sem_seg.json",
    }


def check(args: Config, preflight: Preflight) -> None:
    data = DataSet(args)
    ids = data.ids(args.infer_list_or_default, preflight)
    preflight.labels(ids, data.labels.__getitem__)
    preflight.attempt(partial(candidates, ids, args, data))
    # a training that is to be done writes its history as it goes
    sources: list[tuple[Path, Path, Callable[[Path], object]]] = [
        (history_path(checkpoint), checkpoint, read_history) for checkpoint in checkpoints(args).values()
    ]
    sources += [(path, path, read_evaluation) for path in evaluation_files(args).values()]
    for path, product, read in sources:
        if path.is_file() and not preflight.promised(product):
            preflight.mentions(path)
            preflight.attempt(partial(read, path))
    made = [(path, path) for image_id in ids for path in made_paths(image_id, args).values()]
    files = chain(((path, product) for path, product, _ in sources), made)
    if not any(preflight.promised(product) or path.is_file() for path, product in files):
        preflight.problem(
            "report: there is nothing to report on: no training history, no evaluation, nothing that was made of the "
            f"images of {args.infer_list_or_default}: run other steps first, or set their folders as they were then"
        )
    preflight.writes(Path(args.report_dir) / name for name in ("index.html", *FIGURES))


def run(args: Config) -> None:
    """Write report_dir/index.html and the figures beside it."""
    if not is_first():
        return
    data = DataSet(args)
    ids = candidates(data.ids(args.infer_list_or_default), args, data)
    folder = Path(args.report_dir)
    charts, gaps = training_charts(args, folder)
    evaluations = {}
    for step, path in evaluation_files(args).items():
        if path.is_file():
            evaluations.update(read_evaluation(path))
        else:
            gaps.append(f"Scores of {step}: there is no {path}. Run {step}.")
    score_charts, score_gaps = evaluation_charts(evaluations, folder)
    for name in set(FIGURES) - {shown.file for shown in (*charts, *score_charts)}:
        remove(folder / name)  # an earlier report's, of what is gone
    chosen, ranked_by, choice = choose(ids, args, data)
    card = partial(card_of, args=args, data=data)
    page = Page(
        facts={"method": args.method.upper(), "images": args.infer_list_or_default, "data": args.voc12_root},
        gaps=[*gaps, *score_gaps],
        evaluations=evaluations,
        charts=[*charts, *score_charts],
        choice=choice,
        cards=list(parallel_map(card, chosen, workers=args.workers, desc="report")),
        ranked_by=ranked_by,
        class_names=data.class_names,
    )
    path = folder / "index.html"
    with replacing(path) as temporary:
        temporary.write_text(render(page), encoding="utf-8")
    log.info("report of %d images, %.1f MB: %s", len(chosen), path.stat().st_size / 1e6, path)


def training_charts(args: Config, folder: Path) -> tuple[list[Chart], list[str]]:
    """The curves of both networks, and what is missing of them."""
    charts, gaps = [], []
    for step, checkpoint in checkpoints(args).items():
        path = history_path(checkpoint)
        records = read_history(path) if path.is_file() else []
        if not records:
            gaps.append(f"Training curves of {step}: there is no history at {path}. Run {step}.")
            continue
        losses = [record["loss"] for record in records if record.get("loss") is not None]
        text = f", from {losses[0]:.3f} to {losses[-1]:.3f}" if losses else ""
        alt = f"Loss of {step} over {records[-1]['step']} steps{text}; learning rate and images a second below it."
        charts.append(_saved(f"Training: {step}", alt, folder / f"{step}.png", training_figure(records)))
    return charts, gaps


def evaluation_charts(evaluations: dict[str, Evaluation], folder: Path) -> tuple[list[Chart], list[str]]:
    """What the evaluations say as figures, and what they do not say."""
    charts: list[Chart] = []
    gaps: list[str] = []
    if not evaluations:
        return charts, gaps
    if any(evaluation.sweep for evaluation in evaluations.values()):
        title = "mIoU over background thresholds"
        alt = f"{title}, with the highest value of each curve and the set threshold marked."
        charts.append(_saved(title, alt, folder / "thresholds.png", threshold_figure(evaluations)))
    else:
        gaps.append("Threshold curves: the evaluations tried no other thresholds.")
    counted = {kind: evaluation for kind, evaluation in evaluations.items() if evaluation.iou_by_name}
    gaps += [f"Figures of {kind}: not a single pixel was counted." for kind in evaluations if kind not in counted]
    if counted:
        scores = ", ".join(f"{kind} {percent(found.scores.miou)}" for kind, found in counted.items())
        alt = f"Bars of IoU per class; mIoU in percent: {scores}. The table above holds the figures."
        charts.append(_saved("IoU of each class", alt, folder / "iou.png", iou_figure(counted)))
    for kind, file in CONFUSIONS.items():
        if kind in counted:
            title = f"Confusion matrix: {kind}"
            alt = f"{title}, each row in percent of the pixels that are of its class."
            charts.append(_saved(title, alt, folder / file, confusion_figure(counted[kind])))
    return charts, gaps


def candidates(ids: list[str], args: Config, data: DataSet) -> list[str]:
    """The images that may enter the gallery: all, or those that show report_class.

    Raises    InputError if there is no such class, or no image of it.
    """
    if args.report_class is None:
        return ids
    if args.report_class not in data.class_names:
        raise InputError(f"report_class: {args.report_class!r} is not among the classes of {args.class_names}")
    wanted = data.class_names.index(args.report_class)
    shown = [image_id for image_id in ids if wanted in data.labels[image_id]]
    if not shown:
        raise InputError(f"report_class: no image of {args.infer_list_or_default} shows {args.report_class!r}")
    return shown


def choose(ids: list[str], args: Config, data: DataSet) -> tuple[list[str], str | None, str]:
    """The images of the gallery, the kind of prediction they are ranked by, and how they were chosen, in words.

    Ranked images come best first; without scores they keep their order, spread evenly over the list.
    """
    what = "images" if args.report_class is None else f"images of class {args.report_class}"
    made = [image_id for image_id in ids if any(path.is_file() for path in made_paths(image_id, args).values())]
    for kind in reversed(SCORED):
        there = [i for i in made if made_paths(i, args)[kind].is_file() and data.root.truth(i).is_file()]
        score = partial(image_iou, kind=kind, args=args, data=data)
        iou = dict(zip(there, parallel_map(score, there, workers=args.workers, desc="report"), strict=True))
        ranked = sorted((i for i in there if iou[i] is not None), key=lambda i: (-(iou[i] or 0), i))
        if ranked:
            chosen = [ranked[place] for place in best_worst_and_between(len(ranked), args.report_images)]
            how = (
                "all of them" if len(chosen) == len(ranked) else "a third the best, a third the worst, the rest between"
            )
            return chosen, kind, (
                f"{len(chosen)} of {len(ranked)} {what} with ground truth, by the IoU of {kind}: {how}. "
                "IoU in percent, the mean over the labels in the prediction or in the ground truth of the image."
            )  # fmt: skip
    chosen = [made[place] for place in evenly(0, len(made), min(len(made), args.report_images))]
    if not chosen:
        return [], None, f"The gallery is empty: nothing has been made of the {len(ids)} {what} yet. Run make_cam."
    return (
        chosen,
        None,
        f"{len(chosen)} of {len(made)} {what}, spread evenly over the list; no scores: no ground truth.",
    )


def best_worst_and_between(n: int, most: int) -> list[int]:
    """Places in a ranking of n, at most `most`, in order: a third from either end, the rest spread between."""
    if n <= most:
        return list(range(n))
    third = most // 3
    return [*range(third), *evenly(third, n - third, most - 2 * third), *range(n - third, n)]


def evenly(first: int, end: int, count: int) -> list[int]:
    """`count` places from `first` to before `end`, both ends included where there are two or more."""
    if count == 1:
        return [(first + end - 1) // 2]
    return [first + place * (end - first - 1) // (count - 1) for place in range(count)]


def card_of(image_id: str, *, args: Config, data: DataSet) -> Card:
    """One image's entry in the gallery."""
    return Card(
        image_id,
        [int(key) + 1 for key in data.labels[image_id]],
        {kind: image_iou(image_id, kind, args=args, data=data) for kind in SCORED},
        [thumbnail(shrunk(panel, THUMBNAIL)) for panel in panels_of(image_id, args=args, data=data)],
    )


def _saved(title: str, alt: str, path: Path, figure: Figure) -> Chart:
    return chart(title, alt, path.name, save_figure(figure, path), dpi=DPI)
