import numpy as np
import pytest
import torch

from misc.train.optim import DeepLabSGD, PolySGD, deeplab_groups


def test_golden(golden, device):
    g = golden("optimizer")
    start, decay, momentum = torch.from_numpy(g["start"]), float(g["weight_decay"]), float(g["weight_decay"])
    groups = [torch.nn.Parameter(part.clone().to(device)) for part in (start[:5], start[5:])]
    optimizer = PolySGD(
        [
            {"params": [p], "lr": float(rate), "weight_decay": decay}
            for p, rate in zip(groups, g["base_lrs"], strict=True)
        ],
        max_step=int(g["max_step"]),
        momentum=momentum,  # the published code hands its weight decay to this argument
    )
    for step, gradient in enumerate(torch.from_numpy(g["grads"]).to(device)):
        groups[0].grad, groups[1].grad = gradient[:5].clone(), gradient[5:].clone()
        optimizer.step()
        np.testing.assert_allclose([group["lr"] for group in optimizer.param_groups], g["lrs"][step], atol=1e-6)
        found = torch.cat([p.detach() for p in groups]).cpu()
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


@pytest.mark.parametrize(("name", "max_step", "steps"), [
    ("lr_max20000", 20000, 45),
    ("lr_max50_iterations_1_to_65", 50, 65),
    ("lr_max45_iterations_1_to_65", 45, 65),
])  # fmt: skip
def test_golden_rates_of_deeplab(golden, name, max_step, steps):
    parameters = [torch.nn.Parameter(torch.zeros(1)) for _ in range(3)]
    groups = [
        {"params": p, "lr": n * 2.5e-4, "weight_decay": 0.0} for p, n in zip(parameters, (1, 10, 20), strict=True)
    ]
    optimizer = DeepLabSGD(groups, max_step=max_step, momentum=0.9)
    rates = []
    for _ in range(steps):
        optimizer.step()
        rates.append([group["lr"] for group in optimizer.param_groups])
    np.testing.assert_allclose(rates, golden("deeplab_optimizer")[name], rtol=1e-12)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize(("name", "max_step", "rate"), [("six", 20000, 2.5e-4), ("loud", 50, 0.02)])
def test_golden_steps_of_deeplab(golden, name, max_step, rate, dtype, tolerance, device):
    g = golden("deeplab_optimizer")
    parameters = [torch.nn.Parameter(torch.from_numpy(g[f"p0_group{n}"]).to(device, dtype)) for n in range(3)]
    optimizer = DeepLabSGD(deeplab_groups([[p] for p in parameters], rate, 5e-4), max_step=max_step, momentum=0.9)
    for step in range(len(g[f"{name}_grads_group0"])):
        for n, parameter in enumerate(parameters):
            parameter.grad = torch.from_numpy(g[f"{name}_grads_group{n}"][step]).to(device, dtype)
        optimizer.step()
        for n, parameter in enumerate(parameters):
            np.testing.assert_allclose(
                parameter.detach().cpu(), g[f"{name}_params_group{n}"][step], rtol=tolerance, atol=0
            )
