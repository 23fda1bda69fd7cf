"""Lists of other projects, each read as the one column of IDs that it means."""

import pytest

from misc.errors import InputError
from voc12.image_set import read_list

IDS = ["2007_000032", "2007_000039", "2007_000063"]


def read(folder, text: str) -> tuple[list[str], list[str]]:
    """The IDs of a list, and what is said of it."""
    (folder / "list.txt").write_text(text, encoding="utf-8")
    said: list[str] = []
    return read_list(folder / "list.txt", notice=said.append), said


@pytest.mark.parametrize(
    "form",
    [
        "/JPEGImages/{}.jpg /SegmentationClassAug/{}.png",  # SEAM, PSA, DeepLab, CLIMS
        "/JPEGImages/{}.jpg",
        "JPEGImages/{}.jpg\tSegmentationClass/{}.png",
        "{}.jpg",  # ls > list.txt
        "{}.JPEG",
        "{}.png",
        "{}.tif",
        "Annotations/{}.xml",
        "C:\\data\\voc\\JPEGImages\\{}.jpg",
        "./batch 1/{}.bmp 0 14",  # a label file of others: its first column
        "batch1/{}",  # CVAT
    ],
)
def test_the_file_name_of_the_first_column_is_the_id(tmp_path, form):
    ids, said = read(tmp_path, "\n".join(form.format(image_id, image_id) for image_id in IDS))
    assert ids == IDS
    (remark,) = said  # once a list
    assert "list.txt: 3 of 3 lines" in remark and repr(IDS[0]) in remark and repr(form.format(IDS[0], IDS[0])) in remark


def test_names_with_blanks_and_dots(tmp_path):
    lines = ["/JPEGImages/IMG 12 (1).jpg /Seg/IMG 12 (1).png", "Küche 3", "x.y", "v1.2.png", "IMG 12"]
    assert read(tmp_path, "\n".join(lines))[0] == ["IMG 12 (1)", "Küche 3", "x.y", "v1.2", "IMG 12"]


@pytest.mark.parametrize(
    ("lines", "ids"),
    [
        (["a  1", "b -1", "c  0", "d  1"], ["a", "c", "d"]),  # ImageSets/Main/aeroplane_train.txt
        (["a 1", "b\t-1"], ["a"]),
        (["a  1", "b  0"], ["a", "b"]),  # two characters wide, as the devkit writes it
    ],
)
def test_the_sign_of_the_devkit_counts(tmp_path, lines, ids):
    found, (remark,) = read(tmp_path, "\n".join(lines))
    assert found == ids
    left_out = len(lines) - len(ids)
    assert f"{len(ids)} images are taken" in remark and f"{left_out} with -1 are left out" in remark


@pytest.mark.parametrize("lines", [["IMG 1", "cup 0"], ["IMG  1", "IMG 2"], ["IMG 1", "b -1", "Küche"]])
def test_a_number_behind_a_blank_is_part_of_an_id(tmp_path, lines):
    assert read(tmp_path, "\n".join(lines)) == (lines, [])


def test_plain_ids_are_passed_over_in_silence(tmp_path):
    assert read(tmp_path, "\n".join(IDS)) == (IDS, [])


@pytest.mark.parametrize(("one", "other"), [("batch1/a.jpg", "batch2/a.jpg"), ("a.jpg", "a.png"), ("x/a", "a")])
def test_two_files_of_one_name(tmp_path, one, other):
    with pytest.raises(InputError, match=rf"list\.txt: '{one}' and '{other}' would both be the image 'a'"):
        read(tmp_path, f"b\n{one}\n{other}\n")


def test_an_image_listed_twice_is_used_once(tmp_path):
    ids, said = read(tmp_path, "/J/a.jpg /S/a.png\n/J/b.jpg /S/b.png\n/J/a.jpg /S/a.png\n")
    assert ids == ["a", "b"] and any("1 duplicate" in remark for remark in said)


def test_an_id_too_long_for_a_file_name(tmp_path):
    with pytest.raises(InputError, match="longer than 240 bytes"):
        read(tmp_path, "/JPEGImages/" + "ü" * 121 + ".jpg")
