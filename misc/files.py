"""Writing files so that nobody ever reads half of one; removing them; strict JSON."""

import hashlib
import json
import math
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from misc.errors import InputError

ABANDONED_AFTER = 86400  # seconds


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`; rename it to `path` when the block ends well.

    The folder is made if need be. A file system that refuses (full, read-only) is an InputError.
    """
    target = Path(path)
    # `mark` is short and stands for the file's name, which may be as long as the file system allows
    mark = hashlib.blake2b(os.fsencode(target.name), digest_size=6).hexdigest()
    temporary = target.parent / f".{mark}.{_host()}.{os.getpid()}.tmp"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, target)
    except OSError as error:
        raise InputError(f"cannot write {target}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):  # `temporary` is gone after the renaming; after an error, that error counts
            temporary.unlink()


def remove_abandoned(folder: Path) -> None:
    """Remove the temporary files of killed processes: at once if they ran on this machine, else after a day."""
    for path in folder.glob(".*.tmp"):
        *_, host, pid, _ = ("", "", *path.name.split("."))
        with suppress(OSError):  # another process removed the file first
            ours = host == _host() and pid.isdecimal()
            if not _is_alive(int(pid)) if ours else time.time() - path.stat().st_mtime > ABANDONED_AFTER:
                path.unlink()


def remove(path: Path) -> None:
    """Remove a file, if there is one; a file system that refuses is an InputError."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"cannot remove {path}: {error.strerror}") from error


def strict_json(text: str | bytes) -> Any:
    """What a JSON text holds; ValueError also for NaN and infinities, which json.loads accepts."""
    return json.loads(text, parse_float=_finite, parse_constant=_finite)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is no finite number")
    return value


def _host() -> str:
    return socket.gethostname().replace(".", "-").replace("/", "-")


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
