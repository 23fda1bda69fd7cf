"""The figures of the report: curves, bars, matrices, and one image's row, drawn without a display."""

import io
from collections.abc import Iterable, Mapping
from itertools import cycle
from pathlib import Path

import numpy as np
from matplotlib import style
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from misc.evaluation.results_file import Evaluation
from misc.files import replacing
from misc.report.panels import BOUNDARY_COLOURS, BOUNDARY_NAMES, Panel, class_colour
from misc.train.history import Record, scalars

DPI = 144
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # Okabe and Ito
STYLE = {
    "font.family": ["DejaVu Sans"],  # comes with matplotlib: the same figure everywhere
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "text.parse_math": False,  # a class may be called "$"
}
styled = style.context(["default", STYLE])  # whatever the user's matplotlibrc says

SMOOTHING = 50  # a loss curve's mean reaches over this fraction of its points, to both sides
FEW = 20  # points of a curve that are marked
MOST_CLASSES = 40  # in a confusion matrix
MOST_WRITTEN = 24  # classes of a matrix whose cells hold their figures


@styled
def save_figure(figure: Figure, path: Path) -> bytes:
    """Write a figure as PNG and return its bytes, the same for the same figure."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, bbox_inches="tight", metadata={"Software": None})
    with replacing(path) as temporary:
        temporary.write_bytes(buffer.getvalue())
    return buffer.getvalue()


@styled
def training_figure(records: list[Record]) -> Figure:
    """Loss terms, learning rates and images a second over the steps of a training; its epochs as lines."""
    figure = Figure((5, 4.8), layout="constrained")
    loss, rate, speed = figure.subplots(3, 1, sharex=True, height_ratios=(3, 1.2, 1.2))
    curves = _curves(records)
    rates = [name for name in curves if name.split("/")[0] == "lr"]
    validation = [name for name in curves if name.startswith("validation_")]
    terms = [name for name in curves if name not in (*rates, *validation, "images_per_second")]
    for name, colour in zip(terms, cycle(COLOURS), strict=False):
        steps, values = curves[name]
        loss.plot(steps, values, color=colour, alpha=0.3, linewidth=1)
        mean = running_mean(values, len(values) // SMOOTHING)
        loss.plot(steps, mean, _marker(values), color=colour, label=name)
    shares = loss if validation in ([], ["validation_loss"]) else loss.twinx()
    for name, colour in zip(validation, ("black", "dimgrey"), strict=False):
        label = name.replace("_", " ")
        shares.plot(*curves[name], "o--", color=colour, markersize=4, linewidth=1, label=label)
    for index, (name, colour) in enumerate(zip(rates, cycle(COLOURS), strict=False), start=1):
        rate.plot(*curves[name], _marker(curves[name][1]), color=colour, label=f"group {index}")
    if "images_per_second" in curves:
        steps, values = curves["images_per_second"]
        speed.plot(steps, values, _marker(values), color="dimgrey", linewidth=1)
        speed.set_ylim(bottom=0)
    loss.set_ylabel("loss")
    rate.set_ylabel("learning rate")
    speed.set(xlabel="step", ylabel="images/s")
    speed.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if shares is not loss:  # mIoU and accuracy have an axis of their own
        shares.set_ylim(0, 1)
        shares.grid(visible=False)
        shares.legend()
    figure.align_ylabels()
    for axes in (loss, rate):
        if len(axes.lines) > 1:
            axes.legend()
    for axes in (loss, rate, speed):
        for step in _epoch_ends(records):
            axes.axvline(step, color="black", alpha=0.15, linewidth=0.8)
    return figure


def running_mean(values: Iterable[float], reach: int) -> np.ndarray:
    """The mean of each value and of the `reach` values before and after it, as far as there are any; same length."""
    sums = np.concatenate([[0.0], np.cumsum(list(values))])
    places = np.arange(len(sums) - 1)
    first, end = np.maximum(places - reach, 0), np.minimum(places + reach + 1, len(places))
    return (sums[end] - sums[first]) / (end - first)


def _marker(values: list[float]) -> str:
    """How a curve is drawn: one of few points with these marked, since a single one makes no line."""
    return ".-" if len(values) <= FEW else "-"


def _curves(records: list[Record]) -> dict[str, tuple[list[int], list[float]]]:
    """Steps and values of each named value, in the order in which the names first occur."""
    curves: dict[str, tuple[list[int], list[float]]] = {}
    for record in records:
        for name, value in scalars(record).items():
            steps, values = curves.setdefault(name, ([], []))
            steps.append(record["step"])
            values.append(value)
    return curves


def _epoch_ends(records: list[Record]) -> list[int]:
    """The last step seen of each epoch but the last."""
    last = {record["epoch"]: record["step"] for record in records if isinstance(record.get("epoch"), int)}
    return list(last.values())[:-1]


@styled
def threshold_figure(evaluations: Mapping[str, Evaluation]) -> Figure:
    """mIoU over background thresholds for all that was swept; the set threshold and the best one marked."""
    figure = Figure((5, 3.6), layout="constrained")
    axes = figure.subplots()
    kinds_at: dict[float, dict[str, str]] = {}  # by the threshold that is set, the kinds and their colours
    swept = [(kind, found) for kind, found in evaluations.items() if found.sweep]
    for (kind, evaluation), colour in zip(swept, cycle(COLOURS), strict=False):
        for (images, curve), dashes in zip(evaluation.sweep.items(), ("-", "--"), strict=False):
            axes.plot(curve.thresholds, 100 * curve.miou, dashes, color=colour, label=f"{kind}, {images}")
            if not np.isnan(curve.miou).all():
                best = int(np.nanargmax(curve.miou))
                x, y = curve.thresholds[best], 100 * curve.miou[best]
                axes.plot(x, y, "o", color=colour)
                axes.annotate(f"{y:.1f} at {x:.2f}", (x, y), (0, 6), textcoords="offset points", ha="center")
        if evaluation.threshold is not None:
            kinds_at.setdefault(evaluation.threshold, {})[kind] = colour
    for threshold, kinds in kinds_at.items():
        colour = next(iter(kinds.values())) if len(kinds) == 1 else "dimgrey"
        whose = f" for {', '.join(kinds)}" if len(kinds_at) > 1 else ""
        axes.axvline(threshold, color=colour, linestyle=":", label=f"set{whose}: {threshold:g}")
    axes.margins(y=0.15)
    axes.set(xlabel="background threshold", ylabel="mIoU, %")
    axes.legend()
    return figure


@styled
def iou_figure(evaluations: Mapping[str, Evaluation]) -> Figure:
    """Bars of IoU per class, in the order of the classes, a colour for each kind; classes that occur."""
    shares = {kind: found.iou_by_name for kind, found in evaluations.items()}
    names = list(dict.fromkeys(name for by_name in shares.values() for name in by_name))
    height = 0.8 / len(shares)
    figure = Figure((5, 0.9 + (0.15 * len(shares) + 0.08) * len(names)), layout="constrained")
    axes = figure.subplots()
    for index, (kind, by_name) in enumerate(shares.items()):
        offset = (index - (len(shares) - 1) / 2) * height
        places = [place + offset for place, name in enumerate(names) if name in by_name]
        values = [100 * by_name[name] for name in names if name in by_name]
        label = f"{kind}: {100 * evaluations[kind].scores.miou:.1f}"
        bars = axes.barh(places, values, height, color=COLOURS[index % len(COLOURS)], label=label)
        axes.bar_label(bars, fmt="%.0f", padding=2, fontsize=7)
    axes.set_yticks(range(len(names)), [_drawable(name, f"#{number}") for number, name in enumerate(names)])
    axes.set(xlabel="IoU, %", xlim=(0, 100), ylim=(len(names) - 0.4, -0.6))
    axes.grid(axis="y", visible=False)
    figure.legend(loc="outside upper center", ncols=len(shares), title="mIoU, %")
    return figure


@styled
def chain_figure(evaluations: Mapping[str, Evaluation]) -> Figure:
    """A bar of the mIoU of each kind of prediction, in the order in which the steps make them."""
    figure = Figure((5, 0.6 + 0.35 * len(evaluations)), layout="constrained")
    axes = figure.subplots()
    values = [100 * found.scores.miou for found in evaluations.values()]
    colours = [COLOURS[index % len(COLOURS)] for index in range(len(values))]
    axes.bar_label(axes.barh(range(len(values)), values, 0.7, color=colours), fmt="%.1f", padding=2)
    axes.set_yticks(range(len(values)), list(evaluations))
    axes.set(xlabel="mIoU, %", xlim=(0, 100), ylim=(len(values) - 0.4, -0.6))
    axes.grid(axis="y", visible=False)
    return figure


@styled
def confusion_figure(evaluation: Evaluation) -> Figure:
    """The confusion matrix, rows true, each row in percent of its pixels.

    Labels that never occur are left out; of many the most frequent MOST_CLASSES are shown.
    """
    shown = shown_labels(evaluation)
    counts = evaluation.scores.confusion[np.ix_(shown, shown)]
    with np.errstate(invalid="ignore"):  # a label that is only predicted has an empty row
        shares = 100 * counts / evaluation.scores.truth[shown][:, None]
    names = [_drawable(evaluation.names[label], f"#{label}") for label in shown]
    side = 1.6 + 0.3 * len(shown)
    figure = Figure((max(side, 3.6), max(side, 3.6) - 0.3), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    axes.grid(visible=False)
    axes.set_xticks(range(len(shown)), names, rotation=90)
    axes.set_yticks(range(len(shown)), names)
    axes.set(xlabel="predicted", ylabel="ground truth")
    if len(shown) <= MOST_WRITTEN:
        for (row, column), share in np.ndenumerate(shares):
            if share >= 0.5:
                axes.text(column, row, f"{share:.0f}", ha="center", va="center", fontsize=7,
                          color="white" if share > 60 else "black")  # fmt: skip
    figure.colorbar(image, ax=axes, label="% of the class's pixels", shrink=0.7)
    return figure


def shown_labels(evaluation: Evaluation) -> list[int]:
    """The labels of a confusion matrix's figure, in order."""
    seen = np.flatnonzero(evaluation.scores.union)
    often = seen[np.argsort(-evaluation.scores.truth[seen], kind="stable")][:MOST_CLASSES]
    return [int(label) for label in np.sort(often)]


