"""A CUDA device that is not there: tensors that say cuda:0 and compute on the CPU.

They mix with tensors of the CPU no more than CUDA's do. What a card would do is counted: kernels, copies to and from
it, and where the program waits for it. What this cannot show: CUDA's own kernels, their precision and speed, memory
that runs out, NCCL.

Written for the torch that VERSION names, of which it uses private names. To be called in a process of its own, before
the project's modules are imported: `begin` takes inference mode away, with which such tensors do not go together.
"""

import ctypes
import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from torch.optim import optimizer
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_iter, tree_map

from tests.pretended_cuda import streams

VERSION = "2.14"
PROJECT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent

# which take tensors of both kinds
MIXING = {
    *("copy_", "_to_copy", "index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index", "_foreach_copy_")
}
VIEWS = {"_unsafe_view", "_reshape_alias", "lift_fresh", "detach"}  # that torch does not call views
SYNCS = {"_local_scalar_dense", "equal", "is_nonzero", "nonzero"}  # the program waits for what they return
NO_SCALARS = {"addmm", "mm", "bmm", "convolution"}  # take no number of the CPU beside tensors of a card

CARD = SimpleNamespace(
    name="a card that is not there", major=8, minor=6, total_memory=24 * 2**30, multi_processor_count=82
)


class Account:
    """What a card would have done: how often each kind of thing, by the file and function of the project that asks.

    Kinds are kernel, sync (the program waits for a value), upload, download and, for copies that the program does not
    wait for, "upload non_blocking". Views cost nothing and are left out.
    """

    def __init__(self) -> None:
        self.entries: Counter[str] = Counter()
        self.by_step: dict[str, dict[str, int]] = {}
        self.cards_taken: list[torch.device] = []  # by set_device

    def add(self, kind: str) -> None:
        if kind != "view":
            self.entries[f"{kind} {_place()}"] += 1

    @contextmanager
    def of(self, step: str) -> Iterator[None]:
        """What is counted within is this step's."""
        self.entries = Counter()
        yield
        self.by_step[step] = dict(sorted(self.entries.items()))


account = Account()


