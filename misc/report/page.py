"""The report as one HTML page that needs nothing but itself: style, script and pictures are inside."""

import base64
import io
from pathlib import Path
from typing import NamedTuple

import jinja2
from PIL import Image

from misc.evaluation.results_file import Evaluation
from misc.evaluation.tables import COLUMNS, summary
from misc.report.panels import BOUNDARY_COLOURS, BOUNDARY_NAMES, Panel, class_colour

TEMPLATES = Path(__file__).parent / "templates"
JPEG_QUALITY = 85


class Chart(NamedTuple):
    """A figure on the page.

    alt       what it shows, for those who do not see it
    uri       its PNG as a data URI
    size      width and height in CSS pixels
    file      name of the PNG beside the page
    """

    title: str
    alt: str
    uri: str
    size: tuple[int, int]
    file: str


class Thumbnail(NamedTuple):
    """A panel on the page; without `uri` it says what is missing."""

    name: str
    uri: str | None
    missing: str
    flat: bool
    size: tuple[int, int]


class Card(NamedTuple):
    """One image of the gallery.

    classes   its classes' numbers in masks
    iou       for each scored kind of prediction its IoU, a share, or None
    """

    image_id: str
    classes: list[int]
    iou: dict[str, float | None]
    panels: list[Thumbnail]


class Page(NamedTuple):
    """All that the page says.

    facts       what was reported on, by name
    gaps        what is missing, and how it would come to be there
    evaluations by kind of prediction
    choice      how the images of the gallery were chosen
    cards       in the order in which they are first seen
    ranked_by   the kind of prediction whose IoU makes that order, best first; None: the order of the list
    class_names the C classes
    """

    facts: dict[str, str]
    gaps: list[str]
    evaluations: dict[str, Evaluation]
    charts: list[Chart]
    choice: str
    cards: list[Card]
    ranked_by: str | None
    class_names: list[str]


def render(page: Page) -> str:
    """The HTML of the page, the same for the same page."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = percent
    environment.filters["share"] = lambda share: "" if share is None else f"{share:.6f}"
    environment.filters["css_colour"] = lambda colour: "rgb({} {} {})".format(*colour)
    class_tables: dict[tuple[str, ...], list[str]] = {}  # evaluations of the same classes share a table
    for kind, evaluation in page.evaluations.items():
        class_tables.setdefault(tuple(evaluation.names), []).append(kind)
    shown = sorted({number for card in page.cards for number in card.classes})
    return environment.get_template("report.html").render(
        **page._asdict(),
        class_tables=class_tables,
        totals={kind: summary(evaluation.scores) for kind, evaluation in page.evaluations.items()},
        measures=COLUMNS,
        shown_classes={number: page.class_names[number - 1] for number in shown},
        class_colour=class_colour,
        orders=_orders(page.cards),
        boundary_legend=[(BOUNDARY_NAMES[label], colour) for label, colour in BOUNDARY_COLOURS.items()],
    )


def _orders(cards: list[Card]) -> dict[int, str]:
    """The kinds of prediction by whose IoU the cards can be put in order, by their place in a card's IoU."""
    kinds = list(cards[0].iou) if cards else []
    return {place: kind for place, kind in enumerate(kinds) if any(card.iou[kind] is not None for card in cards)}


def percent(share: float | None) -> str:
    """A share in percent, – for none and for NaN."""
    return "–" if share is None or share != share else f"{100 * share:.1f}"


def chart(title: str, alt: str, file: str, png: bytes, *, dpi: int) -> Chart:
    """A figure's PNG, made at `dpi`, ready for the page at its natural size."""
    with Image.open(io.BytesIO(png)) as image:
        width, height = (round(side * 96 / dpi) for side in image.size)  # a CSS inch is 96 pixels
    return Chart(title, alt, _data_uri("image/png", png), (width, height), file)


def thumbnail(panel: Panel) -> Thumbnail:
    """A panel ready for the page: drawings as PNG, photographs and maps as JPEG."""
    if panel.picture is None:
        return Thumbnail(panel.name, None, panel.missing, panel.flat, (1, 1))
    image, buffer = Image.fromarray(panel.picture), io.BytesIO()
    if panel.flat:
        image.save(buffer, "PNG")
        uri = _data_uri("image/png", buffer.getvalue())
    else:
        image.save(buffer, "JPEG", quality=JPEG_QUALITY)
        uri = _data_uri("image/jpeg", buffer.getvalue())
    return Thumbnail(panel.name, uri, "", panel.flat, image.size)


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
