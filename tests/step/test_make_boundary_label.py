import numpy as np
import pytest

from misc.crf.dense_crf import DenseCRF
from misc.formats.cam_file import CAM
from misc.method.boundary_labels import boundary_label
from step.make_boundary_label import CRF_REACH, confident_classes


@pytest.mark.parametrize("image", range(6))
def test_golden(golden, image, device):
    g = golden("pseudo_masks")
    name = g["ids"][image]
    cam = CAM(g[f"keys_{name}"], g[f"cam_{name}"], g[f"high_res_{name}"])
    crf = DenseCRF(g[f"img_{name}"], len(cam.keys) + 1, sxy=CRF_REACH, device=device)
    conf = confident_classes(crf, cam, foreground=0.30, background=0.07)
    assert (conf == g[f"conf_{name}"]).mean() >= 0.999
    label = boundary_label(conf, g[f"sal_{name}"], window=13, theta_scale=0.30, theta_diff=0.10, salient_threshold=0.5)
    assert (label == g[f"boundary_label_{name}"]).mean() >= 0.999


def test_image_without_labels_is_background():
    cam = CAM(np.zeros(0, np.int64), np.zeros((0, 3, 4), np.float32), np.zeros((0, 10, 15), np.float32))
    crf = DenseCRF(np.zeros((10, 15, 3), np.uint8), 1, sxy=CRF_REACH)
    assert not confident_classes(crf, cam, foreground=0.3, background=0.07).any()
