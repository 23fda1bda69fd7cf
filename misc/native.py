"""Compiles a C file on the machine that runs it, for its processor, when it is first needed."""

import ctypes
import hashlib
import logging
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

from misc.errors import InputError
from misc.files import remove_abandoned, replacing

FLAGS = ("-std=c11", "-O3", "-ffp-contract=fast", "-fPIC", "-shared")
_one_at_a_time = threading.Lock()  # threads that come at once would all compile
log = logging.getLogger(__name__)


def library(source: Path, *flags: str) -> ctypes.CDLL | None:
    """The functions of a C file; None, and a warning in the log, if no compiler here can compile it.

    $CC (default cc) compiles the file once for each processor, compiler, set of flags and content of the file. The
    library is kept in $XDG_CACHE_HOME/sbe (default ~/.cache/sbe).

    flags     are added to FLAGS
    """
    with _one_at_a_time:
        return _library(source, *flags)


@cache
def _library(source: Path, *flags: str) -> ctypes.CDLL | None:
    try:
        command = (*_compiler(), *FLAGS, *flags)
        try:
            return _load_from_cache(command, source)
        except (OSError, RuntimeError, InputError):  # there is no home folder, or the cache cannot be used
            with tempfile.TemporaryDirectory() as folder:  # a loaded library no longer needs its file
                return ctypes.CDLL(str(_compile(command, source, Path(folder) / "library.so")))
    except subprocess.CalledProcessError as error:
        lines = error.stderr.splitlines() or [str(error)]
        reason = next((line for line in lines if "error" in line), lines[0])
    except (OSError, ValueError) as error:
        reason = str(error)
    log.warning("%s was not compiled, PyTorch computes the same, but slower: %s", source.name, reason)
    return None


def _compiler() -> list[str]:
    """The words of $CC."""
    words = shlex.split(os.environ.get("CC") or "cc")
    if not words or not shutil.which(words[0]):
        raise FileNotFoundError(f"no C compiler {' '.join(words)!r} (install one, or name it in CC)")
    return words


def _load_from_cache(command: Sequence[str], source: Path) -> ctypes.CDLL:
    """Load the library from the cache; compile it first if the cache lacks it or its file is damaged."""
    key = (source.read_text(), _run(command[0], "--version"), _processor(), *command)
    name = f"{source.stem}-{hashlib.sha256(chr(0).join(key).encode()).hexdigest()[:16]}.so"
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sbe"
    path = folder / name
    if path.exists():
        with suppress(OSError):
            return ctypes.CDLL(str(path))
    remove_abandoned(folder)
    # several processes may compile it at once: each writes a file of its own and renames it
    with replacing(path) as written, _compile(command, source, written).open("rb") as file:
        os.fsync(file.fileno())  # after a power cut, half a library would end every run
    return ctypes.CDLL(str(path))


def _compile(command: Sequence[str], source: Path, target: Path) -> Path:
    """Compile the file for this processor or, if the compiler refuses -march=native, for any."""
    try:
        _run(*command, "-march=native", str(source), "-o", str(target))
    except subprocess.CalledProcessError:
        _run(*command, str(source), "-o", str(target))
    return target


def _run(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, errors="replace", check=True).stdout


def _processor() -> str:
    """The instructions that the compiler may use, as text: machines of several kinds may share the cache."""
    lines: set[str] = set()
    with suppress(OSError):
        cpuinfo = Path("/proc/cpuinfo").read_text().splitlines()
        lines = {line for line in cpuinfo if line.startswith(("flags", "Features", "model name"))}
    return "\n".join([platform.machine(), platform.processor(), *sorted(lines)])
