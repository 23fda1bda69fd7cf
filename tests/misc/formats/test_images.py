"""Images, saliency maps and label maps, whatever mode their files have."""

import io
import re

import imageio.v3 as iio
import numpy as np
import pytest
from PIL import Image

from misc.errors import InputError
from misc.formats.images import (
    image_size,
    open_image,
    read_image,
    read_label_map,
    read_saliency,
    software_of,
    write_grey,
    write_mask,
)

RAMP = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20  # 0 to 220


def saved(path, image: Image.Image):
    image.save(path)
    return path


def palette_image(indices: np.ndarray, colours: list[tuple[int, int, int]]) -> Image.Image:
    image = Image.fromarray(indices).convert("P")
    image.putpalette([value for colour in colours for value in colour])
    return image


# --- images


def test_the_size_of_an_image_is_in_its_header(tmp_path):
    path = saved(tmp_path / "a.png", Image.fromarray(RAMP))
    assert image_size(path) == (3, 4)
    path.write_bytes(path.read_bytes()[:-20])
    assert image_size(path) == (3, 4)  # the pixels are not asked for
    path.write_bytes(b"no image")
    for unreadable in (path, tmp_path / "missing.png"):
        with pytest.raises(InputError, match=rf"{unreadable.name}: cannot be read as an image"):
            image_size(unreadable)


def test_colours_are_rgb_rows_first(tmp_path):
    pixels = np.zeros((2, 3, 3), np.uint8)
    pixels[0, 2] = 255, 128, 0
    found = read_image(saved(tmp_path / "a.png", Image.fromarray(pixels)))
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, pixels)


def test_a_grey_jpeg_has_three_equal_channels(tmp_path):
    found = read_image(saved(tmp_path / "a.jpg", Image.new("L", (4, 3), 77)))
    np.testing.assert_array_equal(found, np.full((3, 4, 3), 77))


def test_a_cmyk_jpeg(tmp_path):
    found = read_image(saved(tmp_path / "a.jpg", Image.new("CMYK", (16, 8), (0, 255, 255, 0))))
    assert found.shape == (8, 16, 3)
    np.testing.assert_allclose(found, np.broadcast_to([255, 0, 0], found.shape), atol=3)  # no cyan, no black: red


def test_a_palette_image_has_its_colours(tmp_path):
    image = palette_image(np.array([[0, 1]], np.uint8), [(9, 8, 7), (200, 100, 50)])
    np.testing.assert_array_equal(read_image(saved(tmp_path / "a.png", image)), [[[9, 8, 7], [200, 100, 50]]])


def test_alpha_is_dropped(tmp_path):
    found = read_image(saved(tmp_path / "a.png", Image.new("RGBA", (2, 2), (10, 20, 30, 0))))
    np.testing.assert_array_equal(found, np.broadcast_to([10, 20, 30], (2, 2, 3)))


def in_exif(orientation: int) -> bytes:
    """A JPEG, 4 × 3 pixels, whose EXIF says how to turn it."""
    exif = Image.Exif()
    exif[0x112] = orientation
    file = io.BytesIO()
    Image.fromarray(RAMP).save(file, "JPEG", dpi=(72, 72), exif=exif)
    return file.getvalue()


def test_exif_does_not_turn_an_image(tmp_path):
    (tmp_path / "a.jpg").write_bytes(in_exif(6))
    assert read_image(tmp_path / "a.jpg").shape == (3, 4, 3)


def test_damaged_exif_leaves_the_pixels(tmp_path):
    (tmp_path / "a.jpg").write_bytes(in_exif(6))
    whole = read_image(tmp_path / "a.jpg")
    (tmp_path / "a.jpg").write_bytes(in_exif(6).replace(b"Exif\0\0", b"Exif\0\0no TIFF"))
    with pytest.raises(SyntaxError):
        iio.imread(tmp_path / "a.jpg", plugin="pillow")
    np.testing.assert_array_equal(read_image(tmp_path / "a.jpg"), whole)


def test_a_path_is_no_address(tmp_path):
    """imageio takes `folder.zip/a.png` for a file in an archive."""
    (tmp_path / "folder.zip").mkdir()
    write_grey(tmp_path / "folder.zip" / "a.png", RAMP)
    np.testing.assert_array_equal(read_image(tmp_path / "folder.zip" / "a.png")[..., 0], RAMP)


@pytest.mark.parametrize("kind", ["GIF", "PNG"])
def test_the_first_picture_of_an_animation(tmp_path, kind):
    first, second = Image.new("RGB", (4, 3), (250, 0, 0)), Image.new("RGB", (4, 3), (0, 250, 0))
    first.save(tmp_path / "a", kind, save_all=True, append_images=[second])
    np.testing.assert_array_equal(read_image(tmp_path / "a"), np.array(first))


@pytest.mark.parametrize("name", ["2007_000032.jpg", "2007_000032.png"])
@pytest.mark.parametrize("length", [0, 1, 30, 0.5, 0.9])
def test_a_cut_file_is_named(tmp_path, name, length):
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    path = saved(tmp_path / name, Image.fromarray(noise))
    whole = path.read_bytes()
    path.write_bytes(whole[: length if length in (0, 1, 30) else int(length * len(whole))])
    with pytest.raises(InputError, match=re.escape(f"{path}: cannot be read as an image")):
        read_image(path)


