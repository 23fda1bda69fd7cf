"""Network weights: reading them without running code, and refusing what does not fit."""

import io
import os
import pickle
import re
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

# The published networks register the same tensors a second and a third time, under these names.
PUBLISHED_DUPLICATES = re.compile(r"(stage\d+|backbone|newly_added|edge_layers)\.|mean_shift\.running_mean$")
IMAGENET_FC = re.compile(r"fc\.(weight|bias)$")  # of ImageNet's 1000 classes: not used here

State = dict[str, torch.Tensor]
Network = TypeVar("Network", bound=nn.Module)


def read_state(path: str | Path) -> State:
    """The tensors of a `.safetensors` file or of a torch checkpoint, on the CPU."""
    state = read_content(path)
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in state.items()
    ):
        raise InputError(f"{path}: not a state dict (names and tensors)")
    return state


def read_content(path: str | Path) -> Any:
    """What a `.safetensors` file or a torch file holds, tensors on the CPU; no code in it runs."""
    try:
        if Path(path).suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such checkpoint") from error
    except pickle.UnpicklingError as error:
        # not torch's own text: that advises to load the file with weights_only=False
        wanted = re.search(r"GLOBAL (\S+)", str(error))
        raise InputError(f"{path}: refused, it holds more than tensors ({wanted[1] if wanted else 'code'})") from error
    except Exception as error:  # a damaged archive can raise anything
        raise InputError(f"{path}: cannot be read as a checkpoint ({reason(error)})") from error


def load_weights(module: nn.Module, path: str | Path) -> None:
    """Fill a network from a checkpoint of this project or a published one.

    Raises    InputError naming the first tensor that is missing, misshapen or not of this network.
    """
    fill(module, read_state(path), path, ignore=PUBLISHED_DUPLICATES)


def load_network(network: Callable[[], Network], path: str | Path) -> Network:
    """Build a network with the weights of a checkpoint; random initial values are not drawn.

    Raises    as load_weights
    """
    with torch.device("meta"):
        empty = network()
    load_weights(empty, path)
    return empty


def load_backbone(backbone: nn.Module, weights: str) -> None:
    """Fill a ResNet-50 without `fc` from `imagenet`, a path to a state dict, or leave it for `none`."""
    if weights == "none":
        return
    state = imagenet_state() if weights == "imagenet" else read_state(weights)
    fill(backbone, state, weights, ignore=IMAGENET_FC)


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
