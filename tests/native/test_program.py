"""The program onebnet-run, as launch/onebnet_run.sh builds it; the engine on other CPUs, and under sanitizers."""

import os
import pathlib
import platform
import shutil
import struct
import subprocess
import zlib

import dyadic
import engines
import numpy as np
import pytest
from PIL import Image

from onebnet_jax.data import photos
from onebnet_jax.native import runtime
from onebnet_jax.native.runtime import Engine
from onebnet_jax.networks import families
from onebnet_jax.paper import latency, numbers, pi_log

ROOT = pathlib.Path(__file__).parents[2]
HERE = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64"}.get(platform.machine().lower())
SHAPE = (12, 11, 3)
COUNT = 6  # networks
HAS_STB = pathlib.Path("/usr/include/stb/stb_image.h").exists()
needs_stb = pytest.mark.skipif(not HAS_STB, reason="there is no stb_image (libstb-dev)")
pytestmark = engines.needs_engine


def build(folder, architecture, **variables):
    """The program for an architecture."""
    script, environment = ROOT / "launch" / "onebnet_run.sh", {"CFLAGS": "-Wall -Wextra"} | variables
    done = subprocess.run([script, folder, architecture], env=os.environ | environment, capture_output=True, text=True)
    assert done.returncode == 0 and "warning" not in done.stderr, done.stderr
    return folder / f"onebnet-run-{architecture}"


