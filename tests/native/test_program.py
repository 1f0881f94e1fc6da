"""The program onebnet-run, as launch/onebnet_run.sh builds it; the engine on other CPUs, and under sanitizers."""

import os
import pathlib
import re
import shutil
import subprocess

import engines
import numpy as np
import pytest
from PIL import Image
from programs import (
    HAS_LIBJPEG,
    HAS_STB,
    ROOT,
    SHAPE,
    any_png,
    build,
    needs_libjpeg,
    pixels,
    printed_logits,
    run,
    sanitized,
)

from onebnet_jax.native import runtime
from onebnet_jax.native.runtime import Engine
from onebnet_jax.networks import families
from onebnet_jax.paper import latency, numbers, pi_log

COUNT = 6  # networks
pytestmark = engines.needs_engine


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
    model.write_bytes(engines.random_plan(structure, SHAPE, classes=["Öse", 'a "b" \\'])[0])
    logits = np.float64(Engine(model).logits(pixels(place)))
    shares = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    lines = run(program, model, *(place / f"{k}.raw" for k in range(3))).splitlines()
    for line, share in zip(lines, shares):
        label, probability = line.split(": ")[1].rsplit(" ", 1)
        names = ["Öse", 'a "b" \\', "2"]  # the card has two names only
        assert label == names[share.argmax()] and abs(float(probability) - share.max()) < 1e-4


def test_refuses_other_files_and_options(place, program, tmp_path):
    (tmp_path / "cut.onb").write_bytes((place / "0.onb").read_bytes()[:-1])
    image = place / "0.raw"
    assert "cut.onb" in run(program, tmp_path / "cut.onb", image, status=2)
    assert "missing.onb" in run(program, tmp_path / "missing.onb", image, status=2)
    assert "threads" in run(program, place / "0.onb", "--threads=100", image, status=2)
    assert "instruction set" in run(program, place / "0.onb", "--set=mmx", image, status=2)
    assert "is a folder" in run(program, place / "0.onb", tmp_path, status=2)
    wrong = ["--nothing"], ["--at-least=80"], ["--at-least=x"], ["--at-least=0.5", "--logits"]
    for options in ([], [place / "0.onb"], *([*each, place / "0.onb", image] for each in wrong)):
        assert "usage" in run(program, *options, status=2)


def test_asked_what_it_is(program):
    assert run(program, "--help").startswith("usage") and run(program, "-h") == run(program, "--help")
    assert re.fullmatch(r"onebnet-run \d+\.\d+\n", run(program, "--version"))


@pytest.mark.parametrize("asked", [["--bench=1", "--threads=1"], ["{place}/0.raw"]])
def test_a_result_that_cannot_be_written_is_no_success(place, program, asked):
    with open("/dev/full", "w") as full:
        command = [program, place / "0.onb", *(word.format(place=place) for word in asked)]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, timeout=60)
    assert (done.returncode, done.stderr) == (2, b"error: standard output: cannot be written.\n")


def test_only_results_of_at_least_a_probability(place, program):
    images = [place / f"{k}.raw" for k in range(3)]
    lines = run(program, place / "0.onb", *images).splitlines()
    lowest, *likelier = sorted(lines, key=lambda line: float(line.split()[-1]))
    between = (float(lowest.split()[-1]) + float(likelier[0].split()[-1])) / 2
    printed = run(program, place / "0.onb", f"--at-least={between}", *images).splitlines()
    assert printed == [line for line in lines if line != lowest]


def test_bench_prints_three_times_for_one_and_for_four_threads(place, program):
    done = subprocess.run([program, place / "0.onb", "--bench=4", "--threads=4"], capture_output=True, text=True)
    runs = pi_log.parse_engine(f"command=./onebnet-run 0.onb --bench=4 --threads=4\n{done.stdout}", "0.txt")
    assert [(each.threads, each.count) for each in runs] == [(1, 4)] * 3 + [(4, 4)] * 3
    assert all(0 < each.min_ms <= min(each.mean_ms, each.median_ms) for each in runs)
    assert all(each.max_ms >= max(each.mean_ms, each.median_ms) for each in runs)
    assert ("note: the 4 threads" in done.stderr) == (os.cpu_count() < 4)


