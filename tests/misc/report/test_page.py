"""The report's page: whole, self-contained, and not to be talked into anything by a name."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from misc.evaluation.confusion import Scores
from misc.evaluation.results_file import Best, Evaluation
from misc.evaluation.tables import COLUMNS, Evaluated
from misc.report.page import Card, Page, chart, percent, render, thumbnail
from misc.report.panels import Panel
from tests.html_page import check_page, read_page

HOSTILE = ['<script>alert("x")</script>', "'quoted' & \"double\" </style>", "人 {{ 7 * 7 }} {% raw %}", "a,b c"]
PICTURE = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
EMPTY = Page({"method": "SBE"}, [], {}, [], "The gallery is empty.", [], None, ["cat"])


def card(image_id: str, iou: float | None = 0.5, classes: tuple[int, ...] = (1,)) -> Card:
    panels = [thumbnail(Panel("input", PICTURE)), thumbnail(Panel("mask", None, "no mask: run make_sem_seg", True))]
    return Card(image_id, list(classes), {"CAM": None, "mask": iou}, panels)


def full_page() -> Page:
    names = ["background", *HOSTILE]
    evaluation = Evaluation(
        names, Scores(np.diag([9, 1, 0, 2, 3])), Evaluated("train", 7), 0.21, {}, Best(0.3, "sweep_list", 0.5, 0.25)
    )
    return Page(
        facts={"method": "SBE", "images": HOSTILE[0]},
        gaps=[f"no history at {HOSTILE[1]}"],
        evaluations={"mask": evaluation, "other": Evaluation(["background"], Scores(np.array([[3]])), None, None, {})},
        charts=[chart("Bars", f"bars of {HOSTILE[0]}", "iou.png", _png(1200, 60), dpi=144)],
        choice=f"2 of 9 images of class {HOSTILE[2]}",
        cards=[card("2007_000032"), card(HOSTILE[0], None, (1, 2, 3, 4))],
        ranked_by="mask",
        class_names=HOSTILE,
    )


def _png(width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), "red").save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize("page", [EMPTY, full_page()], ids=["empty", "full"])
def test_it_is_well_formed_and_needs_nothing_else(page):
    html = render(page)
    tree = read_page(html)
    check_page(tree)
    assert "http:" not in html and "https:" not in html
    policy = next(m.attributes["content"] for m in tree.all("meta") if "http-equiv" in m.attributes)
    assert policy.startswith("default-src 'none'")
    assert html == render(page)


def test_names_are_text_wherever_they_stand():
    tree = read_page(render(full_page()))
    assert len(tree.all("script")) == 1 and "alert" not in tree.all("script")[0].text
    first, second = tree.all("article")
    assert second.attributes["data-id"] == HOSTILE[0]
    assert second.all("h3")[0].text == HOSTILE[0]
    assert [item.text for item in second.all("ul", "classes")[0].all("li")] == HOSTILE
    assert second.all("img")[0].attributes["alt"] == f"input of {HOSTILE[0]}"
    options = tree.all("select")[0].all("option")
    assert [(o.attributes["value"], o.text) for o in options[1:]] == [(str(i + 1), n) for i, n in enumerate(HOSTILE)]
    assert tree.all("table")[1].all("tbody")[0].all("th")[3].text == HOSTILE[2]
    assert HOSTILE[1] in tree.all("ul", "gaps")[0].text
    assert tree.all("dd")[1].text == HOSTILE[0]
    assert first.attributes["data-id"] == "2007_000032"


def test_what_the_script_reads():
    first, second = read_page(render(full_page())).all("article")
    assert first.attributes["data-classes"] == "1" and first.attributes["data-iou"] == ",0.500000"
    assert second.attributes["data-classes"] == "1 2 3 4" and second.attributes["data-iou"] == ","


def test_the_order_of_the_page_is_the_order_that_is_selected():
    selected = [o for o in read_page(render(full_page())).all("option") if "selected" in o.attributes]
    assert [(o.attributes["value"], o.text) for o in selected] == [("1 -1", "IoU of mask, best first")]
    unranked = read_page(render(full_page()._replace(ranked_by=None)))
    assert [o.text for o in unranked.all("option") if "selected" in o.attributes] == ["as in the list"]


def test_the_orders_are_those_some_card_has_a_score_for():
    def orders(*cards: Card) -> list[tuple[str, str]]:
        select = read_page(render(full_page()._replace(cards=list(cards), ranked_by=None))).all("select")[1]
        return [(option.attributes["value"], option.text) for option in select.all("option")]

    scored = [("1 -1", "IoU of mask, best first"), ("1 1", "IoU of mask, worst first")]
    assert orders(card("a", None), card("b", 0.0)) == [("list", "as in the list"), *scored, ("", "by ID")]
    assert orders(card("a", None)) == [("list", "as in the list"), ("", "by ID")]


def test_figures_of_the_tables():
    results, classes = read_page(render(full_page())).all("table")[:2]
    rows = [[cell.text for cell in row.children] for row in results.all("tbody")[0].all("tr")]
    assert rows == [
        ["mask", "100.0", "100.0", "100.0", "0.0", "0.0", "100.0", "0.21", "7 train"],
        ["other", "100.0", "100.0", "100.0", "–", "0.0", "100.0", "–", "–"],  # no pixel is of another label
    ]
    body = [[cell.text for cell in row.children] for row in classes.all("tbody")[0].all("tr")]
    assert body[0] == ["0", "background", "100.0", "100.0", "100.0", "0.0", "0.0"]
    assert body[2] == ["2", HOSTILE[1], "–", "–", "–", "0.0", "–"]  # never seen
    assert [cell.text for cell in classes.all("thead")[0].all("tr")[1].children] == list(COLUMNS)


def test_the_best_threshold_and_on_what_it_was_chosen():
    page = full_page()
    first = read_page(render(page)).all("ul", "best")[0].all("li")[0]
    assert first.text == (
        "mask: the best threshold is 0.30, with mIoU 25.0, chosen on sweep_list, where it gives 50.0."
    )
    same = page.evaluations["mask"]._replace(best=Best(0.3, "evaluation", 0.25, 0.25))
    (first, _) = read_page(render(page._replace(evaluations={"CAM": same}))).all("ul", "best")[0].all("li")
    assert first.text.endswith("with mIoU 25.0, chosen on the very images it is measured on.")


def test_scores_stand_beside_their_pictures_and_gaps_in_their_place():
    first, _ = read_page(render(full_page())).all("article")
    assert [caption.text for caption in first.all("figcaption")] == ["input", "mask 50.0 %"]
    assert first.all("div", "missing")[0].text == "no mask: run make_sem_seg"
    assert len(first.all("button")) == 1


def test_an_empty_gallery_says_so_and_offers_no_controls():
    tree = read_page(render(EMPTY))
    assert "The gallery is empty." in tree.text
    assert not tree.all("select") and not tree.all("article")


@pytest.mark.parametrize(("flat", "kind"), [(True, "png"), (False, "jpeg")])
def test_thumbnails_hold_the_picture(flat, kind):
    made = thumbnail(Panel("mask", PICTURE, flat=flat))
    head, content = made.uri.split(",")
    assert head == f"data:image/{kind};base64" and made.size == (6, 4)
    with Image.open(io.BytesIO(base64.b64decode(content))) as image:
        if flat:
            np.testing.assert_array_equal(np.array(image.convert("RGB")), PICTURE)
        else:
            np.testing.assert_allclose(np.array(image).mean(), PICTURE.mean(), atol=3)


def test_a_chart_has_its_natural_size():
    assert chart("t", "a", "iou.png", _png(1200, 60), dpi=144).size == (800, 40)


def test_percent():
    assert [percent(share) for share in (0.12345, 1.0, None, float("nan"))] == ["12.3", "100.0", "–", "–"]
