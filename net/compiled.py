"""C beside Python: compiled where it runs, for the processor it runs on, when it is first needed."""

import ctypes
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

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
        made = _kept(source, (*FLAGS, *flags))
        return ctypes.CDLL(str(made))
    except subprocess.CalledProcessError as error:
        said = (error.stderr.strip() or str(error)).splitlines()[0]
    except OSError as error:
        said = str(error)
    log.warning("%s was not compiled, PyTorch computes the same, but slower: %s", source.name, said)
    return None


def _kept(source: Path, flags: tuple[str, ...]) -> Path:
    """The compiled file, made if it is not there."""
    compiler = os.environ.get("CC") or "cc"
    if not shutil.which(compiler):
        raise FileNotFoundError(f"no C compiler {compiler!r} (install one, or name it in CC)")
    version = _run(compiler, "--version")
    marks = (source.read_text(), version, _processor(), *flags)
    name = f"{source.stem}-{hashlib.sha256(chr(0).join(marks).encode()).hexdigest()[:16]}.so"
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sbe"
    if (folder / name).exists():
        return folder / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as beside:  # several processes may come at once
            return _compiled(compiler, flags, source, Path(beside) / name).rename(folder / name)
    except (OSError, RuntimeError):  # no home, or nowhere to write
        return _compiled(compiler, flags, source, Path(tempfile.mkdtemp()) / name)


def _compiled(compiler: str, flags: tuple[str, ...], source: Path, target: Path) -> Path:
    try:
        _run(compiler, "-march=native", *flags, str(source), "-o", str(target))
    except subprocess.CalledProcessError:  # some compilers do not know this processor by that name
        _run(compiler, *flags, str(source), "-o", str(target))
    return target


def _run(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _processor() -> str:
    """What a compiler may make use of: a folder may be shared by machines of several kinds."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return "\n".join(sorted({line for line in lines if line.startswith(("flags", "Features", "model name"))}))
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
