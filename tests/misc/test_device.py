"""Which device a process takes."""

import pytest
import torch

from misc.device import pick_device
from misc.errors import InputError


def test_each_process_of_torchrun_takes_its_own(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert pick_device("auto") == torch.device("cuda")
    assert pick_device("cuda:1") == torch.device("cuda:1")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert pick_device("auto") == pick_device("cuda") == torch.device("cuda:1")
    with pytest.raises(InputError, match="one device for several processes: say cuda"):
        pick_device("cuda:0")
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(InputError, match="torch sees 2 CUDA devices"):
        pick_device("cuda")
    assert pick_device("cpu") == torch.device("cpu")
