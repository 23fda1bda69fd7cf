"""Lists of images, as people write them, and the ones the project brings along."""

import logging
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from misc.errors import InputError
from voc12.image_labels import ImageLabels, read_class_names
from voc12.image_set import PROJECT, VOCRoot, find, merged, near_miss, other_lists, other_truth, read_lines, read_list


def listed(tmp_path: Path, content: bytes) -> list[str]:
    (tmp_path / "list.txt").write_bytes(content)
    return read_list(tmp_path / "list.txt")


@pytest.mark.parametrize(
    "content",
    [
        b"2007_000032\n2007_000039\n",
        b"2007_000032\n2007_000039",
        b"2007_000032\r\n2007_000039\r\n",
        b"\n\n2007_000032\n \n2007_000039\n\n",
        b"  2007_000032\t\n 2007_000039  \n",
        b"\xef\xbb\xbf2007_000032\n2007_000039\n",
        b"2007_000032\n2007_000039\n2007_000032\n",
        "\ufeff2007_000032\r\n2007_000039\r\n".encode("utf-16-le"),
        "\ufeff2007_000032\n2007_000039\n".encode("utf-16-be"),
    ],
    ids=["plain", "no newline", "CRLF", "blank lines", "spaces", "BOM", "duplicate", "UTF-16", "big-endian"],
)
def test_lists_as_people_write_them(tmp_path, content):
    assert listed(tmp_path, content) == ["2007_000032", "2007_000039"]


def test_ids_are_strings_and_keep_their_order(tmp_path):
    ids = ["2007_000032", "000000000139", "b", "a", "COCO_train2014_000000000009", "über", "x.y"]
    assert listed(tmp_path, "\n".join(ids).encode()) == ids


