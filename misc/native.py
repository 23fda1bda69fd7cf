"""C beside Python: compiled where it runs, for the processor it runs on, when it is first needed."""

import ctypes
import hashlib
import logging
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

from misc.errors import InputError
from misc.files import remove_abandoned, replacing

FLAGS = ("-std=c11", "-O3", "-ffp-contract=fast", "-fPIC", "-shared")
log = logging.getLogger(__name__)


@cache
def library(source: Path, *flags: str) -> ctypes.CDLL | None:
    """The functions of a C file; None, and a line in the log, where there is no compiler that takes it.

    It is compiled by $CC (default cc) once for each processor, compiler, set of flags and state of the file, and kept
    in $XDG_CACHE_HOME/sbe (default ~/.cache/sbe).

    flags     besides FLAGS
    """
    try:
        compiler = shlex.split(os.environ.get("CC") or "cc")
        if not compiler or not shutil.which(compiler[0]):
            raise FileNotFoundError(f"no C compiler {' '.join(compiler)!r} (install one, or name it in CC)")
        command = (*compiler, *FLAGS, *flags)
        try:
            return _kept(command, source)
        except (OSError, RuntimeError, InputError):  # no home, or nowhere to write or to load from
            with tempfile.TemporaryDirectory() as folder:  # what is loaded needs its file no more
                return ctypes.CDLL(str(_compiled(command, source, Path(folder) / "library.so")))
    except subprocess.CalledProcessError as error:
        lines = error.stderr.splitlines() or [str(error)]
        said = next((line for line in lines if "error" in line), lines[0])
    except (OSError, ValueError) as error:
        said = str(error)
    log.warning("%s was not compiled, PyTorch computes the same, but slower: %s", source.name, said)
    return None


def _kept(command: Sequence[str], source: Path) -> ctypes.CDLL:
    """Loaded from where it is kept, made if it is not there or is damaged."""
    marks = (source.read_text(), _run(command[0], "--version"), _processor(), *command)
    name = f"{source.stem}-{hashlib.sha256(chr(0).join(marks).encode()).hexdigest()[:16]}.so"
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sbe"
    path = folder / name
    if path.exists():
        with suppress(OSError):
            return ctypes.CDLL(str(path))
    remove_abandoned(folder)
    # several processes may come at once
    with replacing(path) as made, _compiled(command, source, made).open("rb") as file:
        os.fsync(file.fileno())  # after a power cut, half a library would end every run
    return ctypes.CDLL(str(path))


def _compiled(command: Sequence[str], source: Path, target: Path) -> Path:
    try:
        _run(*command, "-march=native", str(source), "-o", str(target))
    except subprocess.CalledProcessError:  # some compilers do not know this processor by that name
        _run(*command, str(source), "-o", str(target))
    return target


def _run(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, errors="replace", check=True).stdout


def _processor() -> str:
    """What a compiler may make use of: a folder may be shared by machines of several kinds."""
    lines: set[str] = set()
    with suppress(OSError):
        every = Path("/proc/cpuinfo").read_text().splitlines()
        lines = {line for line in every if line.startswith(("flags", "Features", "model name"))}
    return "\n".join([platform.machine(), platform.processor(), *sorted(lines)])
