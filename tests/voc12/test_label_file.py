"""Label files: numbers in text, names in CSV, and errors that name the file and the line."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from misc.errors import InputError
from voc12.label_file import LabelFile, write_label_file

CLASSES = ["Katze", "dog", "potted plant", *(f"class {i}" for i in range(3, 20))]


@pytest.fixture
def label_file(tmp_path):
    """label_file("a 0\\n") or label_file("image_id,classes\\na,dog\\n", "labels.csv")."""

    def make(content: str | bytes, name: str = "labels.txt") -> LabelFile:
        (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
        return LabelFile(tmp_path / name, CLASSES)

    return make


def refused(label_file, *args: str, ask: str = "a") -> str:
    with pytest.raises(InputError) as error:
        label_file(*args).get(ask)
    assert len(str(error.value).splitlines()) == 1
    return str(error.value)


# --- text


@pytest.mark.parametrize(
    ("line", "image_id", "classes"),
    [
        ("2007_000032 0 14", "2007_000032", [0, 14]),
        ("000000000009 3 4", "000000000009", [3, 4]),  # an ID that is a number
        ("17", "17", []),
        ("  Straße  3\t7 ", "Straße", [3, 7]),
        ("a 00", "a", [0]),
    ],
)
def test_a_line_of_text(label_file, line, image_id, classes):
    labels = label_file(f"\n{line}\r\nother 1\n")
    assert labels.get(image_id) == classes
    assert labels.get("other") == [1]
    assert labels.get("nobody") is None


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("IMG 0012 (1) 0", "(1)"),
        ("Straße nach Süden 3", "nach"),
        *((f"a {word}", word) for word in ("dog", "-1", "1.0", "0,1", "0x1", "²", "9" * 5000)),
    ],
)
def test_a_word_that_is_no_number_is_named_with_its_line_and_the_remedy(label_file, line, word):
    error = refused(label_file, f"other 1\n{line}\n")
    assert f"labels.txt, line 2: {word!r} is no class number" in error and ".csv" in error


def test_a_number_beyond_the_classes(label_file):
    assert "labels.txt, line 1: '20' of a is no class (0 to 19)" in refused(label_file, "a 3 20\n")


def test_an_id_with_blanks_that_text_cannot_list(label_file):
    """Read as published, `IMG 12 3` shows 12 and 3 on IMG."""
    labels = label_file("IMG 12 3\n")
    assert labels.get("IMG") == [12, 3] and labels.get("IMG 12") is None
    assert ".csv" in labels.advice("IMG 12")
    assert ".csv" in refused(label_file, "IMG 12 0\nIMG 13 1\n")


@pytest.mark.parametrize("ending", ["jpg", "JPEG", "png"])
def test_an_id_with_an_ending(label_file, ending):
    for labels in (label_file(f"Küche.{ending} 1\n"), label_file(f"image_id,classes\nKüche.{ending},dog", "l.csv")):
        assert labels.get("Küche") is None and f"'Küche.{ending}'" in labels.advice("Küche")
        assert labels.advice(f"Küche.{ending}") == labels.advice("K") == ""


def test_an_image_with_two_opinions(label_file):
    error = refused(label_file, "a 0 2\nb 1\n\na 1\n")
    assert "labels.txt, line 4: 'a' shows 1 here, but 0 2 in line 1: keep one of them" in error
    assert "no class" in refused(label_file, "a\na 1\n")
    assert label_file("a 0 2\na 2 0 0\n").get("a") == [0, 2]  # the same twice


def test_an_umlaut_is_one_letter_or_two(label_file):
    labels = label_file("Ku\u0308che 1\n")
    assert labels.get("K\u00fcche") == labels.get("Ku\u0308che") == [1]
    path = label_file("image_id,classes\na,Lo\u0308ffel\n", "labels.csv").path
    assert LabelFile(path, ["dog", "L\u00f6ffel"]).get("a") == [1]


# --- CSV


@pytest.mark.parametrize(
    ("row", "image_id", "classes"),
    [
        ("a,dog", "a", [1]),
        ("a,dog;Katze", "a", [1, 0]),
        ('"IMG 0012 (1)", potted plant ;dog; ', "IMG 0012 (1)", [2, 1]),
        ('"a, b",dog', "a, b", [1]),
        ("Küche 3 7,Katze", "Küche 3 7", [0]),
        ("a,", "a", []),
    ],
)
def test_names_in_csv(label_file, row, image_id, classes):
    labels = label_file(f"\ufeffimage_id,classes\r\n{row}\r\n\r\nother,dog\r\n", "labels.csv")
    assert labels.get(image_id) == classes
    assert labels.get("other") == [1]
    assert labels.get("a,") is None


@pytest.mark.parametrize(
    "header", ["", "id,classes", "image_id;classes", "image_id,classes,more", "a,dog", "Image_ID,Classes"]
)
def test_another_header_is_refused(label_file, header):
    error = refused(label_file, f"{header}\na,dog\n", "labels.csv")
    assert f"labels.csv: the header is {header!r}" in error and "image_id,classes" in error


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("a,dgo", "line 2: 'dgo' of a is no class (did you mean 'dog'"),
        ("a,KATZE", "line 2: 'KATZE' of a is no class (did you mean 'Katze'"),
        ("a,unicorn", "line 2: 'unicorn' of a is no class (see --class_names)"),
        ("a,1", "line 2: '1' of a is no class (names are expected"),
        ("a,dog,Katze", "line 2: 3 columns, expected image_id,classes"),
        ("a", "line 2: 1 columns, expected"),
        (",dog", "line 2: the image ID is empty"),
        ('a,"dog', "line 2: cannot be read as CSV"),
        ("a,dog\na,Katze", "line 3: 'a' shows Katze here, but dog in line 2"),
    ],
)
def test_bad_rows_are_named(label_file, row, expected):
    assert f"labels.csv, {expected}" in refused(label_file, f"image_id,classes\n{row}\n", "labels.csv")


def test_a_table_of_another_encoding(label_file):
    assert "cannot be read as UTF-8 text" in refused(
        label_file, "image_id,classes\nKüche,dog\n".encode("cp1252"), "x.csv"
    )


# --- writing

IDS = st.text(st.sampled_from("a1 (ü,;\"'"), min_size=1).filter(lambda text: text == text.strip())
CLASSES_SHOWN = st.sets(st.integers(0, 19)).map(sorted)


@given(labels=st.dictionaries(IDS, CLASSES_SHOWN), name=st.sampled_from(["l.txt", "l.csv"]))
def test_what_is_written_is_read(tmp_path_factory, labels, name):
    path = tmp_path_factory.mktemp("labels") / name
    if name == "l.txt" and any(" " in image_id for image_id in labels):
        with pytest.raises(InputError, match=r"l\.txt: .* cannot be listed in text: .*\.csv"):
            write_label_file(path, labels, CLASSES)
        assert not path.exists()
    else:
        write_label_file(path, labels, CLASSES)
        read = LabelFile(path, CLASSES)
        assert {image_id: read.get(image_id) for image_id in labels} == labels


def test_text_is_written_as_published(tmp_path):
    write_label_file(tmp_path / "l.txt", {"2007_000032": [0, 14], "b": []}, CLASSES)
    assert (tmp_path / "l.txt").read_bytes() == b"2007_000032 0 14\nb\n"


def test_a_name_with_the_separator_is_no_csv(tmp_path):
    with pytest.raises(InputError, match=r"l\.csv: 'salt; pepper' cannot be listed"):
        write_label_file(tmp_path / "l.csv", {}, ["salt; pepper"])
    assert not Path(tmp_path / "l.csv").exists()
