"""What many tests need: the golden arrays, a tiny VOC-format set, and the command line."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

PROJECT = Path(__file__).resolve().parent.parent
GOLDEN = PROJECT / "tests" / "golden"


@pytest.fixture(scope="session")
def golden() -> Callable[[str], dict[str, Any]]:
    """golden("random_walk"): the arrays of tests/golden/random_walk.npz by name."""

    def load(name: str) -> dict[str, Any]:
        with np.load(GOLDEN / f"{name}.npz") as arrays:
            return dict(arrays)

    return load


@pytest.fixture(scope="session")
def fill_with_formula() -> Callable[[dict[str, Any]], None]:
    """Overwrite the tensors of a state dict with the formula weights the golden arrays were made with."""
    from tests.golden.formula_weights import fill

    return fill
