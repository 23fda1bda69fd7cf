"""The report in a real browser: it fits a phone and a wide window, and the keyboard reaches everything."""

import shutil

import pytest

from run_sample import main
from tests.chromium import Chromium, find_chromium
from tests.test_chain import only

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_chromium() is None, reason="no Chromium is installed: apt-get install chromium"),
]

SHOWN = "[...document.querySelectorAll('.card:not([hidden])')].map(card => card.dataset.id)"
FOCUS = "document.activeElement.querySelector('img')?.alt ?? document.activeElement.id"


@pytest.fixture
def page(finished_args, tmp_path):
    assert main([*finished_args(), *only("eval_cam", "eval_sem_seg"), "--report_pass"]) == 0
    return tmp_path / "report" / "index.html"


@pytest.fixture
def browser(tmp_path):
    with Chromium(find_chromium(), tmp_path / "profile") as chromium:
        yield chromium
        assert chromium.errors == []


def test_nothing_sticks_out(browser, page):
    for width, panels_in_a_row in ((360, 2), (768, 4), (1600, 8), (2000, 8)):
        for dark in (False, True):
            browser.open(page, width=width, dark=dark, touch=width < 500)
            assert browser.evaluate("document.documentElement.scrollWidth") <= width
            assert browser.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
            background = browser.evaluate("getComputedStyle(document.body).backgroundColor")
            assert (sum(map(int, background[4:-1].split(", "))) < 300) == dark
            lefts = "[...document.querySelector('.row').children].map(panel => panel.offsetLeft)"
            assert browser.evaluate(f"new Set({lefts}).size") == panels_in_a_row


def test_tables_scroll_in_their_boxes_and_keep_the_names(browser, page):
    browser.open(page, width=375, touch=True)
    browser.evaluate("document.querySelectorAll('details').forEach(details => details.open = true)")
    assert browser.evaluate("document.documentElement.scrollWidth") == 375
    boxes = "[...document.querySelectorAll('.scroll:has(table)')]"
    browser.evaluate(f"{boxes}.forEach(box => box.scrollLeft = 200)")
    assert browser.evaluate(f"{boxes}.map(box => box.scrollLeft)") == [200, 200]
    left = "getBoundingClientRect().left"
    beside = f"[...box.querySelectorAll('.name')].map(name => name.{left} - box.{left})"
    assert set(browser.evaluate(f"{boxes}.flatMap(box => {beside})")) == {0}


def choose(browser: Chromium, select: str, value: str) -> None:
    browser.evaluate(
        f"document.getElementById('{select}').value = {value!r},"
        f"document.getElementById('{select}').dispatchEvent(new Event('change'))"
    )


def test_order_and_filter(browser, page):
    browser.open(page, width=1600)
    ids = [f"demo_0000{i}" for i in range(4)]
    assert browser.evaluate(SHOWN) == ids
    choose(browser, "order", "2 1")  # mask + CRF, worst first
    assert browser.evaluate(SHOWN) == ids[::-1]
    choose(browser, "order", "")  # by ID
    number = browser.evaluate("document.querySelector('#class option:nth-child(2)').value")
    choose(browser, "class", number)
    expected = browser.evaluate(
        f"[...document.querySelectorAll('.card')].filter(c => c.dataset.classes.split(' ').includes('{number}'))"
        ".map(c => c.dataset.id)"
    )
    assert browser.evaluate(SHOWN) == expected and len(expected) > 0
    assert browser.evaluate("document.getElementById('count').value") == f"{len(expected)} of 4 images"
    choose(browser, "class", "")
    assert browser.evaluate(SHOWN) == ids


def test_without_scores_the_order_is_that_of_the_list(browser, finished_args, tiny_voc, tmp_path):
    root = shutil.copytree(tiny_voc, tmp_path / "voc", ignore=shutil.ignore_patterns("SegmentationClass"))
    ids = [f"demo_0000{i}" for i in (2, 0, 3, 1)]
    (tmp_path / "list.txt").write_text("\n".join(ids))
    assert main([*finished_args(voc12_root=root, infer_list=tmp_path / "list.txt"), *only(), "--report_pass"]) == 0
    browser.open(tmp_path / "report" / "index.html", width=1600)
    assert browser.evaluate(SHOWN) == ids
    choose(browser, "order", "")  # by ID
    assert browser.evaluate(SHOWN) == sorted(ids)
    choose(browser, "order", "list")
    assert browser.evaluate(SHOWN) == ids


def test_the_keyboard_alone(browser, page):
    browser.open(page, width=1600)
    browser.evaluate("document.getElementById('gallery-title').focus()")
    browser.press("Tab")
    assert browser.evaluate(FOCUS) == "class"
    browser.press("Tab")
    assert browser.evaluate(FOCUS) == "order"
    browser.press("ArrowDown")  # worst first: demo_00003 comes to the top
    browser.press("Tab")
    assert browser.evaluate(FOCUS) == "input of demo_00003"
    browser.press("ArrowRight", "ArrowRight")
    assert browser.evaluate(FOCUS) == "CAM of demo_00003"
    browser.press("ArrowDown")
    assert browser.evaluate(FOCUS) == "CAM of demo_00002"
    browser.press("Tab")
    assert browser.evaluate(FOCUS) == "input of demo_00001"  # one stop an image

    browser.press("Enter")
    caption = "document.getElementById('enlarged-caption').textContent"
    is_open = "document.getElementById('enlarged').open"
    assert browser.evaluate(is_open) and browser.evaluate(caption) == "input of demo_00001"
    browser.press("ArrowRight", "ArrowDown")
    assert browser.evaluate(caption) == "ground truth of demo_00000"
    browser.press("ArrowDown")  # there is none below
    assert browser.evaluate(caption) == "ground truth of demo_00000"
    browser.press("Escape")
    browser.wait_for(f"!{is_open} && ({FOCUS}) == 'ground truth of demo_00000'")


def test_the_mouse_and_the_buttons(browser, page):
    browser.open(page, width=375, height=700, touch=True)
    browser.evaluate("document.querySelectorAll('.panel')[1].click()")
    assert browser.evaluate("document.getElementById('enlarged').getBoundingClientRect().right") <= 375
    browser.evaluate("document.getElementById('previous').click()")
    assert browser.evaluate("document.getElementById('enlarged-caption').textContent") == "input of demo_00000"
    assert browser.evaluate("document.getElementById('previous').disabled")
    browser.evaluate("document.getElementById('close').click()")
    assert not browser.evaluate("document.getElementById('enlarged').open")


def test_what_has_the_focus_is_seen(browser, page):
    browser.open(page, width=1600)
    browser.press("Tab")
    assert browser.evaluate("document.activeElement.getBoundingClientRect().left") >= 0  # the skip link comes in
    browser.press("Enter", "Tab")
    style = browser.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert browser.evaluate(FOCUS) == "class" and style == "solid"
