import numpy as np
import pytest
import torch

from misc.pixels import rescale, scaled_size
from net.resnet50_cam import ResNet50CAM
from step.make_cam import multi_scale_cam
from voc12.datasets import BICUBIC

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def classifier(fill_with_formula):
    model = ResNet50CAM(20).eval()
    fill_with_formula(model.state_dict())
    return model


def scaled(image: np.ndarray, scales=(1, 0.5, 1.5, 2)) -> list[torch.Tensor]:
    return [torch.from_numpy(rescale(image, scaled_size(image.shape[:2], s), BICUBIC)) for s in scales]


@pytest.mark.parametrize("image", range(3))
def test_golden(golden, classifier, image):
    g = golden("make_cam")
    name = g["ids"][image]
    pixels = g[f"img_{name}"]
    cam_s4, cam_full = multi_scale_cam(classifier, scaled(pixels), g[f"keys_{name}"], pixels.shape[:2], CPU)
    np.testing.assert_allclose(cam_s4, g[f"cam_{name}"], atol=1e-4, rtol=0)
    np.testing.assert_allclose(cam_full, g[f"high_res_{name}"], atol=1e-4, rtol=0)


def test_image_without_labels_gets_no_maps(golden, classifier):
    cam_s4, cam_full = multi_scale_cam(classifier, [], np.zeros(0, np.int64), (33, 50), CPU)
    assert cam_s4.shape == (0, 9, 13) and cam_full.shape == (0, 33, 50)


@pytest.mark.parametrize("size", [(1, 1), (5, 60)])
def test_tiny_images(classifier, size):
    image = np.full((*size, 3), 90, np.uint8)
    cam_s4, cam_full = multi_scale_cam(classifier, scaled(image), np.array([2]), size, CPU)
    assert cam_full.shape == (1, *size) and np.isfinite(cam_full).all() and np.isfinite(cam_s4).all()
