"""What each step needs of a card's memory: python -m benchmarks.card_memory. No card is needed.

The tensors of a step at published settings have sizes and no content (PyTorch's meta device); counted is what lives at
the same time: weights, gradients, momentum, activations. What cuDNN works in, what PyTorch keeps for later and the
CUDA context (about .5 GiB) come on top. All of it in float32.
"""

import weakref
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from misc.method.boundary_loss import boundary_loss
from misc.train.optim import PolySGD
from misc.train.segmentation_loss import segmentation_losses
from net.cpu.fast import fast_on_cpu
from net.deeplab_v2 import TORCHVISION, DeepLabV2
from net.resnet50_cam import ResNet50CAM
from net.resnet50_sbe import ResNet50SBE

META = torch.device("meta")
GIB = 2**30


class Living(TorchDispatchMode):
    """Bytes of the storages that live, and the most there were. Views share their storage."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_iter(out):
            if isinstance(tensor, torch.Tensor):
                self.add(tensor)
        return out

    def add(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key not in self._known:
            self._known.add(key)
            self.now += storage.nbytes()
            self.most = max(self.most, self.now)
            weakref.finalize(storage, self._gone, key, storage.nbytes())

    def _gone(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


def images(n: int, height: int, width: int) -> torch.Tensor:
    return torch.empty(n, 3, height, width, device=META).to(memory_format=torch.channels_last)


def peak(network: torch.nn.Module, work: Callable[[], Any]) -> float:
    """The most that lives during `work`, the network's weights and buffers included, in GiB."""
    living = Living()
    for tensor in (*network.parameters(), *network.buffers()):
        living.add(tensor)
    with living:
        work()
    return living.most / GIB


def training_step(
    network: torch.nn.Module, learn: list[torch.nn.Parameter], loss: Callable[[], torch.Tensor]
) -> Callable[[], None]:
    """Two steps: the first one makes the momentum."""
    optimizer = PolySGD([{"params": learn, "lr": 0.1}], max_step=10, momentum=0.9)

    def work() -> None:
        for _ in range(2):
            optimizer.zero_grad(set_to_none=True)
            loss().backward()
            optimizer.step()

    return work


def train_cam(batch: int) -> float:
    with META:
        network = fast_on_cpu(ResNet50CAM(20).train())
    backbone, classifier = network.trained_parameters()

    def loss() -> torch.Tensor:
        labels = torch.empty(batch, 20, device=META)
        return F.multilabel_soft_margin_loss(network(images(batch, 512, 512)), labels)

    return peak(network, training_step(network, [*backbone, *classifier], loss))


def train_sbe_boundary(batch: int) -> float:
    with META:
        network = fast_on_cpu(ResNet50SBE().eval())

    def loss() -> torch.Tensor:
        maps = torch.empty(batch, 128, 128, dtype=torch.uint8, device=META)
        return boundary_loss(network(images(batch, 512, 512)), maps, maps).total

    return peak(network, training_step(network, network.trained_parameters(), loss))


@torch.no_grad()
def make_cam(height: int, width: int, *, apart: bool) -> float:
    with META:
        network = fast_on_cpu(ResNet50CAM(20).eval())
        keys = torch.empty(2, dtype=torch.int64)
    return peak(network, lambda: network.cam(images(2, 2 * height, 2 * width), keys, apart=apart))


@torch.no_grad()
def make_sem_seg(height: int, width: int, *, apart: bool) -> float:
    with META:
        network = fast_on_cpu(ResNet50SBE().eval())
    return peak(network, lambda: network.edge(images(2, height, width), apart=apart))


def train_deeplab(batch: int, *, depth: int = 101, checkpointing: bool = False) -> float:
    with META:
        network = DeepLabV2(21, depth=depth, family=TORCHVISION).train()
    network.checkpointing = checkpointing
    learn = [parameter for group in network.parameter_groups() for parameter in group]

    def loss() -> torch.Tensor:
        labels = torch.empty(batch, 321, 321, dtype=torch.uint8, device=META)
        return segmentation_losses(network(images(batch, 321, 321)), labels, balanced=False).sum()

    return peak(network, training_step(network, learn, loss))


@torch.no_grad()
def make_deeplab_seg(height: int, width: int) -> float:
    with META:
        network = fast_on_cpu(DeepLabV2(21, depth=101, family=TORCHVISION).eval())

    def work() -> torch.Tensor:
        logits = network.predict(images(1, height, width))
        return F.interpolate(logits, (height, width), mode="bilinear", align_corners=False)[0].softmax(dim=0)

    return peak(network, work)


def table() -> list[tuple[str, float]]:
    """What is done, and the GiB that it needs."""
    rows: list[tuple[str, float]] = [(f"train_cam, {n} crops of 512", train_cam(n)) for n in (16, 8)]
    rows += [(f"train_sbe_boundary, {n} crops of 512", train_sbe_boundary(n)) for n in (16, 8)]
    for height, width in ((375, 500), (1500, 2000), (3000, 4000)):
        for apart in (False, True):
            how = f"{height}×{width}, {'an image alone' if apart else 'with its mirror image'}"
            rows.append((f"make_cam at scale 2, {how}", make_cam(height, width, apart=apart)))
            rows.append((f"make_sem_seg's network, {how}", make_sem_seg(height, width, apart=apart)))
    rows += [
        (f"train_deeplab, {n} crops of 321{', --deeplab_checkpointing' * on}", train_deeplab(n, checkpointing=on))
        for n in (5, 10)
        for on in (False, True)
    ]
    return [*rows, *((f"make_deeplab_seg, {h}×{w}", make_deeplab_seg(h, w)) for h, w in ((375, 500), (1500, 2000)))]


if __name__ == "__main__":
    for what, gib in table():
        print(f"| {what} | {gib:.1f} |")
