"""Command lines of the small commands beside run_sample.py: what is wrong with them is said on one line."""

import argparse
from typing import NoReturn

from misc.errors import InputError, did_you_mean


class OneLineParser(argparse.ArgumentParser):
    """An argument parser whose complaints are InputErrors. Names of options are not completed."""

    def __init__(self, **given: object) -> None:
        # a description keeps its lines, since most are the docstring of the command
        defaults = {"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False}
        super().__init__(**(defaults | given))  # type: ignore[arg-type]

    def error(self, message: str) -> NoReturn:
        text = " ".join(message.split())
        raise InputError(text + did_you_mean(text, _options(self)))


def _options(parser: argparse.ArgumentParser) -> list[str]:
    """The options of a parser and of those below it, one of which complains through the one above."""
    below = (action.choices.values() for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    return [*parser._option_string_actions, *(name for each in below for one in each for name in _options(one))]


def whole_number(text: str) -> int:
    """The type of an argument that counts something."""
    if not (text.isascii() and text.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of at least 0")
    return int(text)
