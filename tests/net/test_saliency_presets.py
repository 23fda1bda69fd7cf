"""The presets against the table of what the detectors' own test scripts do, and what replaces their values."""

import numpy as np
import pytest

from misc.config import read_config
from misc.errors import InputError
from net.saliency_presets import PRESETS, handling

# name: side (0: the image's own), the pixel (R, G, B) = (200, 100, 50) as the network sees it, output, what it holds,
# whether its maps are stretched
IMAGENET = ((200 / 255 - 0.485) / 0.229, (100 / 255 - 0.456) / 0.224, (50 / 255 - 0.406) / 0.225)
CAFFE = (50 - 104.007, 100 - 116.669, 200 - 122.679)
TABLE = {
    "u2net": (320, IMAGENET, 0, "probability", True),
    "basnet": (256, IMAGENET, 0, "probability", True),
    "isnet": (1024, (200 / 255 - 0.5, 100 / 255 - 0.5, 50 / 255 - 0.5), 0, "probability", True),
    "birefnet": (1024, IMAGENET, -1, "logit", False),
    "csnet": (224, IMAGENET, 0, "logit", False),
    "poolnet": (0, CAFFE, 0, "logit", False),
    "egnet": (0, CAFFE, -1, "logit", False),
}


@pytest.mark.parametrize("name", TABLE)
def test_presets(name):
    side, pixel, output, holds, stretch = TABLE[name]
    found = handling(name)
    assert (found.input_size, found.map, found.output, found.stretch) == ((side, side), output, holds, stretch)
    seen = found.pixels.prepare(np.array([[[200, 100, 50]]], np.uint8))
    assert seen.dtype == np.float32
    np.testing.assert_allclose(seen.ravel(), pixel, rtol=1e-5)


def test_each_preset_can_be_set_and_is_in_the_table():
    assert PRESETS.keys() == TABLE.keys()
    for name in PRESETS:
        assert read_config(["--saliency_preset", name]).saliency_preset == name


def test_without_a_preset_it_is_as_for_u2net():
    assert handling() == handling("u2net")


@pytest.mark.parametrize(
    ("preset", "file_size", "input_size", "expected"),
    [
        (None, (0, 0), None, (320, 320)),
        (None, (48, 80), None, (48, 80)),
        ("isnet", (512, 512), None, (512, 512)),  # exported for another size than published
        ("isnet", (0, 0), None, (1024, 1024)),
        ("isnet", (512, 512), 640, (640, 640)),  # the runtime has the last word
        ("poolnet", (0, 0), None, (0, 0)),
        ("poolnet", (352, 0), None, (352, 0)),
        ("u2net", (0, 0), 0, (0, 0)),
    ],
)
def test_a_setting_beats_the_file_beats_the_preset(preset, file_size, input_size, expected):
    assert handling(preset, file_size=file_size, input_size=input_size).input_size == expected


def test_single_settings_replace_values_of_a_preset():
    found = handling("birefnet", map="out", output="probability", stretch=True, mean=(0.5, 0.5, 0.5), std=None)
    assert (found.map, found.output, found.stretch, found.mean) == ("out", "probability", True, (0.5, 0.5, 0.5))
    assert found.std == handling("birefnet").std
    assert handling("u2net", stretch=False, map=0).stretch is False


def test_a_mean_of_bgr_is_given_as_bgr():
    seen = handling("egnet", mean=(10, 20, 30), std=(1, 2, 5)).pixels.prepare(np.array([[[200, 100, 50]]], np.uint8))
    np.testing.assert_allclose(seen.ravel(), [(50 - 10) / 1, (100 - 20) / 2, (200 - 30) / 5])


@pytest.mark.parametrize("preset", [None, "u2net", "isnet"])
def test_a_mean_above_1_is_refused_where_rgb_ends_there(preset):
    with pytest.raises(InputError, match=r"saliency_mean: \[123\.7, 116\.3, 103\.5\] is above 1.*255.*poolnet"):
        handling(preset, mean=(123.7, 116.3, 103.5))
    handling("poolnet", mean=(123.7, 116.3, 103.5))


def test_in_words_by_the_names_of_the_settings():
    words = handling("poolnet", file_size=(0, 64), map="out").in_words()
    assert words == {
        "saliency_input_size": "own×64",
        "saliency_channels": "BGR from 0 to 255",
        "saliency_mean": "[104.007, 116.669, 122.679]",
        "saliency_std": "[1.0, 1.0, 1.0]",
        "saliency_map": "out",
        "saliency_output": "logit",
        "saliency_stretch": "false",
    }
