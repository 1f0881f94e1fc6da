"""Image files, as onebnet-run reads them: to the byte as training does, whatever their size."""

import io
import itertools
import pathlib
import struct
import subprocess

import engines
import numpy as np
import pytest
from PIL import Image
from programs import (
    HAS_LIBJPEG,
    HAS_STB,
    SHAPE,
    any_png,
    chunk,
    needs_libjpeg,
    needs_stb,
    pixels,
    png,
    printed_logits,
    run,
    sanitized,
)

from onebnet_jax.data import photos
from onebnet_jax.native.runtime import Engine
from onebnet_jax.networks import families

pytestmark = engines.needs_engine


@pytest.mark.slow
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
    Image.fromarray(image).save(tmp_path / "a.jpg")
    if not HAS_LIBJPEG:
        assert "libjpeg-dev" in run(program, model, tmp_path / "a.jpg", status=2)


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


def photograph(random, height, width, mode):
    """Waves and noise, in a mode of Pillow's."""
    y, x = np.mgrid[:height, :width]
    waves = [128 + 90 * np.sin(x / (3 + 5 * k) + y / (8 + k)) for k in range({"L": 1, "RGB": 3, "CMYK": 4}[mode])]
    values = np.stack(waves, -1) + random.normal(0, 25, (height, width, len(waves)))
    planes = [Image.fromarray(plane.clip(0, 255).astype(np.uint8)) for plane in np.moveaxis(values, -1, 0)]
    return Image.merge(mode, planes)


@needs_libjpeg
def test_jpeg_gives_the_pixels_of_training(tmp_path):
    """Of each kind, and of sizes that are read whole, at a half, a quarter and an eighth; without a leak."""
    random, files = np.random.default_rng(7), []

    def save(image, **options):
        files.append(tmp_path / f"{len(files)}.jpg")
        image.save(files[-1], **options)

    sizes = [(1, 1), (7, 90), (12, 11), (47, 48), (49, 97), (96, 101), (191, 193), (201, 333)]
    samplings = [dict(subsampling=name) for name in ("4:4:4", "4:2:2", "4:2:0", "4:1:1")]
    kinds = [("L", {}), *itertools.product(("RGB", "CMYK"), samplings)]
    for (height, width), (mode, options), progressive in itertools.product(sizes, kinds, (False, True)):
        quality = int(random.integers(50, 96))
        save(photograph(random, height, width, mode), quality=quality, progressive=progressive, **options)
    for size in (61, 189):  # 4:4:0, which Pillow does not write, has as many blocks of a square as 4:2:2
        save(photograph(random, size, size, "RGB"), subsampling="4:2:2")
        content = files[-1].read_bytes()
        assert content.count(b"\1\x21\0") == 1
        files[-1].write_bytes(content.replace(b"\1\x21\0", b"\1\x12\0"))
    for orientation in range(10):
        words = b'<a tiff:Orientation="%s"/>'
        tags, xmp = Image.Exif(), b"".join(words % word for word in (b"b", b"%d" % orientation, b"2"))
        tags[0x10F] = "a camera"
        save(photograph(random, 31, 60, "RGB"), exif=tags, xmp=xmp)  # a program's word counts where a camera has none
        tags[0x112] = orientation
        save(photograph(random, 31, 60, "RGB"), exif=tags, xmp=b"<tiff:Orientation>6</tiff:Orientation>")

    reader = tmp_path / "pixels"
    run(*sanitized("address,undefined", pathlib.Path(__file__).with_name("pixels.c"), library=False), reader)
    for shape in ((12, 11, 3), (8, 12, 1)):
        done = subprocess.run([reader, *map(str, shape), *files], capture_output=True)
        assert done.returncode == 0 and not done.stderr, done.stderr.decode()
        images = np.frombuffer(done.stdout, np.uint8).reshape(-1, *shape)
        for file, image in zip(files, images, strict=True):
            np.testing.assert_array_equal(image, photos.decode(file, shape[:2], shape[2]), err_msg=str(file))


@needs_libjpeg
def test_the_program_reads_jpeg(program, tmp_path):
    random, fit, files = np.random.default_rng(7), ("crop", 1.0, SHAPE), []
    for mode, options in (("L", {}), ("RGB", {}), ("RGB", dict(progressive=True)), ("CMYK", {})):
        files.append(tmp_path / f"{len(files)}.jpg")
        photograph(random, 130, 99, mode).save(files[-1], **options)
    check_files(program, fitted(tmp_path / "m.onb", *fit), files, *fit)


def jpeg_header(height, width, channels):
    """A JPEG file up to its pixels."""
    frame, scan = (b"".join(bytes((i, *each)) for i in range(channels)) for each in ((0x11, 0), (0,)))
    frame = struct.pack(">HBHHB", 8 + 3 * channels, 8, height, width, channels) + frame
    return b"\xff\xd8\xff\xc0" + frame + struct.pack(">HHB", 0xFFDA, 6 + 2 * channels, channels) + scan + b"\0\x3f\0"


def cut_jpeg(end):
    """A JPEG file up to a byte."""
    file = io.BytesIO()
    photograph(np.random.default_rng(8), 30, 30, "RGB").save(file, "JPEG")
    return file.getvalue()[:end]


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
        *(pytest.param(f"cut{n}.jpg", cut_jpeg(n), "cut", marks=needs_libjpeg) for n in (3, 30, -9, -1)),
        pytest.param("damaged.jpg", b"\xff\xd8\xff\xe0\0\4ab\xff\xda\0\2", "SOS before SOF", marks=needs_libjpeg),
        pytest.param("huge.jpg", jpeg_header(20000, 9000, 3), "178 million pixels", marks=needs_libjpeg),
        pytest.param("two.jpg", jpeg_header(9, 9, 2), "channels", marks=needs_libjpeg),
    ],
)
def test_refuses_other_images(name, content, word, place, program, tmp_path):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    assert word in run(program, place / "0.onb", tmp_path / name, status=2)
