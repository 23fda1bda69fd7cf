import numpy as np
import torch

from misc.train.optim import PolySGD


def test_golden(golden):
    g = golden("optimizer")
    start, decay, momentum = torch.from_numpy(g["start"]), float(g["weight_decay"]), float(g["weight_decay"])
    groups = [torch.nn.Parameter(start[:5].clone()), torch.nn.Parameter(start[5:].clone())]
    optimizer = PolySGD(
        [
            {"params": [p], "lr": float(rate), "weight_decay": decay}
            for p, rate in zip(groups, g["base_lrs"], strict=True)
        ],
        max_step=int(g["max_step"]),
        momentum=momentum,  # the published code hands its weight decay to this argument
    )
    for step, gradient in enumerate(torch.from_numpy(g["grads"])):
        groups[0].grad, groups[1].grad = gradient[:5].clone(), gradient[5:].clone()
        optimizer.step()
        np.testing.assert_allclose([group["lr"] for group in optimizer.param_groups], g["lrs"][step], atol=1e-6)
        found = torch.cat([p.detach() for p in groups]).numpy()
        np.testing.assert_allclose(found, g["trajectory"][step], atol=1e-6)


def test_the_rate_stays_after_the_last_step():
    p = torch.nn.Parameter(torch.zeros(1))
    optimizer = PolySGD([{"params": [p], "lr": 1.0, "weight_decay": 0.0}], max_step=2, momentum=0.0)
    rates = []
    for _ in range(4):
        p.grad = torch.zeros(1)
        optimizer.step()
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates == [1.0, 0.5**0.9, 0.5**0.9, 0.5**0.9]
