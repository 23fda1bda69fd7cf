"""A card that fails in the midst of a step: the command line says one line and ends with 2, the log has the rest."""

import pytest
import torch
import torch.distributed as dist

from run_sample import main
from tests.test_chain import only

NCCL = "NCCL error in: NCCLUtils.cpp:94, internal error\nLast error:\nBootstrap : no socket interface"
ILLEGAL = "CUDA error: an illegal memory access was encountered\nFor debugging consider passing CUDA_LAUNCH_BLOCKING=1"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), ("2.00 GiB", "--cam_batch_size")),
        (getattr(torch, "AcceleratorError", RuntimeError)(ILLEGAL), ("the card failed", "illegal memory access")),
        (dist.DistBackendError(NCCL), ("cannot exchange", "no socket interface", "NCCL_DEBUG=INFO")),
    ],
)
def test_a_step_that_fails_on_a_card_is_one_line(error, said, tiny_args, tmp_path, monkeypatch, capsys):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr("misc.train.loop._descend", fail)
    assert main([*tiny_args(), *only("train_cam")]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and "Traceback" not in lines[0]
    assert all(words in lines[0] for words in said)
    log = (tmp_path / "log.log").read_text()
    assert "Traceback" in log or isinstance(error, torch.OutOfMemoryError)  # which is the user's to mend
    assert "defect" not in log
