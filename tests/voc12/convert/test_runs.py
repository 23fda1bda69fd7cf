"""A converted data set goes through the whole chain with the settings that came with it."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from run_sample import main
from voc12.class_names import BACKGROUND
from voc12.image_set import PROJECT, read_lines, read_list

SMALL = """
device: cpu
num_workers: 0
cam_crop_size: 64
cam_resize_long: [56, 72]
cam_num_epoches: 1
cam_learning_rate: 0.001
cam_scales: [1.0]
bes_crop_size: 64
bes_num_epoches: 1
exp_times: 3
"""


@pytest.mark.slow
def test_the_chain_runs_on_what_labelme2voc_wrote(tiny_voc, tmp_path, monkeypatch, convert, backbone_file, capsys):
    source = tmp_path / "labelme"
    (source / "SegmentationClassPNG").mkdir(parents=True)
    (source / "JPEGImages").symlink_to(tiny_voc / "JPEGImages")
    for path in (tiny_voc / "SegmentationClass").iterdir():
        Image.open(path).save(source / "SegmentationClassPNG" / path.name)
    names = read_lines(PROJECT / "voc12" / "class_names.txt")
    assert not BACKGROUND & set(names)
    (source / "labels.txt").write_text("\n".join(["__ignore__", "_background_", *names]))
    target = convert("labelme", source)
    monkeypatch.chdir(tmp_path)
    Path("small.yaml").write_text(SMALL)
    arguments = ["--voc12_root", str(target), "--config", str(target / "set.yaml"), "--config", "small.yaml"]
    assert main([*arguments, f"--backbone_weights={backbone_file}", "--log_name=log"]) == 0, capsys.readouterr().err
    ids = read_list(target / "ImageSets" / "Segmentation" / "train.txt")
    assert len(ids) == 6  # of the tiny set's train and val: labelme has no lists
    for image_id in ids:
        with Image.open(Path("result/sem_seg") / f"{image_id}_crf.png") as mask:
            with Image.open(target / "JPEGImages" / f"{image_id}.jpg") as image:
                assert mask.size == image.size
            assert np.array(mask).max() <= 20
