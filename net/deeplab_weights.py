"""Weights of a DeepLab-v2: whose they are is told by their names, and with it which pixels and strides they need.

torchvision's       layer3.0.conv1.weight          stride on the 3×3, RGB with ImageNet's mean and deviation
the community's     layer4.block1.reduce.conv.…    stride on the first 1×1, BGR from 0 to 255 less a mean (Caffe's)

Our checkpoints have the names of the weights that they were started from: `backbone.layer3.0.…` and `aspp.c0.weight`,
or exactly the community's, `base.layer4.block1.…` and `base.aspp.c0.weight`. So they hold all that inference needs to
know: pixels, strides, depth, number of classes.
"""

import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

from misc.errors import InputError
from misc.formats.checkpoint import BACKBONE_HEADS, fill, imagenet_state, read_state, said_under, save_content
from misc.formats.wrapped_state import State, only_meant, prefixes_of, under
from net.deeplab_v2 import BLOCKS, CAFFE, FEATURES, RATES, TORCHVISION, DeepLabV2, Family

HEAD_DEVIATION = 0.01  # of the head's first weights
BACKBONE = re.compile(r"(base|backbone)\.$")
MARKS = {"layer1.0.conv1.weight": TORCHVISION, "layer1.conv1.conv.weight": CAFFE}
THIRD_STAGE = {TORCHVISION: re.compile(r"layer3\.(\d+)\."), CAFFE: re.compile(r"layer4\.block(\d+)\.")}
CAFFE_PARTS = {
    "conv1": "reduce.conv", "bn1": "reduce.bn",
    "conv2": "conv3x3.conv", "bn2": "conv3x3.bn",
    "conv3": "increase.conv", "bn3": "increase.bn",
    "downsample.0": "shortcut.conv", "downsample.1": "shortcut.bn",
}  # fmt: skip


log = logging.getLogger(__name__)


class Found(NamedTuple):
    """What a file of weights is of.

    state     by the names within this project's network; what has no name there keeps its own
    n_labels  of its head; 0: it has none
    """

    family: Family
    depth: int
    state: State
    n_labels: int


def initial_network(
    weights: str, n_labels: int, *, depth: int, seed: int, notice: Callable[[str], None] = log.debug
) -> DeepLabV2:
    """A network to be trained.

    weights   `imagenet` (torchvision's), or a file; its head is taken if it is of as many labels
    seed      of the head's first values, where they are drawn
    notice    told under which prefix the file has the tensors
    Raises    InputError if the file holds no such weights, or those of another depth
    """
    state = imagenet_state(depth, "deeplab_backbone_weights") if weights == "imagenet" else read_state(weights)
    found = recognise(state, weights, notice)
    if found.depth != depth:
        raise InputError(
            f"deeplab_backbone_weights: {weights} is a ResNet-{found.depth}, not a ResNet-{depth}: "
            f"say --deeplab_depth {found.depth}, or name another file"
        )
    taken = found.state
    if found.n_labels != n_labels:
        taken = {name: tensor for name, tensor in taken.items() if not name.startswith("aspp.")} | first_head(
            n_labels, seed
        )
    return _filled(found, taken, n_labels, weights)


def trained_network(path: str | Path, n_labels: int, *, notice: Callable[[str], None] = log.debug) -> DeepLabV2:
    """The network in a checkpoint, of this project or of the community's.

    notice    as of initial_network
    Raises    InputError if it is none, or one of another number of classes
    """
    found = recognise(read_state(path), path, notice)
    if found.n_labels == 0:
        raise InputError(f"{path}: holds a backbone without a head (aspp): train_deeplab makes a whole network of it")
    if found.n_labels != n_labels:
        raise InputError(
            f"{path}: a network of {found.n_labels - 1} classes and background, expected {n_labels - 1} classes "
            "(see --class_names)"
        )
    return _filled(found, found.state, n_labels, path)