def run(*command, status=0, timeout=300):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=timeout)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout if status == 0 else done.stderr


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with networks in 0.onb to 5.onb and images of them in 0.raw to 2.raw."""
    folder = tmp_path_factory.mktemp("program")
    kinds = [
        ("onebnet", dict(stem="imagenet", conv_1d=(16,), ds_1d=(32,))),
        ("xnornet", dict(stem="cifar", pad_value=1)),
        ("birealnet", dict(stem="imagenet", pad_value=0)),
        ("onebnet", dict(stem="cifar", ds_1d=(32, 64), pad_value=0)),
        ("realtobin", dict(stem="imagenet")),
        ("reactnet_a", dict(stem="cifar", width_multiplier=1.0)),
    ]
    for number, (family, fields) in enumerate(kinds):
        structure = dyadic.structure(family, **dict(width_multiplier=0.6, num_classes=37) | fields)
        file, _ = engines.random_plan(structure, SHAPE, folded=number % 2 == 0)
        (folder / f"{number}.onb").write_bytes(file)
    for number, image in enumerate(np.random.default_rng(0).integers(0, 256, (3, *SHAPE), np.uint8)):
        (folder / f"{number}.raw").write_bytes(image.tobytes())
    return folder


@pytest.fixture(scope="module")
def program(place):
    if not HERE:
        pytest.skip(f"launch/onebnet_run.sh has no build for {platform.machine()}")
    return build(place, HERE, **{f"CC_{HERE}": " ".join(runtime.compiler())})


def pixels(place):
    return np.stack([np.frombuffer((place / f"{k}.raw").read_bytes(), np.uint8).reshape(SHAPE) for k in range(3)])


def printed_logits(text):
    return np.array([line.split(":")[1].split() for line in text.splitlines()], np.float32)


def test_it_prints_what_python_computes(place, program):
    images = [place / f"{k}.raw" for k in range(3)]
    for number in range(COUNT):
        model = place / f"{number}.onb"
        for options in ([], ["--threads=3"]):
            logits = printed_logits(run(program, model, "--logits", *options, *images))
            np.testing.assert_array_equal(logits, Engine(model).logits(pixels(place)))


def test_labels_and_probabilities(place, program, tmp_path):
    structure = families.build("onebnet", depth=8, width_multiplier=0.3, num_classes=3)
    model = tmp_path / "m.onb"
    model.write_bytes(engines.random_plan(structure, SHAPE)[0])
    logits = np.float64(Engine(model).logits(pixels(place)))
    shares = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    lines = run(program, model, *(place / f"{k}.raw" for k in range(3))).splitlines()
    for line, share in zip(lines, shares):
        label, probability = line.split(": ")[1].split(" ")
        names = ["a", "b", "2"]  # the card has two names only
        assert label == names[share.argmax()] and abs(float(probability) - share.max()) < 1e-4


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


def chunk(name, content):
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(values, depth, colour, *chunks):
    """A PNG file of [H, W, C] values of so many bits; colour: 0 grey, 2 RGB, 3 palette, 4 grey and alpha, 6 RGBA."""
    bits = np.asarray(values, ">u2").reshape(len(values), -1, 1).view(np.uint8)
    rows = np.packbits(np.unpackbits(bits, axis=-1)[..., 16 - depth :].reshape(len(values), -1), axis=-1)
    head = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], depth, colour, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + b"".join(chunks) + pixels + chunk(b"IEND", b"")


def exif(orientation):
    return b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x112, 3, 1, orientation, 0, 0)


def any_png(random, height, width, depth, colour, transparent):
    """A PNG file of noise; colour as `png` takes it."""
    chunks = [chunk(b"PLTE", random.bytes(3 << depth))] if colour == 3 else []
    values = random.integers(0, 1 << depth, (height, width, {2: 3, 4: 2, 6: 4}.get(colour, 1)))
    if transparent and colour in (0, 2):  # the pixels that have the colour of the first
        chunks.append(chunk(b"tRNS", values[0, 0].astype(">u2").tobytes()))
    elif transparent and colour == 3:
        chunks.append(chunk(b"tRNS", random.bytes(1 << depth)))
    if transparent:
        chunks.append(chunk(b"eXIf", exif(int(random.integers(1, 9)))))
    return png(values, depth, colour, *chunks)


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


def test_refuses_other_files_and_options(place, program, tmp_path):
    (tmp_path / "cut.onb").write_bytes((place / "0.onb").read_bytes()[:-1])
    image = place / "0.raw"
    assert "cut.onb" in run(program, tmp_path / "cut.onb", image, status=2)
    assert "missing.onb" in run(program, tmp_path / "missing.onb", image, status=2)
    assert "threads" in run(program, place / "0.onb", "--threads=100", image, status=2)
    assert "instruction set" in run(program, place / "0.onb", "--set=mmx", image, status=2)
    for options in ([], [place / "0.onb"], ["--nothing", place / "0.onb", image]):
        assert "usage" in run(program, *options, status=2)


def test_bench_prints_three_times_for_one_and_for_four_threads(place, program):
    text = run(program, place / "0.onb", "--bench=4")
    runs = pi_log.parse_engine(f"command=./onebnet-run 0.onb --bench=4\n{text}", "0.txt")
    assert [(each.threads, each.count) for each in runs] == [(1, 4)] * 3 + [(4, 4)] * 3
    assert all(0 < each.min_ms <= each.mean_ms <= each.max_ms for each in runs)


def needs(*programs):
    """Skips a test where a program of Debian's gcc-aarch64-linux-gnu or qemu-user is missing."""
    missing = [program for program in programs if not shutil.which(program)]
    return pytest.mark.skipif(bool(missing), reason=f"there is no {', '.join(missing)}")


needs_arm = needs("aarch64-linux-gnu-gcc", "qemu-aarch64")


@needs_arm
def test_the_same_bits_on_arm(place, tmp_path):
    program, images = build(tmp_path, "aarch64"), [place / f"{k}.raw" for k in range(3)]
    for number in range(COUNT):
        model = place / f"{number}.onb"
        expected = Engine(model).logits(pixels(place))
        for instruction_set in ("neon", "plain"):  # plain C knows of the fused multiply-add there
            text = run("qemu-aarch64", program, model, f"--set={instruction_set}", "--logits", *images)
            np.testing.assert_array_equal(printed_logits(text), expected)


# Of TypeII at 224x224 for one image, in millions. launch/arm_instructions.sh counts ResNet18's as int8 beside it.
INSTRUCTIONS = 130


