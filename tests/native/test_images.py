"""Image files, as onebnet-run reads them: to the byte as training does, whatever their size."""

import struct

import engines
import numpy as np
import pytest
from PIL import Image
from programs import HAS_STB, SHAPE, any_png, chunk, needs_stb, pixels, png, printed_logits, run

from onebnet_jax.data import photos
from onebnet_jax.native.runtime import Engine
from onebnet_jax.networks import families

pytestmark = engines.needs_engine


def test_image_files(place, program, tmp_path):
    image, model = pixels(place)[0], place / "0.onb"
    expected = Engine(model).logits(image[None])
    Image.fromarray(image).save(tmp_path / "a.ppm")
    with_comment = (tmp_path / "a.ppm").read_bytes().replace(b"P6\n", b"P6\n# a comment\n")
    (tmp_path / "b.ppm").write_bytes(with_comment)
    for name in ("a.ppm", "b.ppm"):
        np.testing.assert_array_equal(printed_logits(run(program, model, "--logits", tmp_path / name)), expected)
    Image.fromarray(image).save(tmp_path / "a.png")
    if HAS_STB:
        np.testing.assert_array_equal(printed_logits(run(program, model, "--logits", tmp_path / "a.png")), expected)
    else:
        assert "libstb-dev" in run(program, model, tmp_path / "a.png", status=2)


DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
SIZES = [(64, 65), (5, 9), (90, 13), (9, 333), (1, 1), (200, 1), (12, 40), (31, 11)]
FITS = [("crop", 1.0, SHAPE), ("crop", 256 / 224, (7, 16, 3)), ("pad", 1.0, (12, 11, 1)), ("stretch", 1.0, (7, 16, 1))]


def fitted(file, resize, zoom, shape):
    """A network whose card says how images are brought to its size."""
    structure = families.build("onebnet", depth=8, width_multiplier=0.3, num_classes=9)
    file.write_bytes(engines.random_plan(structure, shape, input={"resize": resize, "zoom": zoom})[0])
    return file


def check_files(program, model, files, resize, zoom, shape):
    """Files give what Python computes of what `photos.decode` makes of them."""
    images = np.stack([photos.decode(file, shape[:2], shape[2], resize, zoom) for file in files])
    printed = printed_logits(run(program, model, "--logits", *files))
    np.testing.assert_array_equal(printed, Engine(model).logits(images))


@needs_stb
@pytest.mark.parametrize("fit", FITS)
def test_images_of_any_size_are_resized_as_in_training(fit, program, tmp_path):
    random, files = np.random.default_rng(5), []
    for colour, depths in DEPTHS.items():
        for number, depth in enumerate(depths):
            for transparent in (False, True):
                file = tmp_path / f"{colour}_{depth}_{transparent}.png"
                size = SIZES[(number + 3 * colour + 4 * transparent) % len(SIZES)]
                file.write_bytes(any_png(random, *size, depth, colour, transparent))
                files.append(file)
    for height, width in SIZES:
        files.append(tmp_path / f"{height}x{width}.png")
        Image.fromarray(random.integers(0, 256, (height, width, 3), np.uint8)).save(files[-1])
    check_files(program, fitted(tmp_path / "m.onb", *fit), files, *fit)


def test_ppm_and_pgm_of_any_size(program, tmp_path):
    random, fit = np.random.default_rng(6), ("crop", 1.0, SHAPE)
    model = fitted(tmp_path / "m.onb", *fit)
    for height, width in SIZES:
        for shape, suffix in (((height, width, 3), "ppm"), ((height, width), "pgm")):
            image = Image.fromarray(random.integers(0, 256, shape, np.uint8))
            image.save(tmp_path / f"a.{suffix}"), image.save(tmp_path / "a.png")
            printed = printed_logits(run(program, model, "--logits", tmp_path / f"a.{suffix}"))
            pixels = photos.decode(tmp_path / "a.png", SHAPE[:2], 3)
            np.testing.assert_array_equal(printed, Engine(model).logits(pixels[None]))


@needs_stb
def test_jpeg_is_turned_upright_and_reduced(program, tmp_path):
    """Blocks of one shade of grey each are stored without loss: every decoder gives the same."""
    shades = np.random.default_rng(7).integers(0, 256, (5, 3), np.uint8)
    fit, files = ("crop", 1.0, SHAPE), []
    for orientation in range(10):
        for times, mode in ((8, "L"), (16, "RGB"), (128, "RGB")):  # the last is read at an eighth of its size
            files.append(tmp_path / f"{orientation}_{times}.jpg")
            tags = Image.Exif()
            tags[0x10F], tags[0x112] = "a camera", orientation
            image = Image.fromarray(np.kron(shades, np.ones((times, times), np.uint8))).convert(mode)
            image.save(files[-1], quality=100, exif=tags)
    check_files(program, fitted(tmp_path / "m.onb", *fit), files, *fit)


NOISE = png(np.random.default_rng(8).integers(0, 256, (9, 9, 3)), 8, 2)
HUGE = NOISE[:8] + chunk(b"IHDR", struct.pack(">IIBBBBB", 20000, 9000, 8, 2, 0, 0, 0)) + NOISE[33:]


@pytest.mark.parametrize(
    ("name", "content", "word"),
    [
        ("cut.ppm", b"P6\n11 12\n255\n" + bytes(5), "cut"),
        ("empty.ppm", b"P6\n0 12\n255\n" + bytes(5), "cut"),
        ("long.pgm", b"P5\n201 1\n255\n" + bytes(201), "200 times"),
        ("huge.ppm", b"P6\n90000 90000\n255\n", "178 million pixels"),
        ("deep.ppm", b"P6\n11 12\n65535\n" + bytes(792), "8 bits"),
        ("header.ppm", b"P6", "header.ppm"),
        ("short.raw", bytes(395), "395 bytes"),
        ("none.png", b"nothing", "none.png"),
        ("empty.png", b"", "empty.png"),
        ("missing.ppm", None, "read"),
        pytest.param("cut.png", NOISE[:-13], "cut", marks=needs_stb),
        pytest.param("altered.png", NOISE[:-20] + b"\0\1\2" + NOISE[-17:], "damaged", marks=needs_stb),
        pytest.param("huge.png", HUGE, "178 million pixels", marks=needs_stb),
        pytest.param("cut.jpg", b"\xff\xd8\xff\xe0\0\4ab\xff\xda\0\2", "cut", marks=needs_stb),
    ],
)
def test_refuses_other_images(name, content, word, place, program, tmp_path):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    assert word in run(program, place / "0.onb", tmp_path / name, status=2)