def save_network(network: DeepLabV2, path: str | Path) -> None:
    """Save all tensors under the names of the family of its weights."""
    name_of = caffe_name if network.family is CAFFE else str
    prefix = "base." if network.family is CAFFE else ""
    state = {
        f"{prefix}{name_of(name)}": tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()
    }
    save_content(state, path)


def recognise(state: State, source: str | Path, notice: Callable[[str], None] = log.debug) -> Found:
    """Whose weights a state dict holds; InputError if nobody's that is known."""
    marked = {mark: only_meant(prefixes_of(mark, state), source) for mark in MARKS}
    mark, prefix = next(((mark, prefix) for mark, prefix in marked.items() if prefix is not None), (None, ""))
    if mark is None:
        raise InputError(
            f"{source}: neither torchvision's ResNet-50 or -101 nor a DeepLab-v2: no {' and no '.join(MARKS)} in it"
        )
    family, plain = MARKS[mark], _plain(state, prefix, source, notice)
    blocks = len({match[1] for name in plain if (match := THIRD_STAGE[family].match(name))})
    depth = next((depth for depth, stages in BLOCKS.items() if stages[2] == blocks), None)
    if depth is None:
        raise InputError(f"{source}: has {blocks} blocks in its third stage, expected 6 (ResNet-50) or 23 (ResNet-101)")
    head = plain.get("aspp.c0.bias")
    return Found(family, depth, _renamed(plain, family, depth), 0 if head is None else head.numel())


def _plain(state: State, prefix: str, source: str | Path, notice: Callable[[str], None]) -> State:
    """The tensors of backbone and head without what stands before their names.

    prefix    of the backbone's: that of the whole network, and then its own, `base.` or `backbone.`
    """
    whole = BACKBONE.sub("", prefix)
    state = said_under(whole, state, source, notice) if whole else state
    own = prefix.removeprefix(whole)
    head = {name: tensor for name, tensor in state.items() if name.startswith("aspp.")}
    backbone = under(own, state)
    others = len(state) - len(head) - len(backbone)
    if own and others:
        notice(
            f"{source}: {others} tensors belong neither to the backbone nor to a head of DeepLab-v2 and are left aside"
        )
    return head | backbone


def first_head(n_labels: int, seed: int) -> State:
    """The first values of a head: normal weights of deviation .01, no bias."""
    generator = torch.Generator().manual_seed(seed)
    head: State = {}
    for name in RATES:
        head[f"aspp.{name}.weight"] = HEAD_DEVIATION * torch.randn(n_labels, FEATURES, 3, 3, generator=generator)
        head[f"aspp.{name}.bias"] = torch.zeros(n_labels)
    return head


def _filled(found: Found, state: State, n_labels: int, source: str | Path) -> DeepLabV2:
    network = _empty(n_labels, found.depth, found.family)
    fill(network, state, source, ignore=BACKBONE_HEADS)
    return network


def _empty(n_labels: int, depth: int, family: Family) -> DeepLabV2:
    with torch.device("meta"):
        return DeepLabV2(n_labels, depth=depth, family=family)


def _renamed(plain: State, family: Family, depth: int) -> State:
    ours = _empty(1, depth, family).state_dict()
    if family is CAFFE:
        names = {caffe_name(name): name for name in ours}
    else:
        names = {name.removeprefix("backbone."): name for name in ours}
    return {names.get(name, name): tensor for name, tensor in plain.items()}


def caffe_name(name: str) -> str:
    """The community's name of a tensor of ours: `backbone.layer3.0.bn2.bias` is `layer4.block1.conv3x3.bn.bias`."""
    match = re.fullmatch(r"backbone\.layer(\d)\.(\d+)\.(conv\d|bn\d|downsample\.\d)\.(\w+)", name)
    if match:
        stage, block, part, leaf = match.groups()
        return f"layer{int(stage) + 1}.block{int(block) + 1}.{CAFFE_PARTS[part]}.{leaf}"
    return re.sub(r"^backbone\.(conv|bn)1\.", r"layer1.conv1.\1.", name)
