"""State dicts in the wrappings that trainings save them in: which of the tensors of a file are the network's.

DataParallel puts `module.` before each name, OpenMMLab `backbone.`, MoCo `module.encoder_q.`, and trainings put the
state dict beside others: {"state_dict": …, "optimizer": …}, {"model": …}, {"net": …}, {"model_state": …}, DINO's
{"student": …, "teacher": …}. None of these is looked for by its name: the key of a nested dict becomes a part of the
names in it, and a network's tensors are those that all begin with the same text.
"""

from collections.abc import Mapping
from typing import Any

import torch

from misc.errors import InputError

State = dict[str, torch.Tensor]
DEEPEST = 4  # dicts within each other
COPIES = {
    "encoder_k.": "encoder_q.",
    "student.": "teacher.",
}  # copies that a training keeps, and the network that is meant


def tensors_in(content: Mapping[Any, Any], prefix: str = "", depth: int = 0) -> State:
    """All tensors of a dict and of the dicts in it, by their keys, which dots join; nothing else that it has."""
    found: State = {}
    for name, value in content.items():
        if not isinstance(name, str):
            continue
        if isinstance(value, torch.Tensor):
            found[prefix + name] = value
        elif isinstance(value, Mapping) and depth < DEEPEST:
            found |= tensors_in(value, f"{prefix}{name}.", depth + 1)
    return found


def prefix_in(state: State, expected: State, source: object) -> str:
    """What stands before the names of a network's tensors: the one text under which all are there, of the right shapes.

    expected  the network's own tensors
    source    of `state`, for the error
    Returns   the prefix; where none fits, the one under which most of the names are there
    Raises    InputError if several fit
    """
    # files of old lack the counters
    own = {name: tensor.shape for name, tensor in expected.items() if not name.endswith("num_batches_tracked")}

    def fits(prefix: str) -> bool:
        return all(prefix + name in state and state[prefix + name].shape == shape for name, shape in own.items())

    if fits("") or not own:
        return ""
    candidates = prefixes_of(next(iter(own)), state)
    meant = only_meant([prefix for prefix in candidates if fits(prefix)], source)
    if meant is not None:
        return meant
    return max(["", *candidates], key=lambda prefix: sum(prefix + name in state for name in own))


def prefixes_of(name: str, state: State) -> list[str]:
    """What stands before a name, wherever it ends one of the names in a state dict."""
    return sorted({found.removesuffix(name) for found in state if found == name or found.endswith(f".{name}")})


def only_meant(prefixes: list[str], source: object) -> str | None:
    """The prefix among some that is meant, None if there is none; InputError if more than one might be."""
    bare = {prefix.replace("module.", "") for prefix in prefixes}  # DINO's student has it, its teacher need not
    copies = {
        prefix
        for prefix in prefixes
        for copy, meant in COPIES.items()
        if copy in prefix and prefix.replace("module.", "").replace(copy, meant) in bare
    }
    left = [prefix for prefix in prefixes if prefix not in copies]
    if len(left) > 1:
        raise InputError(
            f"{source}: holds several such networks, under {' and '.join(map(repr, left))}: save the tensors of one "
            "by themselves"
        )
    return left[0] if left else None


def under(prefix: str, state: State) -> State:
    """The tensors under a prefix by their names without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
