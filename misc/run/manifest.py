"""What the files of a step were made from, kept beside them, so that none is taken for what it is not.

A folder of outputs holds `manifest.json`, a checkpoint has `NAME.manifest.json` beside it: the settings and the inputs
they come from, those of earlier steps included, and the images whose files are the step's own. All of it can be told
before anything runs, since a step's files depend on nothing else. What no manifest mentions is somebody else's.
"""

import hashlib
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from misc.errors import InputError, reason
from misc.files import replacing

FORMAT = 1  # of this file; what the files of a step hold has a version in the step's plan
SHOWN = 3  # differences, or names of files, in one message
BLOCKS, BLOCK = 8, 64  # what is read of a file to tell it from another
UNCHECKED = (".bmp", ".tif", ".tiff")  # images that may hold their pixels as they are, without a checksum


class Origin(NamedTuple):
    """What files were made from.

    steps     step → {"version": number, "settings": {name: value}, "inputs": {name: digest}, "histories": {name: digest
              of the steps an input comes from}}, of all steps that had a part
    images    ID → digest of the inputs that only this image's files depend on
    """

    steps: dict[str, dict[str, Any]]
    images: dict[str, str]


class Manifest(NamedTuple):
    """A manifest as it is on disk.

    step    who made the files
    files   name → digest of each file that was finished; what is claimed and not listed is being made
    """

    step: str
    origin: Origin
    files: dict[str, str]

    def differs(self, path: Path, digest_of: Callable[[Path], str] | None = None) -> bool:
        """Whether a file is there that is not the one this tells of.

        digest_of   default: `sampled`
        """
        found = digest_of or sampled
        return path.name in self.files and os.path.isfile(path) and self.files[path.name] != found(path)

    def is_finished(self, path: Path) -> bool:
        """Whether a file is the finished one that this tells of."""
        return path.name in self.files and os.path.isfile(path) and self.files[path.name] == sampled(path)

    def write(self, path: Path) -> None:
        content = {
            "format": FORMAT,
            "made_by": self.step,
            "steps": self.origin.steps,
            "images": self.origin.images,
            "files": self.files,
        }
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> "Manifest | None":
        """The manifest at `path`, None where there is none; InputError if it is none."""
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content["format"] != FORMAT:
                raise ValueError("of another version of this project")
            step, steps, images, files = (content[name] for name in ("made_by", "steps", "images", "files"))
            for part in steps.values():
                if not (isinstance(part["settings"], dict) and isinstance(part["inputs"], dict)):
                    raise ValueError("no settings or no inputs")
            if not all(isinstance(text, str) for text in (step, *images.values(), *files.values())):
                raise ValueError("a digest is no text")
            return cls(step, Origin(steps, images), files)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise InputError(f"{path}: not a manifest ({reason(error)})") from error


def manifest_path(place: Path, *, is_folder: bool) -> Path:
    return place / "manifest.json" if is_folder else place.with_name(f"{place.name}.manifest.json")


def difference(then: Origin, now: Origin, step: str) -> str:
    """In what two origins of files of `step` differ, in words; empty if one run could have made both."""
    found = []
    for name in sorted(then.steps.keys() | now.steps.keys()):
        ours = f" of {name}" if name != step else ""
        if name not in then.steps or name not in now.steps:
            found.append(f"{name} had {'no' if name not in then.steps else 'a'} part in it then")
            continue
        # manifests were once without versions
        if then.steps[name].get("version", 1) != now.steps[name].get("version", 1):
            found.append(f"this version of the project computes {name} otherwise")
        for kind in ("settings", "inputs"):
            old, new = then.steps[name][kind], now.steps[name][kind]
            # first what both tell of: what only one does may follow from it
            for key in sorted(old.keys() | new.keys(), key=lambda key: (key not in old or key not in new, key)):
                if old.get(key) != new.get(key):
                    found.append(f"{key}{ours}: {_then_and_now(old.get(key), new.get(key))}")
    if not found:  # where two inputs come from different runs of one step, `steps` tells of one of them only
        for name in sorted(then.steps.keys() & now.steps.keys()):
            old, new = (part.get("histories") for part in (then.steps[name], now.steps[name]))
            if old is not None and new is not None and old != new:
                found.append(f"what {name} reads was made in another way")
    changed = [image_id for image_id, part in now.images.items() if then.images.get(image_id, part) != part]
    if changed:
        found.append(f"inputs of {len(changed)} of {len(now.images)} images: {some(changed)}")
    return "; ".join(found[:SHOWN]) + ("; …" if len(found) > SHOWN else "")


def _then_and_now(old: Any, new: Any) -> str:
    if all(isinstance(value, str) and re.fullmatch("[0-9a-f]{16}", value) for value in (old, new)):
        return "another content"
    return f"{old} then, {new} now"


def digest(*parts: bytes | str) -> str:
    """16 hexadecimal digits that tell one sequence of contents from another."""
    state = hashlib.blake2b(digest_size=8)
    for part in parts:
        content = part.encode("utf-8", "surrogateescape") if isinstance(part, str) else part
        state.update(len(content).to_bytes(8, "little") + content)
    return state.hexdigest()


def sampled(path: Path) -> str:
    """A digest of a file's length and of a few blocks spread over it, the ends included.

    Reading a data set to its last byte takes minutes. An image, a map or a checkpoint that is computed
    anew differs everywhere, and in a PNG the last block holds the checksum of its pixels. A TIFF or BMP can be painted
    over between the blocks: all of it counts.
    Raises    InputError if the file cannot be read.
    """
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size <= BLOCKS * BLOCK or path.suffix.lower() in UNCHECKED:
                return digest(str(size), file.read())
            parts = []
            for number in range(BLOCKS):
                file.seek((size - BLOCK) * number // (BLOCKS - 1))
                parts.append(file.read(BLOCK))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    return digest(str(size), *parts)


def some(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
