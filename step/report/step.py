"""One page about a run: its training curves, its scores, and a gallery of its images from best to worst."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from misc.config import Config
from misc.errors import InputError
from misc.evaluation.results_file import Evaluation, read_evaluation
from misc.files import remove, remove_abandoned, replacing
from misc.formats.quick_look import file_fault, image_fault
from misc.report.charts import (
    DPI,
    chain_figure,
    confusion_figure,
    iou_figure,
    save_figure,
    threshold_figure,
    training_figure,
)
from misc.report.page import Chart, Page, chart, percent, render
from misc.run.distributed import is_first
from misc.run.parallel import parallel_map
from misc.run.plan import Input, Plan, Tables
from misc.run.preflight import Preflight
from misc.train.history import history_path, read_history, scalars
from step.report.gallery import candidates, card_of, choose
from step.report.pictures import has_second_stage, made_paths
from step.shared import paths
from step.shared.data import DataSet, Labelled
from step.shared.inputs import ImageList, Images, Labels
from voc12.image_set import merged

CONFUSIONS = {
    "CAM": "confusion_cam.png",
    "mask": "confusion_mask.png",
    "mask + CRF": "confusion_mask_crf.png",
    "network": "confusion_network.png",
    "network + CRF": "confusion_network_crf.png",
}
TRAININGS = ("train_cam.png", "train_sbe_boundary.png", "train_deeplab.png")
FIGURES = (*TRAININGS, "chain.png", "thresholds.png", "iou.png", *CONFUSIONS.values())

log = logging.getLogger(__name__)


def checkpoints(args: Config) -> dict[str, Path]:
    """By step, the checkpoints whose histories are shown."""
    second = {"train_deeplab": Path(args.deeplab_weights_name)} if has_second_stage(args) else {}
    return {"train_cam": Path(args.cam_weights_name), "train_sbe_boundary": Path(args.bes_weights_name), **second}


def evaluation_files(args: Config) -> dict[str, Path]:
    return {
        "eval_cam": paths.cam_scores_json(args),
        "eval_sem_seg": paths.mask_scores_json(args),
        **({"eval_deeplab_seg": paths.prediction_scores_json(args)} if has_second_stage(args) else {}),
    }


def image_lists(args: Config) -> list[ImageList]:
    """The lists whose images may enter the gallery."""
    second = [ImageList(args.deeplab_infer_list_or_default)] if has_second_stage(args) else []
    return [ImageList(args.infer_list_or_default), *second]


def labelled_images(args: Config, data: DataSet) -> list[Labelled]:
    """Those images with their labels; one that is only predicted, as VOC's test images, may have none."""
    images = []
    for number, listed in enumerate(image_lists(args)):
        for image_id in listed.ids:
            try:
                images += data.labelled([image_id])
            except InputError:
                if number == 0:
                    raise
                images.append(Labelled(image_id, np.zeros(0, np.int64)))
    return list({image.image_id: image for image in images}.values())


def plan(args: Config) -> Plan:
    data, lists = DataSet(args), image_lists(args)
    ids = merged(*(images.ids for images in lists))
    return Plan(
        ids=ids,
        reads=[*lists, Images(data, ids), Labels(data, lists[0].ids), Material(args, data, ids)],
        makes=Tables([Path(args.report_dir) / name for name in ("index.html", *FIGURES)]),
    )


