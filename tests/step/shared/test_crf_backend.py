"""Which backend of the dense CRF the settings mean."""

import torch

from misc.config import Config
from misc.crf import c_backend
from step.shared import crf


def test_auto_takes_the_card_for_a_network_alone(monkeypatch):
    monkeypatch.setattr(crf, "pick_device", lambda name: torch.device("cuda", 0))
    monkeypatch.setattr(c_backend, "available", lambda: True)
    assert (crf.backend_of(Config()), crf.backend_of(Config(), of_network=True)) == ("c", "torch")
    assert crf.backend_of(Config(crf_backend="c"), of_network=True) == "c"
    monkeypatch.setattr(crf, "pick_device", lambda name: torch.device("cpu"))
    assert crf.backend_of(Config(), of_network=True) == "c"
