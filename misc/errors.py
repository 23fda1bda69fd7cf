"""The one error a user is meant to see."""

import re


class InputError(Exception):
    """Something the user gave cannot be used; the text says what, what was expected, and the remedy.

    The driver prints it without a traceback and exits with code 2. Any other exception is a defect
    of this program.
    """


def reason(error: BaseException) -> str:
    """The text of another library's error, on one line: its type and its first line, without terminal colours."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", f"{type(error).__name__}: {error}")
    return " ".join(text.splitlines()[0].split())
