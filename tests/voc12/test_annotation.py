"""XML annotations, as labelImg and hands write them."""

import pytest

from misc.errors import InputError
from voc12.annotation import Shown, annotated_classes, shown_in
from voc12.image_set import VOCRoot

CLASSES = ["Straße", "茶杯", "ball"]


def written(folder, text: str, encoding: str = "utf-8", declared: str | None = None, bom: bytes = b""):
    head = f'<?xml version="1.0" encoding="{declared}"?>\r\n' if declared else ""
    (folder / "a.xml").write_bytes(bom + f"{head}{text}".encode(encoding))
    return folder / "a.xml"


def objects(*names: str) -> str:
    found = "".join(f"<object><name>{n}</name><part><name>head</name></part></object>" for n in names)
    return f"<annotation><folder>图片</folder>{found}</annotation>"


@pytest.mark.parametrize(
    ("encoding", "declared"),
    [
        ("gb2312", "gb2312"),  # labelImg on a Chinese Windows
        ("gbk", "GBK"),
        ("gb18030", "gb18030"),
        ("big5", "big5"),
        ("shift_jis", "Shift_JIS"),
        ("utf-8", "utf-8"),
        ("utf-8", None),
        ("utf-16", "utf-16"),
    ],
)
def test_encodings(tmp_path, encoding, declared):
    text = objects("茶杯", "ball").replace("图片", "圖片" if encoding in ("big5", "shift_jis") else "图片")
    text = text.replace("圖片", "画") if encoding == "shift_jis" else text
    assert annotated_classes(written(tmp_path, text, encoding, declared), CLASSES) == [1, 2]


def test_an_encoding_with_a_byte_order_mark_in_front(tmp_path):
    path = written(tmp_path, objects("ball", "ball"), "utf-8", "utf-8", bom=b"\xef\xbb\xbf")
    assert annotated_classes(path, CLASSES) == [2]


def test_windows_declares_gb2312_and_writes_more(tmp_path):
    """鎔 is in GBK alone."""
    path = written(tmp_path, objects("ball").replace("图片", "朱鎔基"), "gbk", "gb2312")
    assert annotated_classes(path, CLASSES) == [2]


@pytest.mark.parametrize("declared", ["klingon", "utf-32", "hex", "zlib"])
def test_encodings_that_will_not_do(tmp_path, declared):
    with pytest.raises(InputError, match=r"a\.xml: cannot be read as an annotation"):
        annotated_classes(written(tmp_path, objects("ball"), "utf-8", declared), CLASSES)


def test_bytes_of_an_encoding_that_is_not_declared(tmp_path):
    with pytest.raises(InputError, match=r"a\.xml: .*not UTF-8, .*encoding=\"gb2312\""):
        annotated_classes(written(tmp_path, objects("ball").replace("图片", "中国"), "gbk"), CLASSES)
    with pytest.raises(InputError, match=r"a\.xml: .*not well-formed"):
        annotated_classes(written(tmp_path, objects("ball").replace("图", "R&D")), CLASSES)


@pytest.mark.parametrize("item", ["<pose>left</pose>", "<name></name>", "<name> \n</name>", "<name/>", ""])
def test_an_object_without_a_name(tmp_path, item):
    path = written(tmp_path, f"<annotation><object><name>ball</name></object><object>{item}</object></annotation>")
    for read in annotated_classes, shown_in:
        with pytest.raises(InputError, match=r"a\.xml: object 2 of 2 has no name"):
            read(path, CLASSES)


def test_unknown_objects_are_told_apart(tmp_path):
    path = written(tmp_path, objects("fork", "ball", "Ball", "fork", "Strasse", "Straße"))
    assert shown_in(path, CLASSES) == Shown([0, 2], ["fork", "Ball", "fork", "Strasse"])
    with pytest.raises(InputError, match=r"a\.xml: 'fork' is not among .*--drop_unknown_classes"):
        annotated_classes(path, CLASSES)


def test_an_ending_in_capitals(tmp_path):
    folder = tmp_path / "Annotations"
    folder.mkdir()
    root = VOCRoot(tmp_path)
    assert root.annotation("a").name == "a.xml"
    (folder / "a.XML").touch()
    assert root.annotation("a").name == "a.XML"
    (folder / "a.xml").touch()
    assert root.annotation("a").name == "a.xml"
