"""A camera's frames on standard input, as onebnet-run reads them: the lines of the same images as files."""

import io
import re
import subprocess
import threading

import engines
import numpy as np
import pytest
from PIL import Image
from programs import HAS_LIBJPEG, needs_libjpeg, run, sanitized

from onebnet_jax.native import runtime

pytestmark = engines.needs_engine


def content(random, height, width, kind="ppm", **options):
    """An image file of noise."""
    shape, file = (height, width) if kind == "pgm" else (height, width, 3), io.BytesIO()
    kinds = {"ppm": "PPM", "pgm": "PPM", "jpg": "JPEG"}
    Image.fromarray(random.integers(0, 256, shape, np.uint8)).save(file, kinds[kind], **options)
    return file.getvalue()


def camera_frames():
    """Of several sizes and kinds, and the image files that have the same pixels."""
    random = np.random.default_rng(3)
    frames = [content(random, 31, 40), content(random, 12, 11), content(random, 50, 9, "pgm"), content(random, 200, 1)]
    files = [*frames, frames[0]]
    frames.append(frames[0].replace(b"P6\n", b"P6 # a comment with 7 8\n"))
    if HAS_LIBJPEG:
        end_within = dict(comment=b"\xff\xd8 a small picture \xff\xd9", exif=b"Exif\0\0MM\0*\xff\xd9\xff")
        jpegs = [
            content(random, 40, 31, "jpg"),
            content(random, 77, 90, "jpg", progressive=True, **end_within),
            content(random, 64, 64, "jpg", restart_marker_blocks=2),
        ]
        tables = re.compile(rb"\xff\xc4\0(\x1f.{29}|\xb5.{179})", re.DOTALL)  # webcams leave out the usual ones
        frames += [*jpegs, tables.sub(b"", jpegs[0]), frames[0]]
        files += [*jpegs, jpegs[0], frames[0]]
        assert len(tables.findall(jpegs[0])) == 4
    return frames, files


def feed(program, model, stream, *options, status=0):
    """What the program prints, as lines, and what it says of a problem."""
    done = subprocess.run([program, model, *options, "-"], input=stream, capture_output=True, timeout=300)
    assert done.returncode == status, done.stderr.decode()
    return done.stdout.decode().splitlines(), done.stderr.decode()


def of_files(program, model, folder, files, *options):
    """What the program prints behind the names of image files, as if they were frames."""
    paths = [folder / str(number) for number in range(len(files))]
    for path, each in zip(paths, files):
        path.write_bytes(each)
    printed = run(program, model, *options, *paths).splitlines()
    return [f"frame {number}:{line.split(':')[1]}" for number, line in enumerate(printed, 1)]


@pytest.mark.parametrize("options", [[], ["--logits", "--threads=3"]])
def test_frames_give_the_lines_of_files(options, place, program, tmp_path):
    frames, files = camera_frames()
    lines, problem = feed(program, place / "0.onb", b"".join(frames), *options)
    assert lines == of_files(program, place / "0.onb", tmp_path, files, *options) and len(lines) > 4 and not problem


def test_a_line_comes_before_the_next_frame(place, program):
    """Neither the reader nor the printer waits for more than a frame."""
    frames, _ = camera_frames()
    with subprocess.Popen([program, place / "0.onb", "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as running:
        timer = threading.Timer(60, running.kill)  # or one that waits would be waited for
        timer.start()
        for number, frame in enumerate(frames, 1):
            running.stdin.write(frame)
            running.stdin.flush()
            assert running.stdout.readline().startswith(b"frame %d: " % number)
        running.stdin.close()
        assert running.wait() == 0
        timer.cancel()


GOOD = content(np.random.default_rng(4), 20, 30)
JPEG = content(np.random.default_rng(4), 20, 30, "jpg")
BROKEN = [
    (b"hello", "no PPM"),
    (b"\0", "cut"),
    (b"\x89PNG\r\n\x1a\n", "no PPM"),
    (b"P6", "cut"),
    (b"P6\n30 2", "cut"),
    (GOOD[:-1], "cut"),
    (b"P6\nx 20\n255\n", "damaged"),
    (b"P6\n30 20\n65535\n" + bytes(3600), "rgb24"),
    (b"P6\n90000 90000\n255\n", "178 million"),
    (b"P6\n#" + bytes(5000), "no size"),
    (JPEG[:2], "cut"),
    (JPEG[:300], "cut"),
    (JPEG[:-2], "cut"),
    (JPEG[:-2] + JPEG, "another begins"),
    (b"\xff\xd8\xff\xe1\0\1", "damaged"),
    (b"\xff\xd8" + bytes(1 << 26), "64 MiB"),
    (b"\xff\xd8 no more \xff\xd9", "no PNG, JPEG"),
    pytest.param(b"\xff\xd8\xff\xe0\0\4ab\xff\xda\0\2\xff\xd9", "SOS before SOF", marks=needs_libjpeg),
]


@pytest.mark.parametrize(("broken", "word"), BROKEN)
def test_a_broken_frame_ends_it_with_a_sentence(broken, word, place, program):
    lines, problem = feed(program, place / "0.onb", GOOD + broken, status=2)
    assert len(lines) == 1 and lines[0].startswith("frame 1: ")
    assert word in problem and problem.startswith("error: frame 2 ") and problem.count("\n") == 1


def test_an_empty_stream_is_an_error(place, program):
    lines, problem = feed(program, place / "0.onb", b"", status=2)
    assert not lines and "empty" in problem


@pytest.mark.slow
def test_streams_under_sanitizers(place, tmp_path):
    """Whole ones, broken ones, and ones that are changed at random."""
    program, random = tmp_path / "program", np.random.default_rng(6)
    run(*sanitized("address,undefined", runtime.SOURCES / runtime.PROGRAM), program)
    frames, files = camera_frames()
    stream = b"".join(frames)
    assert feed(program, place / "0.onb", stream)[0] == of_files(program, place / "0.onb", tmp_path, files)
    streams = [GOOD + (case.values if hasattr(case, "values") else case)[0] for case in BROKEN]
    for _ in range(200):
        changed = np.frombuffer(stream, np.uint8).copy()
        changed[random.integers(0, len(stream), random.integers(1, 9))] = random.integers(0, 256)
        streams.append(changed[: random.integers(1, len(stream) * 2)].tobytes())
    for each in streams:
        done = subprocess.run([program, place / "0.onb", "-"], input=each, capture_output=True, timeout=300)
        assert done.returncode in (0, 2) and done.stderr.count(b"\n") == (done.returncode == 2), done.stderr.decode()
