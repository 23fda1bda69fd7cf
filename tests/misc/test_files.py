"""Nobody ever reads half a file."""

import pytest

from misc.errors import InputError
from misc.files import replacing


def test_the_target_appears_at_the_end(tmp_path):
    target = tmp_path / "new" / "folder" / "a.txt"
    with replacing(target) as temporary:
        temporary.write_text("whole")
        assert not target.exists()
        assert temporary.parent == target.parent  # so that the renaming cannot fail half-way
    assert target.read_text() == "whole"
    assert list(target.parent.iterdir()) == [target]


def test_an_old_file_stays_until_the_new_one_is_whole(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with replacing(target) as temporary:
        temporary.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, InputError])
def test_after_an_exception_all_is_as_before(tmp_path, error):
    target = tmp_path / "a.txt"
    target.write_text("old")

    def fail() -> None:
        with replacing(target) as temporary:
            temporary.write_text("half")
            raise error("stop")

    with pytest.raises(error, match="stop"):
        fail()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_full_disk_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match=r"cannot write .*a\.txt: No space left"), replacing(tmp_path / "a.txt") as t:
        t.write_text("half")
        raise OSError(28, "No space left on device")
    assert not list(tmp_path.iterdir())


def test_a_block_that_writes_nothing_is_an_error(tmp_path):
    with pytest.raises(InputError, match="cannot write"), replacing(tmp_path / "a.txt"):
        pass


def test_a_file_where_the_folder_should_be(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="cannot write"), replacing(tmp_path / "file" / "a.txt") as temporary:
        temporary.write_text("x")
    with pytest.raises(InputError, match="cannot write"), replacing(tmp_path / "file" / "b" / "a.txt") as temporary:
        temporary.write_text("x")


def test_a_folder_where_the_file_should_be(tmp_path):
    (tmp_path / "a.txt").mkdir()
    with pytest.raises(InputError, match="cannot write"), replacing(tmp_path / "a.txt") as temporary:
        temporary.write_text("x")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_a_name_that_is_too_long(tmp_path):
    with pytest.raises(InputError, match="cannot write"), replacing(tmp_path / ("a" * 300)) as temporary:
        temporary.write_text("x")