def test_bench_takes_no_more_threads_than_cores(place, program):
    text = run(program, place / "0.onb", "--bench=1")
    assert {int(each) for each in re.findall(r"threads (\d+),", text)} == {1, min(4, os.cpu_count())}


def needs(*programs):
    """Skips a test where a program of Debian's gcc-aarch64-linux-gnu or qemu-user is missing."""
    missing = [program for program in programs if not shutil.which(program)]
    return pytest.mark.skipif(bool(missing), reason=f"there is no {', '.join(missing)}")


needs_arm = needs("aarch64-linux-gnu-gcc", "qemu-aarch64")


@needs("gcc", "g++")
def test_compilers_find_nothing_to_warn_of(tmp_path):
    """In the engine as C by the standard, and in the headers for programs of one's own as C++ too."""
    engine = runtime.sources()[0].parent
    strict = "-Wall", "-Wextra", "-pedantic", "-Werror", "-fsyntax-only"
    subprocess.run(["gcc", "-std=c11", *strict, *sorted(engine.glob("*.c"))], check=True)
    (tmp_path / "mine.cpp").write_text('#include "onebnet.h"\n#include "resize.h"\nFit fit = {CROP, 1};\n')
    unused = "-Wno-unused-function"
    subprocess.run(["g++", "-std=c++11", *strict, unused, f"-I{engine}", tmp_path / "mine.cpp"], check=True)


@pytest.mark.slow
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
INSTRUCTIONS = 115


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


def test_a_build_without_libjpeg_names_where_an_easier_one_is_told(tmp_path):
    environment = os.environ | {"CC_aarch64": "false"}
    command = [ROOT / "launch" / "onebnet_run.sh", "--dry-run", tmp_path, "aarch64"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    page, anchor = re.search(r"(docs/\S+)#(\S+)", done.stderr).groups()
    headings = re.findall("^#+ (.*)", (ROOT / page).read_text(), re.MULTILINE)
    assert done.returncode == 0 and anchor in {heading.lower().replace(" ", "-") for heading in headings}
    assert "-DHAS_LIBJPEG" not in done.stdout


def small_images(folder):
    """Files of all kinds that the program reads."""
    random = np.random.default_rng(9)
    image = Image.fromarray(random.integers(0, 256, (33, 21, 3), np.uint8))
    image.save(folder / "a.ppm")
    tags = Image.Exif()
    tags[0x112] = 6
    kinds = [("RGB", dict(exif=tags)), ("RGB", dict(progressive=True)), ("RGB", dict(subsampling=0))]
    kinds += [("L", dict(xmp=b'tiff:Orientation="7"')), ("CMYK", {})]
    for number, (mode, options) in enumerate(kinds if HAS_LIBJPEG else ()):
        image.convert(mode).save(folder / f"{number}.jpg", **options)
    for number, (depth, colour) in enumerate(((8, 2), (4, 3), (16, 6), (1, 0)) if HAS_STB else ()):
        (folder / f"{number}.png").write_bytes(any_png(random, 17, 30, depth, colour, transparent=True))
    return sorted(folder.glob("*.[pj]*"))


@pytest.mark.slow
@needs("gcc")
@needs_libjpeg
def test_the_build_of_the_documents_needs_the_engine_alone(place, program, tmp_path):
    """docs/raspberry_pi.md, "Build on the Pi itself"."""
    shutil.copytree(runtime.SOURCES, tmp_path / "engine")
    (command,) = re.findall("^gcc .*", (ROOT / "docs" / "raspberry_pi.md").read_text(), re.MULTILINE)
    subprocess.run(["bash", "-c", command], cwd=tmp_path, check=True)
    small_images(tmp_path)
    arguments = [place / "0.onb", "--logits", *tmp_path.glob("*.[pj]*")]
    assert run(tmp_path / "onebnet-run", *arguments) == run(program, *arguments)


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
