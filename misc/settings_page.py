"""The page of all settings, made of their definitions:

python -m misc.settings_page > docs/settings.md
"""

from collections.abc import Iterator
from dataclasses import Field, fields
from typing import Any, get_args, get_type_hints

from misc.config import DATA, FILES, RUN, Config

INTRODUCTION = """# Settings

Made by `python -m misc.settings_page` from the definitions in [config.py](../misc/config.py). `--help` says the same.
A setting is given on the command line (`--seed 7`) or in a YAML file (`seed: 7`, `--config FILE.yaml`; several as
`--config A.yaml --config B.yaml`, of which the later one wins): defaults < YAML < command line. A switch takes `--x`,
`--x true`, `--x false` or `--no_x`.

A step's settings are kept in the manifest of its files: [other values are refused](reliability.md) until the files are
made anew. Those of the last three groups are not: they name files, or say how a run goes about its work. What they
stand for may be: the content of what is read, how a detector is fed and read (`saliency_…`, presets and files looked
up), and who computes the CRFs (`crf_backend`, as `auto` was understood).
"""
TITLES = {DATA: "What is read", FILES: "Where files are written", RUN: "How it runs"}


def settings_page() -> str:
    """The page as Markdown: a table for each step, or group of steps, that shares settings; then the other groups."""
    groups: dict[tuple[str, ...], list[Field]] = {}
    for f in fields(Config):
        groups.setdefault(f.metadata["of"], []).append(f)
    steps = [of for of in groups if of[0] not in TITLES]
    ordered = [*steps, *((title,) for title in TITLES)]
    return "\n".join([INTRODUCTION, *(line for of in ordered for line in _table(of, groups[of]))])


def _table(of: tuple[str, ...], members: list[Field]) -> Iterator[str]:
    yield f"## {TITLES.get(of[0], ', '.join(of))}\n"
    yield "| setting | default | |\n| --- | --- | --- |"
    for f in members:
        yield f"| `{f.name}` | {_default(f.default)} | {_text(f)} |"
    yield ""


def _default(value: Any) -> str:
    if value is None or value == "":
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return f"`{list(value) if isinstance(value, tuple) else value}`"


def _text(f: Field) -> str:
    """The help, the choices and the range."""
    choices = [f"`{choice}`" for choice in _choices(get_type_hints(Config)[f.name])]
    low, high = f.metadata["low"], f.metadata["high"]
    ranges = [f"at least {low}"] if low is not None and high is None else []
    ranges += [f"{low} to {high}"] if high is not None else []
    return " ".join([f.metadata["help"].replace("|", "\\|"), *([f"One of {', '.join(choices)}."] if choices else []),
                     *(f"({text})" for text in ranges)])  # fmt: skip


def _choices(hint: Any) -> list[Any]:
    """The values of a Literal, of one that may be null too."""
    return [value for part in get_args(hint) for value in (_choices(part) if get_args(part) else [part])
            if isinstance(value, (str, int))]  # fmt: skip


if __name__ == "__main__":
    print(settings_page(), end="")
