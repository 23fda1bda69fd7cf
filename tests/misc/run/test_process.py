"""How a command ends: its exit code, and one line for whoever started it."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest

from misc.errors import InputError
from misc.run.process import guarded
from tests.conftest import PROJECT

PROGRAM = """
import os, signal, sys
from misc.errors import InputError
from misc.run.process import guarded, run_command
assert "torch" not in sys.modules  # a command ends well before it imports anything
@guarded
def main(argv):
    {}
run_command(main)
"""

# print() writes at the end, as it does where nothing says otherwise
BUFFERED = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}


def run(body: str, *, shell: str = "", **options) -> subprocess.CompletedProcess[str]:
    """A command whose main is `body`; shell: a redirection of its streams."""
    command = ["sh", "-c", f'exec "$@" {shell}', "sh", sys.executable, "-c", PROGRAM.format(body)]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    return subprocess.run(command, cwd=PROJECT, text=True, timeout=60, env=BUFFERED, **streams)


def raises(error: BaseException) -> Callable[[list[str] | None], int]:
    def main(argv: list[str] | None = None) -> int:
        raise error

    return guarded(main)


def test_bad_input_is_one_line_and_2(capsys):
    assert raises(InputError("no list at a.txt"))([]) == 2
    assert capsys.readouterr() == ("", "error: no list at a.txt\n")


def test_a_defect_is_logged_and_raised(caplog):
    with pytest.raises(ZeroDivisionError):
        raises(ZeroDivisionError("of two zeros"))([])
    assert "of two zeros" in caplog.text


def test_the_end_of_another_process_is_not_taken_for_a_defect(capsys, caplog, monkeypatch):
    monkeypatch.setattr("misc.run.distributed.lost_another", lambda error: True)
    assert raises(RuntimeError("gloo: connection closed"))([]) == 1
    assert "another process" in capsys.readouterr().err and "connection closed" not in caplog.text


@pytest.mark.parametrize(
    ("body", "code", "error"),
    [
        ("return 0", 0, ""),
        ("return 3", 3, ""),
        ("sys.exit()", 0, ""),  # as --help does
        ("raise InputError('no list')", 2, "error: no list\n"),
    ],
)
def test_exit_codes(body, code, error):
    done = run(body)
    assert (done.returncode, done.stderr) == (code, error)


def test_a_defect_keeps_its_traceback():
    done = run("return 1 / 0")
    assert done.returncode == 1 and "ZeroDivisionError" in done.stderr


@pytest.mark.parametrize("shell", ["1>&-", "2>&-", "1>&- 2>&-", ">/dev/full", "2>/dev/full"])
def test_a_stream_that_takes_nothing_is_no_error(shell):
    done = run("print('said'); return 0", shell=shell)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_reader_that_leaves_is_no_error():
    """As in `| head`, but the shell would tell the exit code of `head`."""
    command = [sys.executable, "-c", PROGRAM.format("sys.stdin.read(); print('said'); return 0")]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(command, cwd=PROJECT, text=True, env=BUFFERED, **pipes) as process:
        process.stdout.close()
        process.stdin.close()  # it goes on when the reader has left
        assert process.stderr.read() == ""
    assert process.returncode == 0


@pytest.mark.parametrize("shell", ["2>&-", "2>/dev/full"])
def test_bad_input_is_2_even_if_nobody_hears(shell):
    assert run("raise InputError('no list')", shell=shell).returncode == 2


def test_ctrl_c_ends_it_without_a_word():
    done = run("os.kill(os.getpid(), signal.SIGINT)")
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")


def test_a_signal_that_is_ignored_stays_ignored():
    done = run("os.kill(os.getpid(), signal.SIGINT); return 0", preexec_fn=ignore_ctrl_c)
    assert done.returncode == 0, done.stderr


def ignore_ctrl_c() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@pytest.mark.parametrize(
    "error",
    [MemoryError("for a dense CRF"), RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes\ntrace")],
)
def test_no_memory_is_one_line(error, capsys):
    @guarded
    def main(argv=None):
        raise error

    assert main([]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: not enough memory") and len(said.splitlines()) == 1
