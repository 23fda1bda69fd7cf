"""The one error a user is meant to see."""

import re
from collections.abc import Iterable
from difflib import get_close_matches


class InputError(Exception):
    """Something the user gave cannot be used; the text says what, what was expected, and the remedy.

    The driver prints it without a traceback and exits with code 2. Any other exception is a defect
    of this program.
    """


def reason(error: BaseException) -> str:
    """The text of another library's error, on one line: its type and its first line, without terminal colours."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", f"{type(error).__name__}: {error}")
    return " ".join(text.splitlines()[0].split())


def nearest(name: str, known: Iterable[str]) -> str:
    """A question to end a message with, if one of the known names is much like the unknown one; else an empty text."""
    match = get_close_matches(name, list(known), n=1, cutoff=0.7)
    return f" (did you mean {match[0]}?)" if match else ""


def did_you_mean(complaint: str, options: Iterable[str]) -> str:
    """The same for argparse's complaint about an option that does not exist."""
    unknown = re.match(r"unrecognized arguments: (--[^\s=]+)", complaint, re.IGNORECASE)
    known = list(options)  # some are of other commands: an option that one of these has is not misspelt
    return nearest(unknown[1], known) if unknown and unknown[1] not in known else ""
