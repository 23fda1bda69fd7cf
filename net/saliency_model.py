"""Salient object detectors as files: TorchScript (.pt, .pth, .ts, .torchscript) or ONNX (.onnx).

TorchScript is a program by nature: torch's interpreter runs what the file says. Name only files you trust.
"""

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from PIL import Image
from scipy.special import expit

from misc.errors import InputError, reason
from misc.pixels import rescale, stretched
from net.saliency_presets import handling

TORCHSCRIPT = (".pt", ".pth", ".ts", ".torchscript")
FLOATS = {"tensor(float)": np.float32, "tensor(float16)": np.float16}  # what onnxruntime calls them


class Saliency(NamedTuple):
    """What a detector says of an image.

    map              (H, W) float32 in [0, 1]
    lowest, largest  value of its raw output
    """

    map: np.ndarray
    lowest: float
    largest: float


class SaliencyModel:
    """A detector with the preparation of its input and the reading of its output.

    path      the model's file
    settings  of `handling`: a preset, and what replaces its values
    handling  what came of them and of the file
    Raises    InputError if the file is no such model, or the settings contradict each other.
    """

    def __init__(self, path: str | Path, device: torch.device, **settings: Any) -> None:
        self.path = path
        self._network = read_network(path, device)
        self.handling = handling(file_size=self._network.size, **settings)

    @property
    def runs_on(self) -> str:
        """By what it is computed, and where."""
        return self._network.runs_on

    @property
    def on_cuda(self) -> bool:
        return self._network.on_cuda

    def __call__(self, image: np.ndarray) -> Saliency:
        """Saliency of an image; where it is stretched and constant, all of it is 0.

        image     (H, W, 3) uint8 RGB
        Raises    InputError if the model fails or returns something else than one map
        """
        height, width = (side or own for side, own in zip(self.handling.input_size, image.shape[:2], strict=True))
        resized = rescale(image, (height, width), Image.Resampling.BILINEAR)
        raw = self._map(self.handling.pixels.prepare(resized)[None])
        values = self._probability(raw)
        if self.handling.stretch:
            values = stretched(values)
        saliency = rescale(values, image.shape[:2], Image.Resampling.BILINEAR)
        return Saliency(saliency, float(raw.min()), float(raw.max()))

    def _map(self, pixels: np.ndarray) -> np.ndarray:
        """(h, w) float32: the raw map of an input (1, 3, H, W)."""
        output = self._run(pixels, self.handling.map)
        if output is None:
            raise InputError(f"saliency_model: {self.path} has no output {self.handling.map}{self._remedy(pixels)}")
        found = _single_map(output)
        if found is None:
            raise InputError(
                f"saliency_model: {self.path} returns {_shape(output)} as output {self.handling.map}, expected one "
                f"map, 1×1×h×w{self._remedy(pixels)}"
            )
        if not np.isfinite(found).all():
            raise InputError(f"saliency_model: {self.path} returns values that are not finite (NaN or infinite)")
        return found

    def _run(self, pixels: np.ndarray, which: int | str | None) -> Any:
        try:
            return self._network.run(pixels, which)
        except _Failure as error:
            raise InputError(f"saliency_model: {self.path} fails on {error}") from error

    def _remedy(self, pixels: np.ndarray) -> str:
        """All outputs with their shapes, and how to choose one."""
        outputs = self._run(pixels, None)
        listed = ", ".join(
            f"{number}{'' if name == str(number) else f' ({name})'}: {_shape(output)}"
            for number, (name, output) in enumerate(outputs.items())
        )
        return f"; its outputs are {listed or 'none'}: say --saliency_map NUMBER or NAME"

    def _probability(self, values: np.ndarray) -> np.ndarray:
        if self.handling.output == "logit":
            return expit(values)
        low, high = values.min(), values.max()
        if low < -0.001 or high > 1.001:
            raise InputError(
                f"saliency_model: {self.path} returns {low:.3g} to {high:.3g}, which are no probabilities: "
                "say --saliency_output logit if they are to go through a sigmoid"
            )
        return values.clip(0, 1)


def _single_map(output: Any) -> np.ndarray | None:
    """(h, w) float32 of an output 1×1×h×w, 1×h×w×1, 1×h×w or h×w; None if it is not one map."""
    if isinstance(output, torch.Tensor):
        output = output.float().cpu().numpy()
    if not isinstance(output, np.ndarray) or output.size == 0 or output.dtype.kind not in "fiub":
        return None
    if output.ndim == 4 and output.shape[1] != 1 and output.shape[3] == 1:
        output = output[..., 0]
    while output.ndim > 2 and len(output) == 1:
        output = output[0]
    return output.astype(np.float32) if output.ndim == 2 else None


def _shape(output: Any) -> str:
    shape = getattr(output, "shape", None)
    if shape is None:
        return type(output).__name__
    return "×".join(map(str, shape)) or "a number"


class Network(Protocol):
    """A detector's network as its file gives it.

    size      (height, width) that the file is bound to, 0 where it takes any
    runs_on   by what it is computed, and where
    on_cuda   whether that is a CUDA device
    """

    size: tuple[int, int]
    runs_on: str
    on_cuda: bool

    def run(self, pixels: np.ndarray, which: int | str | None) -> Any:
        """An output, None if there is no such one; with `which` None all of them by name, in their order.

        pixels    (1, 3, H, W) float32
        which     its number, counted from the end if negative, or its name
        Raises    _Failure
        """


