"""How a command ends: its exit code, and one line for whoever started it."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
import torch.distributed as dist

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


CLOSED = "[gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:59434"
NCCL = """NCCL error in: /pytorch/torch/csrc/distributed/c10d/NCCLUtils.cpp:94, {}, NCCL version 2.27.5
{}
Last error:
{}
Exception raised from create at NCCLUtils.cpp:94 (most recent call first):
C++ CapturedTraceback:
#4 c10::Error::Error() from ??:0"""
NO_KERNEL = """CUDA error: no kernel image is available for execution on the device
CUDA kernel errors might be asynchronously reported at some other API call, so the stacktrace might be incorrect."""
ILLEGAL = "CUDA error: an illegal memory access was encountered\nFor debugging consider passing CUDA_LAUNCH_BLOCKING=1"
NO_NETWORK = NCCL.format(
    "internal error", "ncclInternalError: Internal check failed.", "Bootstrap : no socket interface"
)
REMOTE = NCCL.format("remote error", "ncclRemoteError: … or a remote process exiting prematurely.", "no reply")


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), 2, ("2.00 GiB", "batch", "--amp")),
        (RuntimeError(NO_KERNEL), 2, ("no kernel image", "install a PyTorch", "--device cpu")),
        (RuntimeError(ILLEGAL), 2, ("the card failed", "illegal memory access", "run it again")),
        (getattr(torch, "AcceleratorError", RuntimeError)(ILLEGAL), 2, ("the card failed", "illegal memory access")),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), 2, ("the card failed", "CUDNN_STATUS")),
        (dist.DistBackendError(NO_NETWORK), 2, ("no socket interface", "NCCL_DEBUG=INFO")),
        (dist.DistBackendError(REMOTE), 1, ("another process", "ncclRemoteError")),
        (RuntimeError(CLOSED), 1, ("another process", "Connection closed by peer")),
        (RuntimeError("[gloo/transport/tcp/unbound_buffer.cc:81] Timed out waiting 9ms"), 2, ("exchange", "Timed out")),
    ],
)
def test_a_failure_of_the_machine_is_one_line_with_the_remedy(error, code, said, capsys, caplog, monkeypatch):
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    assert raises(error)([]) == code
    line = capsys.readouterr().err
    assert len(line.splitlines()) == 1 and "Traceback" not in line and "CapturedTraceback" not in line
    assert all(words in line for words in said)
    assert code == 1 or "another process of this run" not in line
    assert "Traceback" in caplog.text and "defect" not in caplog.text  # the log file keeps it


def test_without_other_processes_an_error_is_none_of_theirs():
    with pytest.raises(RuntimeError):
        raises(RuntimeError(CLOSED))([])


def test_the_allocator_is_set_before_torch_is_imported(monkeypatch):
    monkeypatch.delitem(BUFFERED, "PYTORCH_CUDA_ALLOC_CONF", raising=False)
    body = "print(os.environ['PYTORCH_CUDA_ALLOC_CONF']); assert 'torch' not in sys.modules; return 0"
    assert run(body).stdout == "expandable_segments:True\n"
    monkeypatch.setitem(BUFFERED, "PYTORCH_ALLOC_CONF", "backend:native")  # the user's own settings stay alone
    assert run("print(os.environ.get('PYTORCH_CUDA_ALLOC_CONF')); return 0").stdout == "None\n"


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
