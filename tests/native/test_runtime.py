"""The native engine by itself: whole numbers, the same bits from all instruction sets and threads, and broken files."""

import struct
import zlib

import engines
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from packed import pack, pack_kernel, packed_conv

from onebnet_jax.errors import UserError
from onebnet_jax.export.native import GATE, MAGIC, PROJECT, SHIFT, SIZE, STEM, UNIT
from onebnet_jax.native import build, runtime
from onebnet_jax.native.runtime import Engine
from onebnet_jax.networks import families

pytestmark = engines.needs_engine


def network(family="onebnet", **fields):
    """The file of a small network with all that a unit may have, and 5 images of it."""
    fields = dict(depth=8, width_multiplier=1.3, stem="imagenet", num_classes=37) | fields
    if family == "onebnet":
        fields = dict(conv_1d=(16,), ds_1d=(32,)) | fields
    structure = families.build(family, **fields)
    file, _ = engines.random_plan(structure, (33, 35, 3), folded=False)
    return file, np.random.default_rng(0).integers(0, 256, (5, 33, 35, 3), np.uint8)


@given(
    size=st.tuples(st.integers(1, 11), st.integers(1, 19)),
    extent=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    strides=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    channels=st.tuples(st.integers(1, 100), st.integers(1, 70)),
    pad_value=st.integers(0, 1),
    seed=st.integers(0, 9),
)
@example(size=(9, 9), extent=(3, 3), strides=(1, 1), channels=(512, 32), pad_value=0, seed=0)  # bytes would overflow
@example(size=(3, 3), extent=(3, 3), strides=(2, 2), channels=(300, 33), pad_value=1, seed=0)
@settings(max_examples=150)
def test_whole_numbers_of_binarized_convolutions(size, extent, strides, channels, pad_value, seed):
    rng = np.random.default_rng(seed)
    kernel, image = rng.choice([-1, 1], (*extent, *channels)), rng.integers(0, 256, (*size, channels[0]), np.uint8)
    limit = rng.choice([127.0, 100.0, 254.0])
    plan = engines.signs_plan(kernel, size, strides, pad_value, threshold=limit)
    signs = np.where(image > limit, 1, -1)
    expected = packed_conv(pack(signs[None]), pack_kernel(kernel), channels[0], strides, pad_value)[0]
    file = engines.pack(plan)
    for name in engines.sets():
        engine = Engine(file, instruction_set=name)
        np.testing.assert_array_equal(engine.look(image, 0, values=False)[0], signs)
        np.testing.assert_array_equal(engine.look(image, 1, signs=False)[1], expected)


@pytest.mark.parametrize(
    "fields", [dict(pad_value=0), dict(pad_value=1, stem="cifar", stem_relu=True), dict(family="realtobin")], ids=str
)
def test_sets_and_threads_give_the_same_bits(fields):
    file, images = network(**fields)
    engine = Engine(file)
    expected = engine.logits(images)
    assert np.ptp(expected) > 1
    for name in set(engines.sets()) - {"plain"}:
        np.testing.assert_array_equal(Engine(file, instruction_set=name).logits(images), expected)
    for threads in (2, 3, 7):
        several = Engine(file, threads=threads)
        np.testing.assert_array_equal(several.logits(images), expected)  # side by side
        for image, logits in zip(images, expected):
            np.testing.assert_array_equal(several.logits(image[None])[0], logits)  # within the image


def test_plain_c_differs_by_rounding_alone():
    """Its sums are those of the others; where no value is near a threshold, no sign differs."""
    file, images = network(pad_value=1)
    expected = Engine(file).logits(images)
    others = Engine(file, instruction_set="plain").logits(images)
    np.testing.assert_allclose(others, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_what_a_file_says_of_itself():
    file, images = network()
    engine = Engine(file)
    assert engine.card == {"classes": ["a", "b"]}
    assert engine.shape == (33, 35, 3) and engine.classes == 37 and engine.logits(images[:0]).shape == (0, 37)
    assert engine.memory(4) > engine.memory(1) > 0


def altered(file: bytes, at: int, content: bytes) -> bytes:
    """A file with some bytes changed, and a checksum that is right again."""
    file = file[:at] + content + file[at + len(content) :]
    return file[:12] + struct.pack("<I", zlib.crc32(file[16:])) + file[16:]


def test_refuses_what_is_no_whole_file(tmp_path):
    file, _ = network()
    cases = {
        "wrote": [b"", MAGIC[:7], b"x" * 200, b"TFL3" * 100],
        "version": [file[:8] + struct.pack("<I", 1) + file[12:]],
        "as long": [file[:20], file[:SIZE], file[:-1], file + bytes(64)],
        "checksum": [file[:-1] + bytes([file[-1] ^ 1]), file.replace(b"classes", b'cla"ses')],
        "card": [altered(file, file.index(b"{"), b"x"), altered(file, file.index(b"["), b"7, ")],
    }
    for word, files in cases.items():
        for content in files:
            with pytest.raises(UserError, match=word):
                Engine(content)
    (tmp_path / "broken.onb").write_bytes(file[:-1])
    with pytest.raises(UserError, match="broken.onb"):
        Engine(tmp_path / "broken.onb")
    with pytest.raises(UserError, match="convert"):
        Engine(tmp_path / "missing.onb")


@pytest.mark.parametrize("family", ["onebnet", "realtobin"])
def test_refuses_each_number_that_is_out_of_bounds(family):
    """Every number of the header and of the units in turn, made one that no file could hold."""
    file, _ = network(family)
    start, count = struct.unpack_from("<Ii", file, 40)
    size, stem = struct.calcsize(UNIT), SIZE - struct.calcsize(STEM)
    places = {*range(24, SIZE, 4)} - {60, stem + 64, stem + 68}  # not used, and padding before the pool: see below
    for unit in range(start, start + count * size, size):
        (flags,) = struct.unpack_from("<i", file, unit + 48)
        places |= {*range(unit, unit + 52, 4), *range(unit + 68, unit + 112, 4)}
        places |= {*range(unit + 52, unit + 68, 4), unit + 120, unit + 124} if flags & PROJECT else set()
        places |= {unit + 112, unit + 116} if flags & SHIFT else set()
        places |= {*range(unit + 128, unit + 144, 4)} if flags & GATE else set()
    for at in places:
        for value in (-1, 2**31 - 1):
            with pytest.raises(UserError, match="contradicts|as long"):
                Engine(altered(file, at, struct.pack("<i", value)))
    for at in (stem + 64, stem + 68):
        with pytest.raises(UserError, match="contradicts"):
            Engine(altered(file, at, struct.pack("<i", 3)))


def test_refuses_wrong_images_and_sets():
    file, images = network()
    engine = Engine(file)
    for wrong in (images[:, :-1], images[..., :1], images[0], images.astype(np.float64)):
        with pytest.raises(UserError, match="33, 35, 3"):
            engine.logits(wrong)
    for number in (np.nan, np.inf):
        with pytest.raises(UserError, match="finite"):
            engine.logits(np.full((2, *engine.shape), number, np.float32))
    with pytest.raises(UserError, match="unit"):
        engine.look(images[0], engine.units + 1)
    with pytest.raises(UserError, match="instruction set"):
        Engine(file, instruction_set="mmx")
    for threads in (0, 65):
        with pytest.raises(UserError, match="threads"):
            Engine(file, threads=threads)


def test_without_a_compiler_there_is_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "folders", lambda: [tmp_path])
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CC", raising=False)
    runtime.library.cache_clear()
    try:
        with pytest.raises(UserError, match="gcc"):
            runtime.library()
    finally:
        runtime.library.cache_clear()
