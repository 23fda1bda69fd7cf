"""Salient object detectors as files: TorchScript (.pt, .pth, .ts, .torchscript) or ONNX (.onnx).

TorchScript is a program by nature: torch's interpreter runs what the file says. Name only files you trust.
"""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy.special import expit

from misc.errors import InputError, reason
from misc.pixels import rescale, stretched

TORCHSCRIPT = (".pt", ".pth", ".ts", ".torchscript")
Network = Callable[[np.ndarray], Any]  # (1, 3, S, S) float32 → what the file's network returns


class SaliencyModel:
    """A detector with the preparation of its input and the reading of its output.

    path      the model's file
    side      S: it sees images as squares of S×S pixels
    mean, std of RGB in [0, 1], subtracted and divided by
    logits    its output is to go through a sigmoid
    Raises    InputError if the file is no such model.
    """

    def __init__(
        self,
        path: str | Path,
        device: torch.device,
        *,
        side: int,
        mean: Sequence[float],
        std: Sequence[float],
        logits: bool,
    ) -> None:
        self.path, self.side, self.logits = path, side, logits
        self.mean, self.std = np.array(mean, np.float32), np.array(std, np.float32)
        self._network = read_network(path, device)

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Saliency of an image, stretched to [0, 1] as detectors' own test scripts do; all 0 if it is constant.

        image     (H, W, 3) uint8 RGB
        Returns   (H, W) float32
        Raises    InputError if the model fails or returns something else than one map
        """
        square = rescale(image, (self.side, self.side), Image.Resampling.BILINEAR)
        pixels = ((square.astype(np.float32) / 255 - self.mean) / self.std).transpose(2, 0, 1)[None]
        try:
            output = self._network(np.ascontiguousarray(pixels))
        except Exception as error:  # the two runtimes have exceptions of their own; the last line says most
            text = (str(error).strip() or type(error).__name__).splitlines()[-1]
            wanted = f"an input of 1×3×{self.side}×{self.side} (see --saliency_input_size)"
            raise InputError(f"saliency_model: {self.path} fails on {wanted}: {text}") from error
        return rescale(stretched(self._probability(self._map(output))), image.shape[:2], Image.Resampling.BILINEAR)

    def _map(self, output: Any) -> np.ndarray:
        """(h, w) float32: the only map or, of several, the first, as detectors with side outputs give it."""
        first = output[0] if isinstance(output, (list, tuple)) and output else output
        if isinstance(first, torch.Tensor):
            first = first.float().cpu().numpy()
        if not isinstance(first, np.ndarray):
            raise InputError(f"saliency_model: {self.path} returns {type(first).__name__}, expected a tensor 1×1×h×w")
        if first.ndim != 4 or first.shape[:2] != (1, 1) or first.size == 0:
            shape = "×".join(map(str, first.shape)) or "a number"
            raise InputError(f"saliency_model: {self.path} returns {shape}, expected one map, 1×1×h×w")
        values = first[0, 0].astype(np.float32)
        if not np.isfinite(values).all():
            raise InputError(f"saliency_model: {self.path} returns values that are not finite (NaN or infinite)")
        return values

    def _probability(self, values: np.ndarray) -> np.ndarray:
        if self.logits:
            return expit(values)
        low, high = values.min(), values.max()
        if low < -0.001 or high > 1.001:
            raise InputError(
                f"saliency_model: {self.path} returns {low:.3g} to {high:.3g}, which are no probabilities: "
                "say --saliency_output logit if they are to go through a sigmoid"
            )
        return values


def read_network(path: str | Path, device: torch.device) -> Network:
    """The network in a file, ready to be called."""
    if not Path(path).is_file():
        raise InputError(f"saliency_model: there is no file {path}")
    ending = Path(path).suffix.lower()
    if ending == ".onnx":
        return _onnx(path, device)
    if ending in TORCHSCRIPT:
        return _torchscript(path, device)
    raise InputError(f"saliency_model: {path} ends neither in .onnx nor, as TorchScript, in {', '.join(TORCHSCRIPT)}")


def _torchscript(path: str | Path, device: torch.device) -> Network:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch has torch.export, detectors are still TorchScript
            module = torch.jit.load(path, map_location=device).eval()
    except Exception as error:  # a damaged archive can raise anything
        raise InputError(
            f"saliency_model: {path} cannot be read as TorchScript ({reason(error)}): "
            "weights alone are none, export the network with torch.jit.trace(network, example).save(PATH)"
        ) from error

    @torch.inference_mode()
    def network(pixels: np.ndarray) -> Any:
        return module(torch.from_numpy(pixels).to(device))

    return network


def _onnx(path: str | Path, device: torch.device) -> Network:
    try:
        import onnxruntime
    except ImportError as error:
        raise InputError(
            f"saliency_model: {path} needs onnxruntime: pip install -r requirements-onnx.txt, "
            "or export the detector as TorchScript"
        ) from error
    wanted = ["CUDAExecutionProvider"] * (device.type == "cuda") + ["CPUExecutionProvider"]
    providers = [name for name in wanted if name in onnxruntime.get_available_providers()]
    try:
        session = onnxruntime.InferenceSession(str(path), providers=providers)
    except Exception as error:  # its exceptions have no base of their own
        raise InputError(f"saliency_model: {path} cannot be read as ONNX ({reason(error)})") from error
    inputs = session.get_inputs()
    if len(inputs) != 1:
        raise InputError(f"saliency_model: {path} has {len(inputs)} inputs, expected one, 1×3×S×S")
    return lambda pixels: session.run(None, {inputs[0].name: pixels})