class _Failure(Exception):
    """A runtime could not compute a network; the text, on one line: on what input, and what the runtime says."""

    def __init__(self, given: np.ndarray, text: str) -> None:
        super().__init__(f"an input of {_shape(given)} {given.dtype} (see --saliency_input_size): {text}")


def read_network(path: str | Path, device: torch.device) -> Network:
    """The network in a file, ready to be called."""
    if not Path(path).is_file():
        raise InputError(f"saliency_model: there is no file {path}")
    ending = Path(path).suffix.lower()
    if ending == ".onnx":
        return _Onnx(path, device)
    if ending in TORCHSCRIPT:
        return _TorchScript(path, device)
    raise InputError(f"saliency_model: {path} ends neither in .onnx nor, as TorchScript, in {', '.join(TORCHSCRIPT)}")


def _name_of(which: int | str, names: Sequence[str]) -> str | None:
    """The name of the output that a number or a name means; names may be numbers, too large to be an output's."""
    if isinstance(which, int) and -len(names) <= which < len(names):
        return names[which]
    return str(which) if str(which) in names else None


class _TorchScript:
    size = (0, 0)

    def __init__(self, path: str | Path, device: torch.device) -> None:
        self._device, self.on_cuda = device, device.type == "cuda"
        self.runs_on = f"TorchScript on {device}"
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # torch has torch.export, detectors are TorchScript
                self._module = torch.jit.load(path, map_location=device).eval()
        except Exception as error:  # a damaged archive can raise anything
            raise InputError(
                f"saliency_model: {path} cannot be read as TorchScript ({reason(error)}): "
                "weights alone are none, export the network with torch.jit.trace(network, example).save(PATH)"
            ) from error

    @torch.inference_mode()
    def run(self, pixels: np.ndarray, which: int | str | None) -> Any:
        try:
            outputs = dict(_leaves(self._module(torch.from_numpy(pixels).to(self._device))))
        except Exception as error:  # whatever the program in the file raises; of its traceback the last line says most
            raise _Failure(pixels, (str(error).strip() or type(error).__name__).splitlines()[-1]) from error
        if which is None:
            return outputs
        name = _name_of(which, list(outputs))
        return None if name is None else outputs[name]


def _leaves(output: Any, name: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors in nested lists and dicts, in order, each named by the numbers and keys that lead to it."""
    if isinstance(output, torch.Tensor):
        yield name or "0", output
    elif isinstance(output, (list, tuple, dict)):
        parts = output.items() if isinstance(output, dict) else enumerate(output)
        for key, part in parts:
            yield from _leaves(part, f"{name}.{key}" if name else str(key))


class _Onnx:
    def __init__(self, path: str | Path, device: torch.device) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise InputError(
                f"saliency_model: {path} needs onnxruntime: pip install -r requirements-onnx.txt, "
                "or export the detector as TorchScript"
            ) from error
        on_card = ("CUDAExecutionProvider", {"device_id": device.index or 0})
        wanted = [on_card] * (device.type == "cuda") + [("CPUExecutionProvider", {})]
        providers = [provider for provider in wanted if provider[0] in onnxruntime.get_available_providers()]
        try:
            self._session = onnxruntime.InferenceSession(str(path), providers=providers)
        except Exception as error:  # its exceptions have no base of their own
            raise InputError(f"saliency_model: {path} cannot be read as ONNX ({reason(error)})") from error
        running = self._session.get_providers()  # without those that could not be started
        self.on_cuda = on_card[0] in running
        card = f" (device_id {on_card[1]['device_id']})" if self.on_cuda else ""
        self.runs_on = f"onnxruntime: {', '.join(running)}{card}"
        self._names = [output.name for output in self._session.get_outputs()]
        inputs = self._session.get_inputs()
        if len(inputs) != 1:
            raise InputError(f"saliency_model: {path} has {len(inputs)} inputs, expected one, 1×3×S×S")
        self._input = inputs[0].name
        # a side that may vary is a name or None; a shape that may vary altogether has no sides
        shape = [side if isinstance(side, int) else 0 for side in inputs[0].shape or (0, 0, 0, 0)]
        if inputs[0].type not in FLOATS or len(shape) != 4:
            raise InputError(
                f"saliency_model: {path} takes {inputs[0].type} of {'×'.join(map(str, inputs[0].shape))}, expected "
                "floats, 1×3×S×S or 1×S×S×3"
            )
        self._dtype = FLOATS[inputs[0].type]
        self._channels_last = shape[3] == 3 != shape[1]
        height, width = shape[1:3] if self._channels_last else shape[2:]
        self.size = height, width

    def run(self, pixels: np.ndarray, which: int | str | None) -> Any:
        name = None if which is None else _name_of(which, self._names)
        if which is not None and name is None:
            return None
        given = pixels.astype(self._dtype)
        if self._channels_last:
            given = np.ascontiguousarray(given.transpose(0, 2, 3, 1))
        try:
            outputs = self._session.run(None if name is None else [name], {self._input: given})
        except Exception as error:  # all lines: which side is how long, and how long it should be
            raise _Failure(given, " ".join((str(error).strip() or type(error).__name__).split())) from error
        return dict(zip(self._names, outputs, strict=True)) if name is None else outputs[0]
