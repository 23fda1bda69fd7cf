"""Exchange between processes on cards that are not there: gloo does what NCCL would, and it is written down.

Pretended tensors are refused by gloo's group, and tensors of the CPU by NCCL's, as these libraries do.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
import torch.distributed as dist
from torch import nn

from tests.pretended_cuda.device import Pretended

exchanged: list[list[Any]] = []  # what, on which device, in order; of a group its backend and its timeout in seconds

_nccl: list[Any] = []  # the groups that say they are NCCL's


class AveragesGradients(nn.Module):
    """In the place of DistributedDataParallel, which reads memory that is not there."""

    def __init__(self, module: nn.Module, device_ids: list[int], process_group: Any, **options: bool) -> None:
        super().__init__()
        self.module, self._group, self._syncs = module, process_group, True
        self._learn = [p for p in module.parameters() if p.requires_grad]
        self._without = len(self._learn)
        (device,) = {p.device for p in module.parameters()}
        assert device_ids == [device.index] and process_group in _nccl
        exchanged.append(["DistributedDataParallel", str(device)])
        for parameter in self._learn:
            parameter.register_post_accumulate_grad_hook(self._arrived)

    def forward(self, *args: Any) -> Any:
        return self.module(*args)

    @contextmanager
    def no_sync(self) -> Iterator[None]:
        self._syncs = False
        yield
        self._syncs = True

    def _arrived(self, parameter: torch.Tensor) -> None:
        self._without -= 1
        if self._without == 0:  # in the same order in all processes
            self._without = len(self._learn)
            if self._syncs:
                for learner in self._learn:
                    assert learner.grad is not None
                    dist.all_reduce(learner.grad, group=self._group)
                    learner.grad.div_(dist.get_world_size())


@contextmanager
def pretended_nccl() -> Iterator[None]:
    new_group, all_reduce = dist.new_group, dist.all_reduce

    def make_group(*, backend: str, timeout: Any) -> Any:
        group = new_group(backend="gloo", timeout=timeout)
        exchanged.append(["new_group", backend, timeout.total_seconds()])
        if backend == "nccl":
            _nccl.append(group)
        return group

    def reduce(tensor: torch.Tensor, group: Any = None) -> None:
        on_card = isinstance(tensor, Pretended)
        if on_card != (group in _nccl):
            raise RuntimeError(f"all_reduce: a tensor on {tensor.device}, which this group's backend does not take")
        if not exchanged or exchanged[-1] != ["all_reduce", tensor.device.type]:
            exchanged.append(["all_reduce", tensor.device.type])
        all_reduce(tensor.elem if isinstance(tensor, Pretended) else tensor, group=group)

    from misc.train import loop

    with ExitStack() as stack:
        stack.enter_context(patch.object(dist, "new_group", make_group))
        stack.enter_context(patch.object(dist, "all_reduce", reduce))
        stack.enter_context(patch.object(loop, "DistributedDataParallel", AveragesGradients))
        yield