@styled
def row_figure(title: str, panels: list[Panel], captions: list[str], classes: dict[int, str]) -> Figure:
    """One image's panels side by side, with legends of the classes' colours and of the boundary labels.

    captions  a line for each panel
    classes   the classes shown, by their numbers in masks
    """
    figure = Figure((1.9 * len(panels), 2.9), layout="constrained")
    for axes, panel, caption in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, captions, strict=True):
        axes.set_title(caption)
        axes.set_axis_off()
        if panel.picture is None:
            axes.text(0.5, 0.5, panel.missing.replace(": ", ":\n"), ha="center", va="center", fontsize=8)
        else:
            axes.imshow(panel.picture, interpolation="nearest" if panel.flat else "antialiased")
    figure.suptitle(_drawable(title, "an image"))
    colours = [(_drawable(name, f"#{number}"), class_colour(number)) for number, name in classes.items()]
    colours += [(BOUNDARY_NAMES[label], colour) for label, colour in BOUNDARY_COLOURS.items()]
    patches = [Patch(facecolor=_hex(colour), edgecolor="grey", label=name) for name, colour in colours]
    figure.legend(handles=patches, loc="outside lower center", ncols=8)
    return figure


def _drawable(name: str, otherwise: str) -> str:
    """The name, or `otherwise` if the font lacks one of its characters."""
    font = get_font(findfont("DejaVu Sans"))
    return name if all(font.get_char_index(ord(character)) for character in name) else otherwise


def _hex(colour: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)
