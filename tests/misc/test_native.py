"""A C file is compiled once and kept in a cache that processes share; without a compiler there is a warning."""

import stat
import tempfile

import pytest

from misc import native

SOURCE = "int doubled(int n) { return 2 * n; }\n"


@pytest.fixture
def source(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "arithmetic.c"
    path.write_text(SOURCE)
    return path


def library(*given):
    """As at the first call of a process."""
    return native._library.__wrapped__(*given)


def compiler(folder, before) -> str:
    """A command that does something before it compiles."""
    made = folder / "my-cc"
    made.write_text(f'#!/bin/sh\n{before}\nexec cc "$@"\n')
    made.chmod(made.stat().st_mode | stat.S_IXUSR)
    return str(made)


def cached(tmp_path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "cache" / "sbe").iterdir())


def test_functions_of_a_file(source):
    assert library(source).doubled(21) == 42


def test_compiled_once_for_each_state_of_the_file_and_each_set_of_flags(source, tmp_path, monkeypatch):
    library(source)
    (first,) = cached(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(native, "_compile", None)  # would be called otherwise
        assert library(source).doubled(1) == 2
    library(source, "-DNDEBUG")
    assert len(cached(tmp_path)) == 2
    source.write_text(SOURCE.replace("2 *", "3 *").replace("doubled", "tripled"))
    assert library(source).tripled(2) == 6
    assert len(cached(tmp_path)) == 3 and first in cached(tmp_path)


def test_another_processor_gets_its_own(source, tmp_path, monkeypatch):
    library(source)
    monkeypatch.setattr(native, "_processor", lambda: "another")
    library(source)
    assert len(cached(tmp_path)) == 2


def test_no_compiler(source, monkeypatch, caplog):
    monkeypatch.setenv("CC", "no-such-compiler")
    assert library(source) is None
    assert "arithmetic.c was not compiled" in caplog.text and "no-such-compiler" in caplog.text


def test_a_compiler_that_does_not_take_it(source, caplog):
    source.write_text("int doubled(")
    assert library(source) is None
    (line,) = caplog.text.splitlines()
    assert "error" in line


def test_a_compiler_that_does_not_know_the_processor(source, tmp_path, monkeypatch):
    monkeypatch.setenv("CC", compiler(tmp_path, 'case "$*" in *march=native*) echo unknown >&2; exit 1;; esac'))
    assert library(source).doubled(4) == 8


def test_a_compiler_with_arguments(source, tmp_path, monkeypatch):
    source.write_text("int answer(void) { return ANSWER; }")
    monkeypatch.setenv("CC", "cc -DANSWER=42")
    assert library(source).answer() == 42
    monkeypatch.setenv("CC", "cc -DANSWER=43")
    assert library(source).answer() == 43


def test_a_compiler_of_another_encoding(source, tmp_path, monkeypatch):
    monkeypatch.setenv("CC", compiler(tmp_path, r'printf "f\344hig\n"; printf "f\344hig\n" >&2'))
    assert library(source).doubled(4) == 8


def test_a_damaged_library_is_made_again(source, tmp_path, monkeypatch):
    library(source)
    (whole,) = (tmp_path / "cache" / "sbe").iterdir()
    damaged = tmp_path / "other" / "sbe" / whole.name
    damaged.parent.mkdir(parents=True)
    damaged.write_bytes(b"damaged")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    assert library(source).doubled(4) == 8
    assert damaged.stat().st_size == whole.stat().st_size


def test_what_a_killed_compilation_left_goes(source, tmp_path, abandoned):
    left = abandoned(tmp_path / "cache" / "sbe" / "arithmetic.so")
    library(source)
    assert not left.exists() and len(cached(tmp_path)) == 1


@pytest.mark.parametrize("place", ["a file", "a read-only file system", "no home"])
def test_nowhere_to_keep_it(source, tmp_path, monkeypatch, place):
    if place == "a file":
        (tmp_path / "cache").write_text("")
    elif place == "no home":
        monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.setattr(native.Path, "home", refused)
    else:
        monkeypatch.setenv("XDG_CACHE_HOME", "/proc")
    passing = tmp_path / "passing"
    passing.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(passing))
    assert library(source).doubled(4) == 8
    assert not list(passing.iterdir())


def refused() -> None:
    raise RuntimeError("Could not determine home directory.")