def test_duplicates_are_told(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    assert listed(tmp_path, b"a\nb\na\na\n") == ["a", "b"]
    assert "2 duplicate IDs" in caplog.text


@pytest.mark.parametrize("content", [b"", b"\n \r\n\n", b"\xef\xbb\xbf", b"\xff\xfe", b"a -1\nb -1\n"])
def test_an_empty_list(tmp_path, content):
    with pytest.raises(InputError, match=r"list\.txt: the list is empty"):
        listed(tmp_path, content)


def test_no_list(tmp_path):
    with pytest.raises(InputError, match=r"none\.txt: no such list"):
        read_list(tmp_path / "none.txt")


@pytest.mark.parametrize("path", ["", ".", "a" * 300, "a\0b"])
def test_no_file_name(path):
    with pytest.raises(InputError, match="cannot be read as UTF-8 text"):
        read_list(path)


def test_no_text(tmp_path):
    with pytest.raises(InputError, match=r"list\.txt: cannot be read as UTF-8 text"):
        listed(tmp_path, b"\x89PNG\r\n\x1a\n\xff\xfe")


@pytest.mark.parametrize("line", ["..", ".", "a/..", "/JPEGImages/", "C:\\", "/JPEGImages/.. /Seg/..", "a\0b"])
def test_a_line_without_an_id(tmp_path, line):
    with pytest.raises(InputError, match=re.escape(f"{line!r} is not an image ID")):
        listed(tmp_path, f"good\n{line}\n".encode())


def test_a_folder_is_left_behind(tmp_path):
    """A list of another project tells nothing of where the images of this one lie."""
    assert listed(tmp_path, b"../../etc/passwd\nbatch1/a\n") == ["passwd", "a"]


@given(st.lists(st.lists(st.sampled_from("abcdef"))))
def test_merged_lists_hold_every_id_once_in_order(lists):
    found = merged(*lists)
    everything = [image_id for ids in lists for image_id in ids]
    assert sorted(found) == sorted(set(everything))
    assert found == sorted(found, key=everything.index)


def test_paths_below_a_root():
    root = VOCRoot(Path("/voc"))
    paths = (root.image("a"), root.saliency("a"), root.truth("a"), root.annotation("a"), root.image_set("val"))
    assert [str(path) for path in paths] == [
        "/voc/JPEGImages/a.jpg",
        "/voc/Sal/a.png",
        "/voc/SegmentationClass/a.png",
        "/voc/Annotations/a.xml",
        "/voc/ImageSets/Segmentation/val.txt",
    ]


def test_saliency_maps_may_lie_elsewhere():
    assert VOCRoot(Path("/voc"), Path("/elsewhere")).saliency("a") == Path("/elsewhere/a.png")


def test_ground_truth_may_lie_elsewhere(tmp_path):
    root = VOCRoot(tmp_path, truth_dir=tmp_path / "SegmentationClassAug")
    assert root.truth("a") == tmp_path / "SegmentationClassAug" / "a.png" and root.saliency("a").parent.name == "Sal"
    missing = VOCRoot(tmp_path).truth("a")
    assert other_truth(missing) == ""
    root.truth("a").parent.mkdir()
    root.truth("a").touch()
    assert f"--truth_dir {root.truth_dir}" in other_truth(missing)


def test_a_list_by_its_name_or_its_path(tmp_path, monkeypatch):
    root, folder = VOCRoot(tmp_path), tmp_path / "ImageSets" / "Segmentation"
    folder.mkdir(parents=True)
    (folder / "default.txt").touch()
    (folder / "half.txt.txt").touch()
    monkeypatch.chdir(tmp_path)
    assert root.image_set("default") == folder / "default.txt"
    assert root.image_set("half.txt") == folder / "half.txt.txt"
    assert root.image_set("mine/some.TXT") == PROJECT / "mine" / "some.TXT"  # as for all lists: see `find`
    (tmp_path / "some.txt").touch()
    assert root.image_set("some.txt") == Path("some.txt") and root.image_set(f"{tmp_path}/x.txt") == tmp_path / "x.txt"
    assert root.image_set("voc12/val.txt") == PROJECT / "voc12" / "val.txt"
    assert "default, half.txt" in other_lists(root.image_set("train")) and other_lists(tmp_path / "n" / "x.txt") == ""


def test_the_image_that_is_there_is_taken(tmp_path):
    root, folder = VOCRoot(tmp_path), tmp_path / "JPEGImages"
    folder.mkdir()
    for name in ("IMG 1.JPG", "b.jpeg", "c.png", "d.png", "d.jpg", "e.webp"):
        (folder / name).touch()
    found = [root.image(image_id).name for image_id in ("IMG 1", "b", "c", "d", "e")]
    assert found == ["IMG 1.JPG", "b.jpeg", "c.png", "d.jpg", "e.jpg"]


@pytest.mark.parametrize(
    ("there", "image_id", "expected"),
    [
        ("a.webp", "a", "'a.webp' is there: convert it to JPEG or PNG"),
        ("IMG_1.jpg", "img_1", "'IMG_1.jpg' is there, spelt otherwise"),
        ("Ku\u0308che.png", "K\u00fcche", "is there, spelt otherwise"),
        ("a.jpg", "a.jpg", "IDs, that is file names without their ending"),
        ("b.jpg", "a", ""),
    ],
)
def test_what_lies_there_instead_of_an_image(tmp_path, there, image_id, expected):
    (tmp_path / "JPEGImages").mkdir()
    (tmp_path / "JPEGImages" / there).touch()
    advice = near_miss(VOCRoot(tmp_path).image(image_id))
    assert expected in advice and bool(expected) == bool(advice)


def test_a_link_whose_image_is_gone(tmp_path):
    (tmp_path / "JPEGImages").mkdir()
    (tmp_path / "JPEGImages" / "a.jpg").symlink_to(tmp_path / "moved" / "a.jpg")
    assert (
        near_miss(VOCRoot(tmp_path).image("a")) == f"'a.jpg' is a link to {tmp_path / 'moved' / 'a.jpg'}, which is gone"
    )


def test_a_converted_folder_has_settings_that_name_its_own_lists(tmp_path):
    (tmp_path / "set.yaml").touch()
    assert f"say --config {tmp_path / 'set.yaml'}" in near_miss(VOCRoot(tmp_path).image("2007_000032"))


def test_what_is_here_comes_before_what_the_project_brings(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find("voc12/train.txt") == PROJECT / "voc12" / "train.txt"
    (tmp_path / "voc12").mkdir()
    (tmp_path / "voc12" / "train.txt").write_text("mine\n")
    assert read_list("voc12/train.txt") == ["mine"]


@pytest.mark.parametrize(
    ("name", "count", "first"),
    [
        ("train", 1464, "2007_000032"),
        ("val", 1449, "2007_000033"),
        ("train_aug", 10582, None),
        ("test", 1456, None),
    ],
)
def test_the_lists_of_the_community(name, count, first):
    ids = read_list(PROJECT / "voc12" / f"{name}.txt")
    assert len(ids) == count == len(read_lines(PROJECT / "voc12" / f"{name}.txt"))
    assert first is None or ids[0] == first
    assert all(re.fullmatch(r"20\d\d_\d{6}", image_id) for image_id in ids)


def test_training_and_validation_are_apart():
    train, val, train_aug, test = (
        set(read_list(PROJECT / "voc12" / f"{n}.txt")) for n in ("train", "val", "train_aug", "test")
    )
    assert train <= train_aug
    assert not train_aug & val and not (train_aug | val) & test


def test_every_training_and_validation_image_has_a_label(tmp_path):
    names = read_class_names("voc12/class_names.txt")
    assert len(names) == 20 and names[0] == "aeroplane" and names[14] == "person" and names[19] == "tvmonitor"
    labels = ImageLabels("voc12/cls_labels.txt", VOCRoot(tmp_path / "no root"), names)
    for image_id in merged(*(read_list(PROJECT / "voc12" / f"{n}.txt") for n in ("train_aug", "val"))):
        assert len(labels[image_id]) >= 1
    assert labels["2007_000032"].tolist() == [0, 14]  # an aeroplane and people
