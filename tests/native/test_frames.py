"""A camera's frames on standard input, as onebnet-run reads them: the lines of the same images as files."""

import io
import os
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


@pytest.mark.slow
@pytest.mark.parametrize("options", [[], ["--logits", f"--threads={min(2, os.cpu_count())}"]])
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
# Behind these nothing shows where the next frame begins.
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
    pytest.param(JPEG, "libjpeg-dev", marks=pytest.mark.skipif(HAS_LIBJPEG, reason="there is libjpeg")),
]


@pytest.mark.parametrize(("broken", "word"), BROKEN)
def test_a_broken_frame_ends_it_with_a_sentence(broken, word, place, program):
    lines, problem = feed(program, place / "0.onb", GOOD + broken, status=2)
    assert len(lines) == 1 and lines[0].startswith("frame 1: ")
    assert word in problem and problem.startswith("error: frame 2 ") and problem.count("\n") == 1


TABLE = JPEG.index(b"\xff\xdb")  # of quantization; a JFIF segment comes before it
SCAN = JPEG.index(b"\xff\xda")
REMARK = content(np.random.default_rng(4), 20, 30, "jpg", comment=content(np.random.default_rng(5), 8, 8, "jpg"))
LARGE = content(np.random.default_rng(4), 64, 64, "jpg")
MISSING = LARGE[:2000] + LARGE[2512:]  # a packet of its pixels was lost
# A frame that is cut or broken, and in which words it is told; the next one begins where it ends.
CUT = [
    *((JPEG[:size], "another begins") for size in (2, 3, TABLE + 1, TABLE + 3, TABLE + 30, SCAN - 9, SCAN + 5, 300)),
    (JPEG[:-2], "another begins"),
    (b"\xff\xd8\xff\xe1\0\1", "damaged"),
    (b"\xff\xd8 no more \xff\xd9", "no PNG, JPEG"),
    (b"\xff\xd8\xff\xe0\0\4ab\xff\xda\0\2\xff\xd9", "SOS before SOF"),
    (JPEG[:300] + b"\xff\xd9", "is cut"),
    (MISSING, "damaged"),
    # The small picture within a broken one is no frame.
    (REMARK[:-2], "another begins"),
    (REMARK[: REMARK.rindex(b"\xff\xda")] + b"\xff\xd9", "cannot be decoded"),
]


@needs_libjpeg
@pytest.mark.parametrize(("broken", "word"), CUT)
def test_a_broken_jpeg_is_skipped(broken, word, place, program, tmp_path):
    files = [content(np.random.default_rng(seed), 33, 40, "jpg") for seed in (1, 2, 3)]
    lines, said = feed(program, place / "0.onb", files[0] + broken + files[1] + files[2])
    first, *rest = of_files(program, place / "0.onb", tmp_path, files)
    assert lines == [first, *(line.replace(f"frame {k}:", f"frame {k + 1}:") for k, line in enumerate(rest, 2))]
    note, count = said.splitlines()
    assert note.startswith("note: frame 2 ") and word in note and count == "note: 1 of 4 frames were skipped."


@needs_libjpeg
def test_a_file_of_which_a_part_is_missing_is_classified_with_a_note(place, program, tmp_path):
    """As Pillow reads it in training."""
    (tmp_path / "a.jpg").write_bytes(MISSING)
    done = subprocess.run([program, place / "0.onb", tmp_path / "a.jpg"], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.count("a.jpg: ") == 1
    assert done.stderr.startswith("note: ") and "damaged" in done.stderr


@needs_libjpeg
def test_what_is_no_jpeg_between_jpegs_is_skipped(place, program):
    """The rest of a frame whose end was damaged, or the words of a web camera between two."""
    lines, said = feed(program, place / "0.onb", JPEG + b"--next \xff\xd8 and \xff" + JPEG + JPEG + JPEG[:-1])
    assert [line.split(":")[0] for line in lines] == ["frame 1", "frame 3", "frame 4"]
    assert [line.split(" is ")[0] for line in said.splitlines()[:2]] == ["note: frame 2", "note: frame 5"]
    assert said.splitlines()[2:] == ["note: 2 of 5 frames were skipped."]


@needs_libjpeg
@pytest.mark.parametrize(
    ("stream", "word"), [(JPEG[:-9], "1 of 1"), (JPEG + b"\xff\xd8" + bytes(1 << 27), "not found within 64 MiB")]
)
def test_a_stream_without_frames_is_an_error(stream, word, place, program):
    _, said = feed(program, place / "0.onb", stream, status=2)
    assert word in said


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
    streams = [GOOD + (case.values if hasattr(case, "values") else case)[0] for case in [*BROKEN, *CUT]]
    for _ in range(200):
        changed = np.frombuffer(stream, np.uint8).copy()
        changed[random.integers(0, len(stream), random.integers(1, 9))] = random.integers(0, 256)
        streams.append(changed[: random.integers(1, len(stream) * 2)].tobytes())
    for each in streams:
        done = subprocess.run([program, place / "0.onb", "-"], input=each, capture_output=True, timeout=300)
        kinds = {line.split(b" ")[0] for line in done.stderr.splitlines()}
        assert (done.returncode, kinds - {b"note:"}) in ((0, set()), (2, set()), (2, {b"error:"})), done.stderr.decode()
