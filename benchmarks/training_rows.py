"""The comparisons of a training step: forward pass, loss, backward pass, update, with the samples in memory."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from benchmarks import inputs, published_networks
from benchmarks.inputs import N_CLASSES, Scale, Size
from benchmarks.rows import Call, Row, Target
from misc.formats.checkpoint import load_weights
from misc.method.boundary_loss import boundary_loss
from misc.run.device import pick_device, to_device
from misc.train.loop import Recipe, train
from misc.train.optim import PolySGD
from misc.train.progress import Progress
from net.cpu.fast import fast_on_cpu
from net.resnet50_cam import ResNet50CAM
from net.resnet50_sbe import ResNet50SBE

LEARNING_RATE = 1e-3  # small, so that the networks stay sane over the repetitions
CPU = pick_device("cpu")


class Samples(torch.utils.data.Dataset):
    """Samples in memory, asked for by (epoch, index), so that no loading is measured."""

    def __init__(self, samples: Sequence[Any], length: int) -> None:
        self.samples, self.length = samples, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, key: tuple[int, int]) -> Any:
        return self.samples[key[1] % len(self.samples)]


class Unsaved(Progress):
    """Saves nothing: steps are measured, not the disk, which is written to once an epoch."""

    def save(self, *state: Any) -> None: ...


class Training(Row):
    """A training step on two crops: forward pass, loss, backward pass, update."""

    unit = "a step of 2 crops"
    amp = False
    rate = LEARNING_RATE
    weights_file: str

    def __init__(self, scale: Scale, folder: Path, size: Size | None = None) -> None:
        super().__init__(scale, folder)
        self.samples: Sequence[Any] = self.make_samples()
        self.batch = [torch.from_numpy(np.stack(part)) for part in zip(*self.samples, strict=True)]

    def make_samples(self) -> Sequence[Any]:
        raise NotImplementedError

    def published_network(self) -> Any:
        raise NotImplementedError

    def our_network(self) -> Any:
        raise NotImplementedError

    def published_loss(self, network: Any, *batch: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    def our_loss(self, network: Any, *batch: torch.Tensor) -> torch.Tensor:
        """The loss as the step computes it."""
        raise NotImplementedError

    def published_parameters(self, network: Any) -> list[nn.Parameter]:
        raise NotImplementedError

    def our_parameters(self, network: Any) -> list[nn.Parameter]:
        return [parameter for parameter in network.parameters() if parameter.requires_grad]

    def published(self) -> Call:
        network = self.filled(self.published_network())
        optimizer = published_networks.sgd([{"params": self.published_parameters(network), "lr": self.rate}])

        def steps() -> None:
            for _ in range(self.scale.steps):
                loss = self.published_loss(network, *self.batch)
                published_networks.training_step(optimizer, network, loss)

        return Call(steps, self.scale.steps)

    def ours(self) -> Call:
        network = self.ready(self.filled(self.our_network()))
        groups = [{"params": self.our_parameters(network), "lr": self.rate, "weight_decay": 1e-4}]
        optimizer = PolySGD(groups, max_step=1000, momentum=1e-4)
        dataset = Samples(self.samples, 2 * self.scale.steps)

        def terms(network: nn.Module, *batch: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"loss": self.our_loss(network, *batch)}

        recipe = Recipe(self.scale.steps, batch_size=2, seed=5, workers=0, device=CPU, amp=self.amp)
        return Call(
            partial(train, network, optimizer, dataset, terms, recipe, desc=self.title,
                    progress=Unsaved(self.folder / "ours.pth", minutes=0)),
            self.scale.steps,
        )  # fmt: skip

    def ready(self, network: Any) -> Any:
        """As the step trains it."""
        return to_device(fast_on_cpu(network), CPU)

    def filled(self, network: Any) -> Any:
        load_weights(network, self.weights / self.weights_file)
        return network

    def differences(self, published_result: Any, ours: Any) -> dict[str, float]:
        """Largest relative difference of the gradient of a parameter that learns, at the same weights."""
        there, here = self.filled(self.published_network()), self.ready(self.filled(self.our_network())).train()
        self.published_loss(there, *self.batch).backward()
        images, *rest = self.batch
        with torch.autocast("cpu", torch.bfloat16, enabled=self.amp):
            loss = self.our_loss(here, images.contiguous(memory_format=torch.channels_last), *rest)
        loss.backward()
        gradients = {name: parameter.grad for name, parameter in here.named_parameters()}
        found = []
        learning = {id(parameter) for parameter in self.published_parameters(there)}
        for name, parameter in there.named_parameters():
            if id(parameter) in learning and parameter.grad is not None:
                gradient = gradients[name]
                assert gradient is not None, f"{name} gets no gradient here"
                found.append(float((gradient - parameter.grad).norm() / parameter.grad.norm()))
        return {"gradients, relative": float(np.max(found))}


class TrainCam(Training):
    title = "train_cam"
    weights_file = "classifier.pth"
    targets: tuple[Target, ...] = (Target("ratio", 1.15), Target("difference", 1e-4))

    def make_samples(self) -> Sequence[Any]:
        return inputs.classifier_batch(self.scale.crop)

    def published_network(self) -> Any:
        return published_networks.PublishedClassifier(N_CLASSES)

    def our_network(self) -> Any:
        return ResNet50CAM(N_CLASSES)

    def published_loss(self, network: Any, *batch: torch.Tensor) -> torch.Tensor:
        return published_networks.classifier_loss(network, *batch)

    def our_loss(self, network: Any, *batch: torch.Tensor) -> torch.Tensor:
        return F.multilabel_soft_margin_loss(network(batch[0]).float(), batch[1])

    def published_parameters(self, network: Any) -> list[nn.Parameter]:
        return self.our_parameters(network)


class BoundaryTraining(Training):
    title = "train_sbe_boundary"
    weights_file = "boundary.pth"
    detach_taps = False
    targets: tuple[Target, ...] = (Target("ratio", 4), Target("difference", 1e-4))

    def make_samples(self) -> Sequence[Any]:
        return inputs.boundary_batch(self.scale.crop)

    def published_network(self) -> Any:
        return published_networks.PublishedBoundaryNetwork(detach_taps=self.detach_taps)

    def our_network(self) -> Any:
        return ResNet50SBE()

    def ready(self, network: Any) -> Any:
        return to_device(fast_on_cpu(network.eval()), CPU)

    def published_loss(self, network: Any, *batch: torch.Tensor) -> torch.Tensor:
        return published_networks.boundary_loss(network, *batch)

    def our_loss(self, network: Any, *batch: torch.Tensor) -> torch.Tensor:
        return boundary_loss(network(batch[0]).float(), batch[1], batch[2]).total

    def published_parameters(self, network: Any) -> list[nn.Parameter]:
        return network.heads()


class BoundaryTrainingDetached(BoundaryTraining):
    title = "train_sbe_boundary, published with its taps detached"
    detach_taps = True
    targets: tuple[Target, ...] = ()


class BoundaryTrainingAmp(BoundaryTraining):
    title = "train_sbe_boundary, ours with --amp"
    amp = True
    targets: tuple[Target, ...] = ()
