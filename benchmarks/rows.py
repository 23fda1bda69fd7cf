"""What a comparison is (the published computation and ours on the same input), and that of the random walk.

A row is made twice for its peak memory, in fresh processes that build one side only, and once for its times.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from benchmarks import inputs, published
from benchmarks.inputs import Scale, Size
from misc.method.random_walk import random_walk


class Target(NamedTuple):
    """At least `limit` for a "ratio", at most `limit` for "ours_mb", "ours_s" or "difference"."""

    what: str
    limit: float


class Call(NamedTuple):
    """One measured call and how many units (images, steps …) it works through."""

    run: Callable[[], Any]
    units: int = 1


class Row:
    """One comparison. `slow`: the published side takes minutes, so it is run fewer times and not warmed up; `clock`: of
    one thread, "cpu" counts what it alone has taken."""

    title: str
    unit = "an image"
    slow = False
    clock: Literal["wall", "cpu"] = "wall"
    targets: tuple[Target, ...] = ()

    def __init__(self, scale: Scale, folder: Path, size: Size | None = None) -> None:
        self.scale, self.folder = scale, folder
        self.weights = folder / "weights"
        self.root = folder / "voc_{}x{}".format(*scale.image)

    def published(self) -> Call:
        raise NotImplementedError

    def ours(self) -> Call:
        raise NotImplementedError

    def differences(self, published: Any, ours: Any) -> dict[str, float]:
        """Named differences of the two results; the first is what a target speaks of."""
        raise NotImplementedError


class Walk(Row):
    title = "random walk, 2 classes"
    slow = True
    targets: tuple[Target, ...] = (Target("ratio", 1000), Target("ours_mb", 100), Target("difference", 1e-4))

    def __init__(self, scale: Scale, folder: Path, size: Size | None = None) -> None:
        super().__init__(scale, folder)
        self.cam, self.edge = inputs.walk_input(size or scale.grid)
        if size:
            self.targets = (Target("ours_s", 1), Target("ours_mb", 500)) if size == (250, 250) else ()

    def published(self) -> Call:
        published.random_walk_dense(*inputs.walk_input((6, 7)))  # loads the libraries
        return Call(lambda: published.random_walk_dense(self.cam, self.edge))

    def ours(self) -> Call:
        random_walk(*inputs.walk_input((6, 7)), beta=5, exp_times=8)
        return Call(lambda: [random_walk(self.cam, self.edge, beta=5, exp_times=8) for _ in range(5)][-1], units=5)

    def differences(self, published_result: torch.Tensor, ours: torch.Tensor) -> dict[str, float]:
        exact = published.random_walk_double(self.cam.numpy(), self.edge.numpy())
        return {
            "ours – float64": float(np.abs(ours.numpy() - exact).max()),
            "published – float64": float(np.abs(published_result.numpy() - exact).max()),
        }
