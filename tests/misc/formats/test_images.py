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
from misc.formats.quick_look import photograph_fault

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


STORED = np.array([[10, 60, 110], [160, 210, 250]], np.uint8)
# what a viewer shows, by hand from the EXIF standard: the orientation says at which side the first row and the first
# column of the stored pixels are seen
SHOWN = {
    1: STORED,  # top, left
    2: [[110, 60, 10], [250, 210, 160]],  # top, right
    3: [[250, 210, 160], [110, 60, 10]],  # bottom, right
    4: [[160, 210, 250], [10, 60, 110]],  # bottom, left
    5: [[10, 160], [60, 210], [110, 250]],  # left, top
    6: [[160, 10], [210, 60], [250, 110]],  # right, top: a phone held upright
    7: [[250, 110], [210, 60], [160, 10]],  # right, bottom
    8: [[110, 250], [60, 210], [10, 160]],  # left, bottom
    0: STORED,  # no such orientation
    9: STORED,
}


@pytest.mark.parametrize(("orientation", "shown"), SHOWN.items())
@pytest.mark.parametrize(
    ("kind", "mode"), [("PNG", "L"), ("PNG", "I;16"), ("TIFF", "L"), ("TIFF", "I;16"), ("WEBP", "RGB")]
)
def test_an_image_is_as_a_viewer_shows_it(tmp_path, orientation, shown, kind, mode):
    exif = Image.Exif()
    exif[0x112] = orientation
    pixels = STORED * np.uint16(257) if mode == "I;16" else STORED
    image = Image.fromarray(pixels).convert(mode)
    image.save(tmp_path / "a", kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))
    np.testing.assert_array_equal(read_image(tmp_path / "a"), np.stack([shown] * 3, axis=2))
    assert image_size(tmp_path / "a") == np.shape(shown)
    if mode == "L":
        np.testing.assert_array_equal(read_label_map(tmp_path / "a"), shown)
        np.testing.assert_array_equal(read_saliency(tmp_path / "a", np.shape(shown))[0], shown)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photograph_of_a_phone_is_turned(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x112] = orientation
    pixels = np.repeat(np.repeat(STORED, 16, axis=0), 16, axis=1)
    Image.fromarray(pixels).save(tmp_path / "a.jpg", quality=95, exif=exif)
    found = read_image(tmp_path / "a.jpg")[8::16, 8::16, 0]
    np.testing.assert_allclose(found, SHOWN[orientation], atol=2)
    assert image_size(tmp_path / "a.jpg") == tuple(16 * side for side in np.shape(SHOWN[orientation]))


def test_an_orientation_in_xmp_is_no_exif(tmp_path):
    """Tools that turn the pixels set EXIF to 1 and may leave XMP behind."""
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF tiff:Orientation="6"></rdf:RDF></x:xmpmeta>'
    Image.fromarray(RAMP).save(tmp_path / "a.jpg", xmp=xmp)
    with Image.open(tmp_path / "a.jpg") as image:
        assert image.getexif()[0x112] == 6  # as Pillow has it
    assert image_size(tmp_path / "a.jpg") == read_image(tmp_path / "a.jpg").shape[:2] == (3, 4)


@pytest.mark.parametrize("kind", ["TIFF", "BMP"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_tiff_and_bmp(tmp_path, kind, mode):
    Image.fromarray(RAMP).convert(mode).save(tmp_path / "a", kind)
    np.testing.assert_array_equal(read_image(tmp_path / "a"), np.stack([RAMP] * 3, axis=2))
    assert photograph_fault(tmp_path / "a") is None


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_to_eight(tmp_path, kind):
    values = np.array([[0, 257, 128 * 257, 65535, 128, 129, 65406, 65407]], np.uint16)
    Image.fromarray(values).save(tmp_path / "a", kind)
    found = read_image(tmp_path / "a")
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, np.stack([[[0, 1, 128, 255, 0, 1, 254, 255]]] * 3, axis=2))


@pytest.mark.parametrize("values", [RAMP.astype(np.int32), RAMP.astype(np.float32) / 255])
def test_numbers_of_no_known_range(tmp_path, values):
    Image.fromarray(values).save(tmp_path / "a.tif")
    with pytest.raises(InputError, match=r"a\.tif: .*32 bits .*8 or 16"):
        read_image(tmp_path / "a.tif")
    assert "8 or 16" in (photograph_fault(tmp_path / "a.tif") or "")


def test_a_saliency_map_on_its_side(tmp_path):
    path = saved(tmp_path / "a.png", Image.fromarray(RAMP))
    with pytest.raises(InputError, match=r"a\.png: the saliency map is \(3, 4\), its image \(4, 3\): .*EXIF"):
        read_saliency(path, (4, 3))
    assert read_saliency(path, (8, 6))[0].shape == (8, 6)  # of another size
    square = saved(tmp_path / "b.png", Image.fromarray(RAMP[:, :3]))
    assert read_saliency(square, (3, 3))[1] is False


def test_damaged_exif_leaves_the_pixels(tmp_path):
    (tmp_path / "a.jpg").write_bytes(in_exif(1))
    whole = read_image(tmp_path / "a.jpg")
    (tmp_path / "a.jpg").write_bytes(in_exif(6).replace(b"Exif\0\0", b"Exif\0\0no TIFF"))
    with pytest.raises(SyntaxError):
        iio.imread(tmp_path / "a.jpg", plugin="pillow")
    np.testing.assert_array_equal(read_image(tmp_path / "a.jpg"), whole)
    assert image_size(tmp_path / "a.jpg") == (3, 4)


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
