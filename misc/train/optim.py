"""Optimisers that hold their schedule, so that saving one saves both."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch

POLY_POWER = 0.9


class PolySGD(torch.optim.SGD):
    """Stochastic gradient descent with the polynomial decay of DeepLab, as published: docs/method.md, section 1.

    The rates fall as lr·(1 - step/max_step)^0.9 before each step, and stay after max_step.

    param_groups  dicts with "params" and their own "lr" and "weight_decay"
    max_step      number of steps the decay spans, ≥ 1
    momentum      the published code passes its weight decay as SGD's momentum, hence the odd default of the
                  setting `sgd_momentum`
    """

    def __init__(self, param_groups: Iterable[dict[str, Any]], *, max_step: int, momentum: float) -> None:
        super().__init__(param_groups, lr=0.0, momentum=momentum)
        self.max_step = max_step
        self.steps_done = 0
        self._base_rates = [group["lr"] for group in self.param_groups]

    def _is_new_rate(self) -> bool:
        """Whether the rate of this step differs from the last one's."""
        return self.steps_done < self.max_step

    def step(self, closure: Any = None) -> Any:
        if self._is_new_rate():
            factor = (1 - self.steps_done / self.max_step) ** POLY_POWER
            for group, rate in zip(self.param_groups, self._base_rates, strict=True):
                group["lr"] = rate * factor
        self.steps_done += 1
        return super().step(closure)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "steps_done": self.steps_done}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.steps_done = int(state_dict["steps_done"])


class DeepLabSGD(PolySGD):
    """PolySGD as DeepLab-v2 is trained: the rates fall every ten steps, and are 0 at max_step."""

    EVERY = 10

    def _is_new_rate(self) -> bool:
        return self.steps_done % self.EVERY == 0 and self.steps_done <= self.max_step


def deeplab_groups(
    parameters: Sequence[Sequence[torch.nn.Parameter]], rate: float, weight_decay: float
) -> list[dict[str, Any]]:
    """DeepLab-v2's groups for PolySGD: backbone, weights of the head ten times as fast, its biases twenty times and
    without weight decay."""
    return [
        {"params": list(group), "lr": factor * rate, "weight_decay": weight_decay if decays else 0.0}
        for group, factor, decays in zip(parameters, (1, 10, 20), (True, True, False), strict=True)
    ]


class OneCycleAdamW(torch.optim.AdamW):
    """AdamW whose rate rises to `max_rate` and falls again within `steps` steps.

    Source: Smith & Topin, "Super-Convergence" (2018), by torch's OneCycleLR.
    """

    def __init__(self, params: Iterable[Any], *, max_rate: float, steps: int, weight_decay: float) -> None:
        super().__init__(params, lr=max_rate, weight_decay=weight_decay)
        self._schedule = torch.optim.lr_scheduler.OneCycleLR(self, max_lr=max_rate, total_steps=steps)

    def step(self, closure: Any = None) -> Any:
        loss = super().step(closure)
        self._schedule.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "schedule": self._schedule.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self._schedule.load_state_dict(state_dict["schedule"])