@pytest.mark.slow
@needs_arm
def test_instructions_on_arm(tmp_path):
    """They can be counted where times cannot be measured."""
    structure = latency.table1_structure(numbers.table1_row("TypeII"))
    (tmp_path / "m.onb").write_bytes(engines.random_plan(structure, (224, 224, 3))[0])
    (tmp_path / "a.raw").write_bytes(bytes(224 * 224 * 3))
    program, plugin = build(tmp_path, "aarch64"), tmp_path / "count.so"
    source = pathlib.Path(__file__).with_name("count_instructions.c")
    run(*runtime.compiler(), "-shared", "-fPIC", source, "-o", plugin)
    counts = []
    for images in (1, 2):
        command = ["qemu-aarch64", "-plugin", plugin, program, tmp_path / "m.onb", *[tmp_path / "a.raw"] * images]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True)
        counts.append(int(done.stderr.split()[0]))
    assert 100e6 < counts[1] - counts[0] < INSTRUCTIONS * 1e6


def sanitized(sanitizers, *files, compiler=None):
    """A command that compiles files with the library's, all under sanitizers."""
    flags = ["-g", "-O1", f"-fsanitize={sanitizers}", "-fno-sanitize-recover=all", f"-I{runtime.SOURCES}"]
    compiler = compiler or runtime.compiler()
    return [*compiler, *runtime.FLAGS[:1], *flags, *files, *runtime.sources(), "-lm", "-pthread", "-o"]


def small_images(folder):
    """Files of all kinds that the program reads."""
    random = np.random.default_rng(9)
    image = Image.fromarray(random.integers(0, 256, (33, 21, 3), np.uint8))
    image.save(folder / "a.ppm")
    tags = Image.Exif()
    tags[0x112] = 6
    for number, options in enumerate((dict(exif=tags), dict(progressive=True), dict(subsampling=0))):
        image.save(folder / f"{number}.jpg", **options)
    for number, (depth, colour) in enumerate(((8, 2), (4, 3), (16, 6), (1, 0))):
        (folder / f"{number}.png").write_bytes(any_png(random, 17, 30, depth, colour, transparent=True))
    return sorted(folder.glob("*.[pj]*g")) + [folder / "a.ppm"] if HAS_STB else [folder / "a.ppm"]


@pytest.mark.slow
def test_broken_images_under_sanitizers(tmp_path):
    run(*sanitized("address,undefined", pathlib.Path(__file__).with_name("fuzz.c")), tmp_path / "fuzz")
    text = run(tmp_path / "fuzz", 30, *small_images(tmp_path))
    assert int(text.split()[0]) > 1000 and "another size" in text and "no error" in text


@pytest.mark.slow
def test_broken_files_under_sanitizers(place, tmp_path):
    fuzz = pathlib.Path(__file__).with_name("fuzz.c")
    run(*sanitized("address,undefined", fuzz), tmp_path / "fuzz")
    text = run(tmp_path / "fuzz", 30, *(place / f"{k}.onb" for k in range(COUNT)))
    assert int(text.split()[0]) > 1000 and "contradicts" in text and "no error" in text


@pytest.mark.slow
@needs("clang")
def test_a_minute_of_libfuzzer(place, tmp_path):
    """It searches by what code a file reaches; `-max_total_time=600` by hand is the longer search."""
    fuzz = pathlib.Path(__file__).with_name("fuzz.c")
    compiled = sanitized("address,undefined,fuzzer", fuzz, "-DLIBFUZZER", compiler=["clang"])
    run(*compiled, tmp_path / "fuzz", timeout=1200)  # a minute on a machine at rest
    (tmp_path / "files").mkdir()
    for k in range(4):
        shutil.copy(place / f"{k}.onb", tmp_path / "files")
    small_images(tmp_path / "files")
    limits = ["-max_total_time=60", "-max_len=1000000", "-rss_limit_mb=4000", f"-artifact_prefix={tmp_path}/"]
    run(tmp_path / "fuzz", tmp_path / "files", *limits, timeout=1200)


@pytest.mark.slow
@pytest.mark.parametrize("sanitizers", ["address,undefined", "thread"])
def test_the_program_under_sanitizers(sanitizers, place, tmp_path):
    run(*sanitized(sanitizers, runtime.SOURCES / runtime.PROGRAM), tmp_path / "program")
    for number in range(COUNT):
        run(tmp_path / "program", place / f"{number}.onb", "--bench=2")
