"""Network weights: reading them without running code, and refusing what does not fit."""

import argparse
import io
import logging
import os
import pickle
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import safetensors
import safetensors.torch
import torch
from torch import nn
from torchvision.models import ResNet50_Weights, ResNet101_Weights

from misc.errors import InputError, reason
from misc.files import replacing
from misc.formats.wrapped_state import State, prefix_in, tensors_in, under

# The published networks register the same tensors a second and a third time, under these names.
PUBLISHED_DUPLICATES = re.compile(r"(stage\d+|backbone|newly_added|edge_layers)\.|mean_shift\.running_mean$")
# of ImageNet's 1000 classes, or of a training without labels: not used here
BACKBONE_HEADS = re.compile(r"(fc|head|projection_head|projector|predictor|prototypes)\.")

log = logging.getLogger(__name__)
Network = TypeVar("Network", bound=nn.Module)


def read_state(path: str | Path) -> State:
    """The tensors of a `.safetensors` file or of a torch checkpoint, on the CPU, those of dicts within it as well."""
    content = read_content(path)
    state = tensors_in(content) if isinstance(content, dict) else {}
    if not state:
        raise InputError(f"{path}: not a state dict (names and tensors)")
    return state


def read_content(path: str | Path) -> Any:
    """What a `.safetensors` file or a torch file holds, tensors on the CPU; no code in it runs."""
    try:
        if Path(path).suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        with torch.serialization.safe_globals([argparse.Namespace]):  # DINO's options, beside the weights: plain values
            return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such checkpoint") from error
    except pickle.UnpicklingError as error:
        # not torch's own text: that advises to load the file with weights_only=False
        wanted = re.search(r"GLOBAL (\S+)", str(error))
        name = wanted[1] if wanted else "code"
        raise InputError(f"{path}: refused, it holds more than tensors ({name}){_way_out(path, name)}") from error
    except Exception as error:  # a damaged archive can raise anything
        raise InputError(f"{path}: cannot be read as a checkpoint ({reason(error)})") from error


def _way_out(path: str | Path, name: str) -> str:
    """How a pickled model becomes a state dict, unless what it asks for is part of Python, as in an attack."""
    if name.partition(".")[0] in sys.stdlib_module_names:
        return ""
    load = f"m = torch.load({str(path)!r}, map_location='cpu', weights_only=False)"
    target = str(Path(path).with_suffix(".state.pth"))
    save = f"torch.save(m.state_dict() if hasattr(m, 'state_dict') else m['state_dict'], {target!r})"
    return (
        ": if you trust its source, make a state dict of it where its classes can be imported, by two lines of Python: "
        f"`{load}` and `{save}`"
    )


def load_weights(module: nn.Module, path: str | Path, *, notice: Callable[[str], None] = log.debug) -> None:
    """Fill a network from a checkpoint of this project or a published one, wrapped or not.

    notice    told under which prefix the tensors were found
    Raises    InputError naming the first tensor that is missing, misshapen or not of this network.
    """
    fill(module, unwrapped(module, read_state(path), path, notice), path, ignore=PUBLISHED_DUPLICATES)


def load_network(
    network: Callable[[], Network], path: str | Path, *, notice: Callable[[str], None] = log.debug
) -> Network:
    """Build a network with the weights of a checkpoint; random initial values are not drawn.

    notice, Raises    as load_weights
    """
    with torch.device("meta"):
        empty = network()
    load_weights(empty, path, notice=notice)
    return empty


def load_backbone(backbone: nn.Module, weights: str, *, notice: Callable[[str], None] = log.debug) -> None:
    """Fill a ResNet-50 without `fc` from `imagenet`, a path to a state dict, or leave it for `none`.

    notice, Raises    as load_weights
    """
    if weights == "none":
        return
    state = imagenet_state() if weights == "imagenet" else read_state(weights)
    fill(backbone, unwrapped(backbone, state, weights, notice), weights, ignore=BACKBONE_HEADS)


def unwrapped(module: nn.Module, state: State, source: str | Path, notice: Callable[[str], None]) -> State:
    """The tensors of a file that are the network's, without the prefix that they have there."""
    prefix = prefix_in(state, module.state_dict(), source)
    return said_under(prefix, state, source, notice) if prefix else state


def said_under(prefix: str, state: State, source: str | Path, notice: Callable[[str], None]) -> State:
    """The tensors under a prefix, which is said."""
    found = under(prefix, state)
    notice(f"{source}: the weights are its tensors under {prefix!r}, {len(found)} of {len(state)}")
    return found


def imagenet_state(depth: int = 50, setting: str = "backbone_weights") -> State:
    """torchvision's IMAGENET1K_V1 weights of ResNet-50 or -101, from its cache or downloaded into it."""
    weights = {50: ResNet50_Weights, 101: ResNet101_Weights}[depth].IMAGENET1K_V1
    try:
        return weights.get_state_dict(map_location="cpu", check_hash=True, weights_only=True)
    except Exception as error:  # no network, or a damaged cache, which can raise anything
        raise InputError(
            f"cannot get the ImageNet weights ({reason(error)}): download {weights.url} elsewhere "
            f"and pass its path as --{setting}"
        ) from error


def fill(module: nn.Module, state: State, source: str | Path, *, ignore: re.Pattern[str]) -> None:
    """Copy `state` into `module`; every tensor must be there, of the right shape, and none besides.

    A module on the `meta` device, which has no values, takes the tensors themselves.
    """
    expected = module.state_dict()
    for name, tensor in expected.items():
        if name not in state:
            if name.endswith("num_batches_tracked"):  # torch before 0.4.1 did not save it, and nothing reads it
                continue
            raise InputError(f"{source}: the tensor {name} is missing")
        if state[name].shape != tensor.shape:
            shapes = f"{tuple(state[name].shape)}, expected {tuple(tensor.shape)}"
            raise InputError(f"{source}: the tensor {name} has the shape {shapes}")
    for name in state:
        if name not in expected and not ignore.match(name):
            raise InputError(f"{source}: the tensor {name} belongs to no part of this network")
    taken = {name: state[name].to(tensor.dtype) if name in state else torch.zeros(tensor.shape, dtype=tensor.dtype)
             for name, tensor in expected.items()}  # fmt: skip
    module.load_state_dict(taken, assign=any(tensor.is_meta for tensor in expected.values()))


def save_weights(module: nn.Module, path: str | Path) -> None:
    """Save a network's tensors, contiguous and on the CPU, so that any device and layout can load them."""
    save_content({name: tensor.detach().cpu().contiguous() for name, tensor in module.state_dict().items()}, path)


def save_content(content: dict[str, Any], path: str | Path) -> None:
    """Save a dict of tensors and plain values as a torch file, whole or not at all, equal content as equal bytes."""
    # torch.save writes into a buffer: with a path it would put the file's name into the file, and on a full disk
    # raise RuntimeError, which `replacing` does not turn into an InputError
    buffer = io.BytesIO()
    torch.save(content, buffer)
    with replacing(path) as temporary, open(temporary, "wb") as file:
        file.write(buffer.getbuffer())
        file.flush()
        # without fsync a power cut after the renaming could leave an empty file, and the training took hours
        os.fsync(file.fileno())
