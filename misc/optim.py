"""Stochastic gradient descent with the polynomial decay of DeepLab, as published (SPEC 1)."""

from collections.abc import Iterable
from typing import Any

import torch

POLY_POWER = 0.9


class PolySGD(torch.optim.SGD):
    """SGD whose rates fall as lr·(1 - step/max_step)^0.9 before each step, and stay after max_step.

    param_groups  dicts with "params" and their own "lr" and "weight_decay"
    max_step      number of steps the decay spans, ≥ 1
    momentum      the published code hands its weight decay to SGD's momentum argument, hence the
                  odd default of the setting `sgd_momentum`
    """

    def __init__(self, param_groups: Iterable[dict[str, Any]], *, max_step: int, momentum: float) -> None:
        super().__init__(param_groups, lr=0.0, momentum=momentum)
        self.max_step = max_step
        self.steps_done = 0
        self._base_rates = [group["lr"] for group in self.param_groups]

    def step(self, closure: Any = None) -> Any:
        if self.steps_done < self.max_step:
            factor = (1 - self.steps_done / self.max_step) ** POLY_POWER
            for group, rate in zip(self.param_groups, self._base_rates, strict=True):
                group["lr"] = rate * factor
        self.steps_done += 1
        return super().step(closure)
