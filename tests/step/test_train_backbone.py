"""A ResNet-50 fitted to a small set stands in for the ImageNet weights."""

import torch

from misc.formats.checkpoint import load_backbone
from misc.train.history import read_history
from net.resnet50 import resnet50_stride16
from run_sample import main
from tests.test_chain import only


def test_it_makes_a_backbone_that_the_chain_reads(tiny_args, tmp_path):
    out = tmp_path / "backbone.pth"
    changes = {"backbone_steps": 2, "backbone_batch_size": 2, "backbone_crop_size": 32, "backbone_out": out}
    assert main([*tiny_args(**changes), "--train_backbone_pass", *only()]) == 0
    backbone = resnet50_stride16()
    load_backbone(backbone, str(out))
    assert backbone.bn1.num_batches_tracked == 2  # a batch norm with the statistics of batches
    assert all(torch.isfinite(tensor).all() for tensor in backbone.state_dict().values())
    assert [record["step"] for record in read_history(f"{out}.history.jsonl")] == [2]
