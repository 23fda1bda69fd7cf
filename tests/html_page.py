"""Reading an HTML page strictly, without a browser."""

from dataclasses import dataclass, field
from html.parser import HTMLParser
from itertools import pairwise

VOID = {"meta", "img", "link", "input", "br", "hr"}
REFERENCES = ("for", "aria-labelledby")


@dataclass
class Element:
    tag: str
    attributes: dict[str, str]
    children: list["Element"] = field(default_factory=list)
    own_text: str = ""

    def all(self, tag: str, css_class: str | None = None) -> list["Element"]:
        """Every element of that name below this one, in order."""
        found = []
        for child in self.children:
            if child.tag == tag and (css_class is None or css_class in child.attributes.get("class", "").split()):
                found.append(child)
            found += child.all(tag, css_class)
        return found

    @property
    def text(self) -> str:
        return " ".join(f"{self.own_text} {' '.join(child.text for child in self.children)}".split())


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open = [Element("page", {})]

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attributes]
        assert len(set(names)) == len(names), f"an attribute of <{tag}> occurs twice: {names}"
        element = Element(tag, {name: value or "" for name, value in attributes})
        self.open[-1].children.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1].tag == tag, f"</{tag}> inside of <{self.open[-1].tag}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.open[-1].own_text += data


def read_page(html: str) -> Element:
    """The page as a tree; AssertionError where tags are not nested or closed."""
    assert html.startswith("<!doctype html>")
    reader = _Reader()
    reader.feed(html)
    reader.close()
    assert len(reader.open) == 1, f"never closed: {[element.tag for element in reader.open[1:]]}"
    return reader.open[0]


def elements_of(page: Element) -> list[Element]:
    return [page, *(inner for child in page.children for inner in elements_of(child))]


def check_page(page: Element) -> None:
    """What holds for every page: nothing from elsewhere, text for every picture, references that lead somewhere."""
    everything = elements_of(page)
    ids = [element.attributes["id"] for element in everything if "id" in element.attributes]
    assert len(set(ids)) == len(ids), "an id occurs twice"
    for element in everything:
        for name in ("src", "href", "srcset", "action", "data", "poster"):
            assert element.attributes.get(name, "data:").startswith(("data:", "#")), element.attributes[name]
        for name in REFERENCES:
            for target in element.attributes.get(name, "").split():
                assert target in ids, f"{name}={target} leads nowhere"
        if element.attributes.get("href", "").startswith("#"):
            assert element.attributes["href"][1:] in ids
        if element.tag == "img":
            assert element.attributes["alt"].strip() and int(element.attributes["width"]) > 0
        if element.tag in ("button", "th", "option", "summary", "h1", "h2", "h3"):
            assert element.text or element.attributes.get("aria-label") or element.all("img"), (
                f"<{element.tag}> is mute"
            )
        if element.tag == "select":
            assert element.attributes["id"] in [label.attributes["for"] for label in page.all("label")]
        if element.tag == "style":
            assert "url(" not in element.text and "@import" not in element.text
    levels = [int(element.tag[1]) for element in everything if element.tag in ("h1", "h2", "h3", "h4")]
    assert levels[0] == 1 and all(after <= before + 1 for before, after in pairwise(levels))
