"""The comparisons of DeepLab-v2 on ResNet-101: a training step, the prediction of an image, and the CRF beside it."""

from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks import inputs, published_networks
from benchmarks.inputs import N_CLASSES, Scale, Size
from benchmarks.rows import Call, Row, Target
from benchmarks.step_rows import StepRow
from benchmarks.training_rows import CPU, Training
from misc.pixels import CAFFE_PIXELS
from misc.run.device import to_device
from misc.train.segmentation_loss import segmentation_losses
from net.cpu.fast import fast_on_cpu
from net.deeplab_v2 import CAFFE, DeepLabV2, training_layout
from net.deeplab_weights import caffe_name, save_network
from step import make_deeplab_seg
from step.shared.data import DataSet
from tests.golden.formula_weights_deeplab import fill

CROP = 321


def deeplab() -> DeepLabV2:
    """DeepLab-v2 on ResNet-101 with formula weights."""
    with torch.device("meta"):
        network = DeepLabV2(N_CLASSES + 1, depth=101, family=CAFFE)
    network.to_empty(device="cpu")
    fill({caffe_name(name): tensor for name, tensor in network.state_dict().items()})
    return network


def published_deeplab() -> published_networks.PublishedDeepLab:
    network = deeplab()
    return published_networks.PublishedDeepLab(network.backbone, network.aspp)


class TrainDeepLab(Training):
    title = "train_deeplab, ResNet-101, crops of 321"
    rate = 1e-5
    targets: tuple[Target, ...] = (Target("ratio", 1.2), Target("difference", 2e-3))

    def make_samples(self) -> Sequence[Any]:
        side = min(self.scale.crop, CROP)
        pictures = [inputs.picture((side, side), number) for number in range(2)]
        return [(CAFFE_PIXELS.prepare(image), mask.astype(np.uint8)) for image, mask, _, _ in pictures]

    def published_network(self) -> Any:
        return published_deeplab()

    def our_network(self) -> Any:
        return deeplab().train()

    def filled(self, network: Any) -> Any:
        return network

    def ready(self, network: Any) -> Any:
        return to_device(network, CPU, training_layout(CPU))

    def published_loss(self, network: Any, *batch: torch.Tensor) -> torch.Tensor:
        return segmentation_losses(network(batch[0]), batch[1], balanced=False).sum()

    def our_loss(self, network: Any, *batch: torch.Tensor) -> torch.Tensor:
        images, labels = batch
        return self.published_loss(network, images.contiguous(memory_format=training_layout(CPU)), labels)

    def published_parameters(self, network: Any) -> list[nn.Parameter]:
        return [parameter for name, parameter in network.named_parameters() if parameter.ndim == 4 or "aspp" in name]


class PredictDeepLab(Row):
    title = "DeepLab-v2's prediction, ResNet-101, without CRF"
    targets: tuple[Target, ...] = (Target("ratio", 1.25), Target("difference", 1e-4))

    def __init__(self, scale: Scale, folder: Path, size: Size | None = None) -> None:
        super().__init__(scale, folder)
        image = inputs.picture(size or scale.image, 0)[0]
        self.image = torch.from_numpy(CAFFE_PIXELS.prepare(image))[None] / 100  # the formula's weights ask for about 1

    def published(self) -> Call:
        network = published_deeplab()
        return Call(torch.inference_mode()(lambda: network(self.image)[-1]))

    def ours(self) -> Call:
        network = to_device(fast_on_cpu(deeplab().eval()), CPU)
        image = self.image.contiguous(memory_format=torch.channels_last)
        return Call(torch.inference_mode()(lambda: network.predict(image)))  # type: ignore[operator]

    def differences(self, published: torch.Tensor, ours: torch.Tensor) -> dict[str, float]:
        return {"logits": float((published - ours).abs().max())}


class MakeDeepLabSeg(StepRow):
    """The step against the slower of its two parts, which is the network: what the CRF beside it costs."""

    title = "make_deeplab_seg, ResNet-101; as published: its network alone"
    targets: tuple[Target, ...] = (Target("ratio", 1 / 1.15),)

    def __init__(self, scale: Scale, folder: Path, size: Size | None = None) -> None:
        super().__init__(scale, folder)
        weights = self.weights / "deeplab.pth"
        if not weights.exists():
            save_network(deeplab(), weights)
        self.args = replace(
            self.args, deeplab_weights_name=str(weights), deeplab_out_dir=str(self.here / "deeplab"), overwrite=True
        )
        self.ids = list(self.keys)[:4]

    def published_names(self) -> list[str]:
        return self.ids

    def published_all(self) -> None:
        deque(make_deeplab_seg.predict(self.args, DataSet(self.args), self.ids, CPU), maxlen=0)

    def ours(self) -> Call:
        return Call(lambda: make_deeplab_seg.make(self.args, self.ids), len(self.ids))

    def differences(self, published_result: None, ours: None) -> dict[str, float]:
        return {}
