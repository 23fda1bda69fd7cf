import numpy as np
import pytest
import torch

from misc.config import read_config
from misc.errors import InputError
from misc.formats.cam_file import read_cam
from misc.formats.checkpoint import save_weights
from misc.formats.compact_cam import ScaleMaps
from misc.pixels import rescale, scaled_size
from misc.run.device import to_device
from net.resnet50_cam import ResNet50CAM
from run_sample import main
from step.make_cam import make, maps_of_scales
from tests.test_chain import only
from voc12.datasets import BICUBIC
from voc12.image_set import read_list

SCALES = (1.0, 0.5, 1.5, 2.0)


@pytest.fixture(scope="module")
def classifier(fill_with_formula, device):
    model = ResNet50CAM(20).eval()
    fill_with_formula(model.state_dict())
    return to_device(model, device)


def scaled(image: np.ndarray, scales: tuple[float, ...]) -> list[torch.Tensor]:
    return [torch.from_numpy(rescale(image, scaled_size(image.shape[:2], s), BICUBIC)) for s in scales]


def multi_scale_cam(model, image, keys, device, scales=SCALES) -> tuple[np.ndarray, np.ndarray]:
    """The maps of an image at stride 4 and at full size, as make_cam makes them."""
    maps = maps_of_scales(model, scaled(image, scales), keys, device)
    return ScaleMaps(keys, image.shape[:2], scales if maps else (), maps).merged()


@pytest.mark.parametrize("image", range(3))
def test_golden(golden, classifier, image, device):
    g = golden("make_cam")
    name = g["ids"][image]
    pixels = g[f"img_{name}"]
    cam_s4, cam_full = multi_scale_cam(classifier, pixels, g[f"keys_{name}"], device)
    np.testing.assert_allclose(cam_s4, g[f"cam_{name}"], atol=1e-4, rtol=0)
    np.testing.assert_allclose(cam_full, g[f"high_res_{name}"], atol=1e-4, rtol=0)


def test_apart_from_its_mirror_image_the_same(golden, classifier, device):
    pixels = golden("make_cam")[f"img_{golden('make_cam')['ids'][0]}"]
    given = classifier, scaled(pixels, SCALES), np.array([2, 5]), device
    for together, apart in zip(maps_of_scales(*given), maps_of_scales(*given, apart=True), strict=True):
        np.testing.assert_allclose(apart, together, atol=1e-5, rtol=0)


@pytest.mark.parametrize("fits", [1, 0])
def test_where_memory_is_short_an_image_goes_alone_and_else_is_named(
    fits, classifier, tiny_args, tiny_voc, tmp_path, monkeypatch, capsys
):
    """A card that holds `fits` images at once; an image comes with its mirror image."""
    save_weights(classifier, tmp_path / "cam.pth")
    arguments = [*tiny_args(cam_weights_name=tmp_path / "cam.pth", cam_scales="[1.0]"), *only("make_cam")]
    features, sizes = ResNet50CAM.features, []

    def features_of_few(self, images):
        sizes.append(len(images))
        if len(images) > fits:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return features(self, images)

    monkeypatch.setattr(ResNet50CAM, "features", features_of_few)
    first = read_list(tiny_voc / "ImageSets" / "Segmentation" / "train.txt")[0]
    if fits:
        assert main(arguments) == 0
        assert (
            sizes == [2, 1, 1] * 4 and np.isfinite(read_cam(tmp_path / "cam_out_dir" / f"{first}.npy").cam_full).all()
        )
    else:
        assert main(arguments) == 2
        said = capsys.readouterr().err.splitlines()[-1]
        assert said.startswith(f"error: {first}: not enough memory") and "--amp" in said and sizes == [2, 1]


def test_image_without_labels_gets_no_maps(golden, classifier, device):
    cam_s4, cam_full = multi_scale_cam(classifier, np.zeros((33, 50, 3), np.uint8), np.zeros(0, np.int64), device)
    assert cam_s4.shape == (0, 9, 13) and cam_full.shape == (0, 33, 50)


@pytest.mark.parametrize("size", [(1, 1), (5, 60)])
def test_tiny_images(classifier, size, device):
    image = np.full((*size, 3), 90, np.uint8)
    cam_s4, cam_full = multi_scale_cam(classifier, image, np.array([2]), device)
    assert cam_full.shape == (1, *size) and np.isfinite(cam_full).all() and np.isfinite(cam_s4).all()


def test_compact_files_hold_the_same_maps(tiny_args, tiny_voc, classifier, tmp_path):
    torch.save(classifier.state_dict(), tmp_path / "cam.pth")
    ids = read_list(tiny_voc / "ImageSets" / "Segmentation" / "train.txt")
    for form in ("published", "compact"):
        changes = {"cam_weights_name": tmp_path / "cam.pth", "cam_file": form, "cam_out_dir": tmp_path / form}
        make(read_config(tiny_args(**changes)), ids)
    for image_id in ids:
        compact, published = (tmp_path / form / f"{image_id}.npy" for form in ("compact", "published"))
        assert compact.stat().st_size < published.stat().st_size / 5  # of tiny images, where the names count
        for found, expected in zip(read_cam(compact), read_cam(published), strict=True):
            np.testing.assert_array_equal(found, expected)


def test_maps_that_are_not_finite_are_refused(tiny_args, tiny_voc, classifier, tmp_path, monkeypatch):
    save_weights(classifier, tmp_path / "cam.pth")
    monkeypatch.setattr(ResNet50CAM, "cam", lambda *of, apart: torch.full((1, 2, 2), torch.nan))
    ids = read_list(tiny_voc / "ImageSets" / "Segmentation" / "train.txt")
    with pytest.raises(InputError, match=f"maps of {ids[0]} are not finite"):
        make(read_config(tiny_args(cam_weights_name=tmp_path / "cam.pth")), ids)
    assert not list(tmp_path.glob("cam_out_dir/*.npy"))
