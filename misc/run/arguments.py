"""Command lines of the small commands beside run_sample.py: what is wrong with them is said on one line."""

import argparse
from typing import NoReturn

from misc.errors import InputError


class OneLineParser(argparse.ArgumentParser):
    """An argument parser whose complaints are InputErrors. Names of options are not completed."""

    def __init__(self, **given: object) -> None:
        # a description keeps its lines, since most are the docstring of the command
        defaults = {"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False}
        super().__init__(**(defaults | given))  # type: ignore[arg-type]

    def error(self, message: str) -> NoReturn:
        raise InputError(" ".join(message.split()))


def whole_number(text: str) -> int:
    """The type of an argument that counts something."""
    if not (text.isascii() and text.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of at least 0")
    return int(text)