def test_no_image(tmp_path):
    with pytest.raises(InputError, match=r"a\.jpg: no such file"):
        open_image(tmp_path / "a.jpg")
    (tmp_path / "a.jpg").write_text("<html>404</html>")
    with pytest.raises(InputError, match=r"a\.jpg: cannot be read as an image"):
        open_image(tmp_path / "a.jpg")
    with pytest.raises(InputError, match="cannot be read as an image"):
        open_image(tmp_path)


# --- saliency


def grey_alpha(alpha: int) -> Image.Image:
    return Image.merge("LA", [Image.fromarray(RAMP), Image.new("L", (4, 3), alpha)])


def in_rgb(mode: str) -> Image.Image:
    return Image.fromarray(RAMP).convert("RGB").convert(mode)


@pytest.mark.parametrize(
    ("image", "expected", "converted"),
    [
        (Image.fromarray(RAMP), RAMP, False),
        (Image.fromarray(RAMP * np.uint16(200)), RAMP * 200.0, False),  # its own range
        (Image.fromarray(RAMP > 100), RAMP > 100, False),
        (in_rgb("RGB"), RAMP, True),
        (in_rgb("RGBA"), RAMP, True),
        (grey_alpha(255), RAMP, True),
        (grey_alpha(0), RAMP, True),  # alpha is ignored
        (palette_image(RAMP // 20, [(20 * i,) * 3 for i in range(12)]), RAMP, True),  # the colours, not the indices
        (Image.new("L", (4, 3)), np.zeros((3, 4)), False),  # blank is no error here
    ],
    ids=["L", "I;16", "1", "RGB", "RGBA", "LA", "LA transparent", "P", "blank"],
)
def test_saliency_of_any_mode(tmp_path, image, expected, converted):
    path = saved(tmp_path / "a.png", image)
    saliency, was_converted = read_saliency(path, (3, 4))
    assert saliency.dtype == np.float32
    np.testing.assert_array_equal(saliency, expected)
    assert was_converted is converted


def test_16_bits_are_kept(tmp_path):
    path = saved(tmp_path / "a.png", Image.fromarray(np.array([[0, 1, 65535]], np.uint16)))
    np.testing.assert_array_equal(read_saliency(path, (1, 3))[0], [[0, 1, 65535]])


def test_colour_saliency_by_luminance(tmp_path):
    path = saved(tmp_path / "a.png", Image.new("RGB", (1, 1), (255, 0, 0)))
    assert read_saliency(path, (1, 1))[0] == pytest.approx(0.299 * 255, abs=1)


def test_saliency_of_another_size_is_resized_bilinearly(tmp_path):
    path = saved(tmp_path / "a.png", Image.fromarray(np.array([[0, 100]], np.uint8)))
    saliency, converted = read_saliency(path, (2, 4))
    # pixel centres at -.25, .25, .75 and 1.25 of the two
    np.testing.assert_allclose(saliency, [[0, 25, 75, 100]] * 2, atol=1e-4)
    assert converted


@pytest.mark.parametrize("value", [-1.0, np.nan, np.inf])
def test_saliency_that_is_no_measure(tmp_path, value):
    path = saved(tmp_path / "a.tiff", Image.fromarray(np.array([[0.5, value]], np.float32)))
    with pytest.raises(InputError, match=r"a\.tiff: a saliency map holds"):
        read_saliency(path, (1, 2))


# --- label maps and masks


@pytest.mark.parametrize("image", [palette_image(RAMP, [(1, 2, 3)] * 256), Image.fromarray(RAMP)])
def test_a_label_map_is_its_indices(tmp_path, image):
    found = read_label_map(saved(tmp_path / "a.png", image))
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, RAMP)


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_a_colour_picture_is_no_label_map(tmp_path, mode):
    with pytest.raises(InputError, match=rf"a\.png.*{mode}"):
        read_label_map(saved(tmp_path / "a.png", in_rgb(mode)))


def test_a_mask_has_the_colours_of_voc(tmp_path):
    labels = np.array([[0, 1, 2, 15, 20, 255]], np.uint8)
    write_mask(tmp_path / "new" / "a.png", labels)
    with Image.open(tmp_path / "new" / "a.png") as image:
        assert (image.format, image.mode) == ("PNG", "P")
        colours = np.array(image.convert("RGB"))[0].tolist()
    expected = [[0, 0, 0], [128, 0, 0], [0, 128, 0], [192, 128, 128], [0, 64, 128], [224, 224, 192]]
    assert colours == expected
    np.testing.assert_array_equal(read_label_map(tmp_path / "new" / "a.png"), labels)


def test_every_label_survives(tmp_path):
    labels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    for write in (write_mask, write_grey):
        write(tmp_path / "a.png", labels)
        np.testing.assert_array_equal(read_label_map(tmp_path / "a.png"), labels)
        assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
    with Image.open(tmp_path / "a.png") as image:
        assert (image.format, image.mode) == ("PNG", "L")


@pytest.mark.parametrize("shape", [(1, 1), (5, 2), (4, 3), (300, 400)])
def test_a_grey_map_has_the_bytes_that_pillow_writes(tmp_path, shape):
    values = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    write_grey(tmp_path / "a.png", values)
    Image.fromarray(values).save(tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


# --- what a file says of itself


def test_the_software_of_a_png(tmp_path):
    write_grey(tmp_path / "ours.png", RAMP, software="make_saliency")
    write_grey(tmp_path / "plain.png", RAMP)
    (tmp_path / "no.png").write_bytes(b"no image")
    found = [software_of(tmp_path / name) for name in ("ours.png", "plain.png", "no.png", "missing.png")]
    assert found == ["make_saliency", None, None, None]
    np.testing.assert_array_equal(read_label_map(tmp_path / "ours.png"), RAMP)
