"""What the tests of the program onebnet-run share: how it is built and run, and PNG files of all kinds."""

import os
import pathlib
import platform
import struct
import subprocess
import zlib

import numpy as np
import pytest

from onebnet_jax.native import runtime

ROOT = pathlib.Path(__file__).parents[2]
HERE = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64"}.get(platform.machine().lower())
SHAPE = (12, 11, 3)
HAS_STB = pathlib.Path("/usr/include/stb/stb_image.h").exists()
HAS_LIBJPEG = pathlib.Path(f"/usr/lib/{HERE}-linux-gnu/libjpeg.a").exists()
needs_stb = pytest.mark.skipif(not HAS_STB, reason="there is no stb_image (libstb-dev)")
needs_libjpeg = pytest.mark.skipif(not HAS_LIBJPEG, reason="there is no libjpeg (libjpeg-dev)")


def build(folder, architecture, **variables):
    """The program for an architecture."""
    script, environment = ROOT / "launch" / "onebnet_run.sh", {"CFLAGS": "-Wall -Wextra"} | variables
    done = subprocess.run([script, folder, architecture], env=os.environ | environment, capture_output=True, text=True)
    assert done.returncode == 0 and "warning" not in done.stderr, done.stderr
    return folder / f"onebnet-run-{architecture}"


def sanitized(sanitizers, *files, library=True, compiler=None):
    """A command that compiles files, and with them the library's, under sanitizers; the program's name is to follow."""
    flags = ["-g", "-O1", f"-fsanitize={sanitizers}", "-fno-sanitize-recover=all", f"-I{runtime.SOURCES}"]
    reader, libraries = (["-DHAS_LIBJPEG"], ["-ljpeg"]) if HAS_LIBJPEG else ([], [])
    command = [*(compiler or runtime.compiler()), *runtime.FLAGS[:1], *flags, *reader]
    return [*command, *files, *(runtime.sources() if library else ()), *libraries, "-lm", "-pthread", "-o"]


def run(*command, status=0, timeout=300):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=timeout)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout if status == 0 else done.stderr


def pixels(place):
    return np.stack([np.frombuffer((place / f"{k}.raw").read_bytes(), np.uint8).reshape(SHAPE) for k in range(3)])


def printed_logits(text):
    return np.array([line.split(":")[1].split() for line in text.splitlines()], np.float32)


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
