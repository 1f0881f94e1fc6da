"""The program onebnet-run, as launch/onebnet_run.sh builds it; the engine on other CPUs, and under sanitizers."""

import os
import pathlib
import platform
import shutil
import subprocess

import dyadic
import engines
import numpy as np
import pytest
from PIL import Image

from onebnet_jax.native import runtime
from onebnet_jax.native.runtime import Engine
from onebnet_jax.networks import families
from onebnet_jax.paper import latency, numbers, pi_log

ROOT = pathlib.Path(__file__).parents[2]
HERE = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64"}.get(platform.machine().lower())
SHAPE = (12, 11, 3)
COUNT = 6  # networks
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
    if pathlib.Path("/usr/include/stb/stb_image.h").exists():
        np.testing.assert_array_equal(printed_logits(run(program, model, "--logits", tmp_path / "a.png")), expected)
    else:
        assert "libstb-dev" in run(program, model, tmp_path / "a.png", status=2)


@pytest.mark.parametrize(
    ("name", "content", "word"),
    [
        ("cut.ppm", b"P6\n11 12\n255\n" + bytes(5), "cut"),
        ("size.ppm", b"P6\n12 11\n255\n" + bytes(396), "size"),
        ("gray.pgm", b"P5\n11 12\n255\n" + bytes(132), "size"),
        ("deep.ppm", b"P6\n11 12\n65535\n" + bytes(792), "8 bits"),
        ("header.ppm", b"P6", "header.ppm"),
        ("short.raw", bytes(395), "bytes"),
        ("none.png", b"nothing", "none.png"),
        ("missing.ppm", None, "read"),
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
    limits = ["-max_total_time=60", "-max_len=1000000", "-rss_limit_mb=4000", f"-artifact_prefix={tmp_path}/"]
    run(tmp_path / "fuzz", tmp_path / "files", *limits, timeout=1200)


@pytest.mark.slow
@pytest.mark.parametrize("sanitizers", ["address,undefined", "thread"])
def test_the_program_under_sanitizers(sanitizers, place, tmp_path):
    run(*sanitized(sanitizers, runtime.SOURCES / runtime.PROGRAM), tmp_path / "program")
    for number in range(COUNT):
        run(tmp_path / "program", place / f"{number}.onb", "--bench=2")