@dataclass(frozen=True)
class Material(Input):
    """Whatever other steps have made. What is not there leaves a gap, but something has to be there."""

    args: Config
    data: DataSet
    ids: list[str]

    def look(self, preflight: Preflight) -> None:
        args, root = self.args, self.data.root
        self._look_at_class(preflight)
        made = [path for image_id in self.ids for path in made_paths(image_id, args).values()]
        given = [path for image_id in self.ids for path in (root.truth(image_id), root.saliency(image_id))]
        preflight.reads("files of the gallery", filter(Path.is_file, made), probe=file_fault)
        preflight.reads("ground truth or saliency maps", filter(Path.is_file, given), probe=image_fault)
        material = [path for path in made if path.is_file() or preflight.is_to_come(path)]
        for checkpoint in checkpoints(args).values():  # a training writes its history as it goes
            material += self._look_at_result(history_path(checkpoint), checkpoint, read_history, preflight)
        for path in evaluation_files(args).values():
            material += self._look_at_result(path, path, read_evaluation, preflight)
        if not material:
            preflight.problem(
                "report: there is nothing to report on: no training history, no evaluation, nothing that was made of "
                f"the images of {args.infer_list_or_default}: run other steps first, or set their folders as they were "
                "then"
            )

    def _look_at_class(self, preflight: Preflight) -> None:
        if self.ids and self.args.report_class is not None:
            try:
                images = labelled_images(self.args, self.data)
            except InputError:  # Labels reports it
                return
            preflight.attempt(lambda: candidates(images, self.args, self.data))

    @staticmethod
    def _look_at_result(path: Path, product: Path, read: Callable[[Path], object], preflight: Preflight) -> list[Path]:
        """A file to be shown, if it is there or comes about with `product`, which an earlier step is to make."""
        if preflight.is_to_come(product):
            return [path]
        if not path.is_file():
            return []
        preflight.mentions(path)
        preflight.attempt(partial(read, path))
        return [path]


def make(args: Config, ids: list[str]) -> str | None:
    """Write report_dir/index.html and the figures beside it; returns where, for the end of the run."""
    if not is_first():
        return None
    data = DataSet(args)
    images = labelled_images(args, data)
    folder = Path(args.report_dir)
    remove_abandoned(folder)
    charts, gaps = training_charts(args, folder)
    evaluations = {}
    for step, path in evaluation_files(args).items():
        if path.is_file():
            evaluations.update(read_evaluation(path))
        else:
            gaps.append(f"Scores of {step}: there is no {path}. Run {step}; it needs ground truth.")
    score_charts, score_gaps = evaluation_charts(evaluations, folder)
    for name in set(FIGURES) - {shown.file for shown in (*charts, *score_charts)}:
        remove(folder / name)  # an earlier report's, of what is gone
    gallery = choose(candidates(images, args, data), args, data)
    card = partial(card_of, args=args, data=data)
    page = Page(
        facts={"method": args.method.upper(), "images": args.infer_list_or_default, "data": args.voc12_root},
        gaps=[*gaps, *score_gaps],
        evaluations=evaluations,
        charts=[*charts, *score_charts],
        choice=gallery.words,
        cards=list(parallel_map(card, gallery.shown, workers=args.workers, desc="report")),
        ranked_by=gallery.ranked_by,
        class_names=data.class_names,
    )
    path = folder / "index.html"
    with replacing(path) as temporary:
        temporary.write_text(render(page), encoding="utf-8")
    log.info("report of %d images, %.1f MB: %s", len(gallery.shown), path.stat().st_size / 1e6, path)
    return str(path)


def training_charts(args: Config, folder: Path) -> tuple[list[Chart], list[str]]:
    """The curves of the networks, and what is missing of them."""
    charts, gaps = [], []
    for step, checkpoint in checkpoints(args).items():
        path = history_path(checkpoint)
        records = read_history(path) if path.is_file() else []
        if not records:
            gaps.append(f"Training curves of {step}: there is no history at {path}. Run {step}.")
            continue
        losses = [named["loss"] for named in map(scalars, records) if "loss" in named]
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
        gaps.append("Threshold curves: eval_cam draws them, eval_sem_seg where make_sem_seg ran with --save_scores.")
    counted = {kind: evaluation for kind, evaluation in evaluations.items() if evaluation.iou_by_name}
    gaps += [f"Figures of {kind}: not a single pixel was counted." for kind in evaluations if kind not in counted]
    if len(counted) > 1:
        words = ", ".join(f"{kind} {percent(found.scores.miou)}" for kind, found in counted.items())
        alt = f"Bars of mIoU in percent along the chain: {words}."
        charts.append(_saved("mIoU along the chain", alt, folder / "chain.png", chain_figure(counted)))
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


def _saved(title: str, alt: str, path: Path, figure: Figure) -> Chart:
    return chart(title, alt, path.name, save_figure(figure, path), dpi=DPI)