class Pretended(torch.Tensor):
    """A tensor that says it is on a card; `elem` holds its values.

    finished    whether the program has waited for it, so that every stream may use it
    """

    elem: torch.Tensor
    origin: streams.Origin

    @staticmethod
    def __new__(cls, elem: torch.Tensor, device: torch.device, *, finished: bool) -> "Pretended":
        return torch.Tensor._make_wrapper_subclass(
            cls, elem.size(), strides=elem.stride(), storage_offset=elem.storage_offset(), dtype=elem.dtype,
            layout=elem.layout, device=device, requires_grad=False,
        )  # fmt: skip

    def __init__(self, elem: torch.Tensor, device: torch.device, *, finished: bool) -> None:
        self.elem, self.origin = elem, streams.Origin(finished=finished)

    def __repr__(self) -> str:  # type: ignore[override]
        return f"Pretended({self.elem})"

    def __reduce_ex__(self, protocol: Any) -> Any:  # saved as a tensor of a card is: map_location says where to
        return self.elem.detach().__reduce_ex__(protocol)

    def record_stream(self, stream: Any) -> None:
        self.origin.record(stream)

    def tolist(self) -> Any:  # which torch refuses for classes of others
        return self.cpu().tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class _Mode(TorchDispatchMode):
    """Sees what is made on a card without a tensor of it, such as torch.zeros(3, device="cuda")."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    name = func._schema.name.split("::")[1]
    tensors = [x for x in tree_iter((args, kwargs)) if isinstance(x, torch.Tensor)]
    of_card = [x for x in tensors if isinstance(x, Pretended)]
    _refuse_mixture(name, args, tensors, of_card)
    for x in of_card:
        x.origin.check_use(name)
    device = _device_of_result(name, args, kwargs, of_card)
    kind = _kind(func, name, args, kwargs, device)
    if of_card or device.type == "cuda":
        account.add(kind)
    inner_args, inner_kwargs = tree_map(_elem, args), tree_map(_elem, kwargs)
    if torch.device(kwargs.get("device") or "cpu").type == "cuda":
        inner_kwargs["device"] = torch.device("cpu")
    out = func(*inner_args, **inner_kwargs)
    copies = name == "_to_copy" and device.type != ("cuda" if of_card else "cpu")
    if copies and out.untyped_storage().data_ptr() == inner_args[0].untyped_storage().data_ptr():
        out = out.clone()
    if device.type == "cuda":
        finished = kind == "upload"  # PyTorch waits for a copy, unless told otherwise
        out = tree_map(lambda x: Pretended(x, device, finished=finished) if type(x) is torch.Tensor else x, out)
        if of_card:
            return return_and_correct_aliasing(func, args, kwargs, out)
        return out
    if name.endswith("_") and not name.endswith("__") and isinstance(args[0], torch.Tensor):
        return args[0]
    return out


def _elem(value: Any) -> Any:
    return value.elem if isinstance(value, Pretended) else value


def _refuse_mixture(name: str, args: Any, tensors: list[torch.Tensor], of_card: list[Pretended]) -> None:
    """What CUDA says where tensors lie on different devices. A number (0-d) of the CPU goes with any."""
    others = [x for x in tensors if not isinstance(x, Pretended)]
    if len({x.device for x in of_card}) > 1 and name not in MIXING:
        raise RuntimeError(f"{name}: tensors on different cards")
    if not of_card or not others:
        return
    if name not in MIXING and (name in NO_SCALARS or any(x.dim() > 0 for x in others)):
        shapes = [tuple(x.shape) for x in others]
        raise RuntimeError(f"{name}: Expected all tensors to be on the same device, but found cuda:0 and cpu, {shapes}")
    if "index" in name and isinstance(args[0], torch.Tensor) and not isinstance(args[0], Pretended):
        raise RuntimeError(f"{name}: indices should be on the same device as the indexed tensor (cpu)")


def _device_of_result(name: str, args: Any, kwargs: dict[str, Any], of_card: list[Pretended]) -> torch.device:
    if name == "copy_":
        return args[0].device
    target = kwargs.get("device")
    if target is None:
        return of_card[0].device if of_card else torch.device("cpu")
    device = torch.device(target)
    return torch.device("cuda", device.index or 0) if device.type == "cuda" else device


def _kind(func: Any, name: str, args: Any, kwargs: dict[str, Any], device: torch.device) -> str:
    if name in SYNCS:
        return "sync"
    if name in ("_to_copy", "copy_"):
        source = args[0] if name == "_to_copy" else args[1]
        if source.device.type != device.type:
            waits_not = kwargs.get("non_blocking") or (name == "copy_" and len(args) > 2 and args[2])
            return ("upload" if device.type == "cuda" else "download") + (" non_blocking" if waits_not else "")
    return "view" if func.is_view or name in VIEWS else "kernel"


def _place() -> str:
    """The file and the function of the project that are at work."""
    frame: Any = sys._getframe(1)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(PROJECT) and not path.is_relative_to(HERE) and ".venv" not in path.parts:
            function = frame.f_code.co_qualname.split(".<locals>")[0]  # what a comprehension is in
            return f"{path.relative_to(PROJECT)}:{function}"
        frame = frame.f_back
    return "autograd"  # a thread of its own


def begin() -> None:
    """Before the project's modules are imported: their decorators take no_grad in the place of inference_mode."""
    assert not [name for name in sys.modules if name.split(".")[0] in ("net", "step", "misc")], "too late"

    def inference_mode(mode: Any = True) -> Any:
        if callable(mode):  # a decorator without brackets
            return torch.no_grad()(mode)
        return torch.no_grad() if mode else nullcontext()

    torch.inference_mode = inference_mode  # type: ignore[misc, assignment]


def in_threads(executor: Any) -> Any:
    """A class of executors whose threads see the cards too."""
    return partial(executor, initializer=lambda: _Mode().__enter__())


@contextmanager
def pretended(cards: int = 1) -> Iterator[Account]:
    """Within, there are so many cards.

    Gradients need the libraries of guard.c and libcuda.c in the environment; forward passes do not.
    """
    torch._C._ensureCUDADeviceGuardSet()
    if guard := os.environ.get("LD_PRELOAD"):
        ctypes.CDLL(guard).pretend_count(127)
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    if Pretended not in optimizer._foreach_supported_types:
        optimizer._foreach_supported_types.append(Pretended)
    empty, tensor = torch.empty, torch.tensor
    functions = {
        "Stream": streams.Stream, "stream": streams.on, "current_stream": streams.current,
        "is_available": lambda: True, "device_count": lambda: cards, "current_device": lambda: 0,
        "get_device_properties": lambda device=None: CARD, "set_device": account.cards_taken.append,
        "_lazy_init": lambda: None,
    }  # fmt: skip
    with ExitStack() as stack:
        for name, function in functions.items():
            stack.enter_context(patch.object(torch.cuda, name, function))
        # memory of the CPU, which a card would read by itself; loading threads ask for it
        stack.enter_context(patch.object(torch, "empty", lambda *a, pin_memory=False, **k: empty(*a, **k)))
        # what torch makes of numbers goes to a card below what we see
        stack.enter_context(patch.object(torch, "tensor", lambda *a, device=None, **k: tensor(*a, **k).to(device)))
        stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        stack.enter_context(_Mode())
        yield account
