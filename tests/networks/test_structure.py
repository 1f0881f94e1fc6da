"""The list of units of every named structure, and what is refused."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onebnet_jax.errors import UserError
from onebnet_jax.networks.structure import BLOCKS, DEPTHS, PADDINGS, STEMS, Structure, blocks, units


def describe(unit):
    """Such as "3x1/2x1 64-128": kernel, strides where they are not 1, channels."""
    (height, width), (rows, columns) = unit.kernel, unit.strides
    strides = "" if unit.strides == (1, 1) else f"/{rows}x{columns}"
    return f"{height}x{width}{strides} {unit.in_channels}-{unit.out_channels}"


def square(c, count):
    return [f"3x3 {c}-{c}"] * count


def one_d(c, count):
    return [f"3x1 {c}-{c}", f"1x3 {c}-{c}"] * count


def square_ds(c):
    return [f"3x3/2x2 {c // 2}-{c}"]


def one_d_ds(c):
    return [f"3x1/2x1 {c // 2}-{c}", f"1x3/1x2 {c}-{c}"]


NAMED = {
    "ReActNet18": (
        Structure(18),
        square(64, 4)
        + square_ds(128) + square(128, 3)
        + square_ds(256) + square(256, 3)
        + square_ds(512) + square(512, 3),
    ),
    "TypeI": (
        Structure(18, ds_1d=(128, 256, 512)),
        square(64, 4)
        + one_d_ds(128) + square(128, 3)
        + one_d_ds(256) + square(256, 3)
        + one_d_ds(512) + square(512, 3),
    ),
    "TypeII": (
        Structure(18, conv_1d=(256, 512), ds_1d=(256, 512)),
        square(64, 4)
        + square_ds(128) + square(128, 3)
        + one_d_ds(256) + one_d(256, 3)
        + one_d_ds(512) + one_d(512, 3),
    ),
    "TypeIII": (
        Structure(18, conv_1d=(512,), ds_1d=(512,)),
        square(64, 4)
        + square_ds(128) + square(128, 3)
        + square_ds(256) + square(256, 3)
        + one_d_ds(512) + one_d(512, 3),
    ),
    "Table 1: 64,128 and 128": (
        Structure(18, conv_1d=(64, 128), ds_1d=(128,)),
        one_d(64, 4)
        + one_d_ds(128) + one_d(128, 3)
        + square_ds(256) + square(256, 3)
        + square_ds(512) + square(512, 3),
    ),
    "Table 1: 256,512 and none": (
        Structure(18, conv_1d=(256, 512)),
        square(64, 4)
        + square_ds(128) + square(128, 3)
        + square_ds(256) + one_d(256, 3)
        + square_ds(512) + one_d(512, 3),
    ),
    "FashionMNIST, Table 6: none and 32,64": (
        Structure(20, ds_1d=(32, 64)),
        square(16, 6) + one_d_ds(32) + square(32, 5) + one_d_ds(64) + square(64, 5),
    ),
    "FashionMNIST, Table 6: 64 and 64": (
        Structure(20, conv_1d=(64,), ds_1d=(64,)),
        square(16, 6) + square_ds(32) + square(32, 5) + one_d_ds(64) + one_d(64, 5),
    ),
    "ResNet34": (
        Structure(34, block="resnet"),
        square(64, 6)
        + square_ds(128) + square(128, 7)
        + square_ds(256) + square(256, 11)
        + square_ds(512) + square(512, 5),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NAMED)
def test_units_of_named_structures(name):
    structure, expected = NAMED[name]
    assert [describe(unit) for unit in units(structure)] == expected


def test_names_say_stage_block_place_and_kernel():
    names = [[unit.name for unit in block.units] for block in blocks(Structure(18, conv_1d=(512,), ds_1d=(256, 512)))]
    assert names[0] == ["stage1_block1_conv1", "stage1_block1_conv2"]
    assert names[4] == ["stage3_block1_conv1_3x1", "stage3_block1_conv1_1x3", "stage3_block1_conv2"]
    assert names[7] == [f"stage4_block2_conv{place}_{kernel}" for place in (1, 2) for kernel in ("3x1", "1x3")]


@pytest.mark.parametrize(
    ("multiplier", "widths"),
    [
        (2, (128, 256, 512, 1024)),
        (1.4, (90, 179, 358, 717)),
        (1, (64, 128, 256, 512)),
        (0.7, (45, 90, 179, 358)),
        (0.5, (32, 64, 128, 256)),
    ],
)
def test_multipliers_of_table_7(multiplier, widths):
    structure = Structure(18, width_multiplier=multiplier, conv_1d=(256, 512), ds_1d=(256, 512))
    assert structure.widths == widths
    # Stages keep the names that they have at multiplier 1.
    assert [describe(unit) for unit in units(structure)][-1] == f"1x3 {widths[-1]}-{widths[-1]}"
    assert {unit.stage for unit in units(structure)} == {64, 128, 256, 512}


@st.composite
def structures(draw):
    depth = draw(st.sampled_from(list(DEPTHS)))
    block = draw(st.sampled_from(BLOCKS))
    widths = DEPTHS[depth][0]
    stages = {
        field: tuple(draw(st.lists(st.sampled_from(allowed), unique=True))) if block == "onebnet" else ()
        for field, allowed in (("conv_1d", widths), ("ds_1d", widths[1:]))
    }
    return Structure(depth, block, width_multiplier=draw(st.floats(0.04, 16)), **stages)


@given(structures())
def test_every_structure_is_a_chain_that_halves_once_a_stage(structure):
    body, (names, counts) = units(structure), DEPTHS[structure.depth]
    assert len(blocks(structure)) == sum(counts)
    assert tuple(unit for block in blocks(structure) for unit in block.units) == body
    assert len({unit.name for unit in body}) == len(body)
    assert body[0].in_channels == structure.widths[0] and body[-1].out_channels == structure.widths[-1]
    for unit, following in zip(body, body[1:], strict=False):
        assert unit.out_channels == following.in_channels
    for index, stage in enumerate(names):
        own = [unit for unit in body if unit.stage == stage]
        halvings = [math.prod(strides) for strides in zip(*(unit.strides for unit in own), strict=True)]
        assert halvings == ([1, 1] if index == 0 else [2, 2])
        # Each of the two 3x3 places of a block reaches over 3x3 pixels, be it in one unit or in two.
        reach = [sum(k - 1 for k in sizes) for sizes in zip(*(unit.kernel for unit in own), strict=True)]
        assert reach == [2 * 2 * counts[index]] * 2
    assert all(unit.downsamples == (unit.strides != (1, 1)) for unit in body)
    assert all(unit.in_channels == unit.out_channels for unit in body if not unit.downsamples)
    assert [block.strides for block in blocks(structure)].count((2, 2)) == len(counts) - 1


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("depth", dict(depth=50)),
        ("depth", dict(depth="18")),
        ("block", dict(block="bottleneck")),
        ("stem", dict(stem="mnist")),
        ("padding", dict(padding="valid")),
        ("padding", dict(padding="torch")),  # of a OneBNet
        ("pad_value", dict(pad_value=-1)),
        ("pad_value", dict(pad_value=2)),
        ("conv_1d", dict(conv_1d=(100,))),
        ("conv_1d", dict(conv_1d=(256, 256))),
        ("conv_1d", dict(depth=20, conv_1d=(128,))),
        ("conv_1d", dict(block="resnet", conv_1d=(256,))),
        ("ds_1d", dict(ds_1d=(64,))),  # the first stage does not downsample
        ("ds_1d", dict(depth=20, ds_1d=(16, 32))),
        ("ds_1d", dict(block="resnet", ds_1d=(256,))),
        ("width_multiplier", dict(width_multiplier=0.0)),
        ("width_multiplier", dict(width_multiplier=-1.0)),
        ("width_multiplier", dict(width_multiplier=0.005)),
        ("width_multiplier", dict(width_multiplier=17.0)),
        ("width_multiplier", dict(width_multiplier=math.nan)),
        ("width_multiplier", dict(width_multiplier=math.inf)),
        ("num_classes", dict(num_classes=1)),
    ],
)
def test_what_cannot_be_built_is_refused_in_one_sentence_that_names_the_field(field, fields):
    with pytest.raises(UserError) as error:
        Structure(**fields)
    message = str(error.value)
    assert message.startswith(f"model.{field}") and message.endswith(".") and "\n" not in message


anything = st.one_of(st.integers(-3, 600), st.floats(allow_nan=True), st.text(max_size=3))


@given(
    depth=st.one_of(st.sampled_from(list(DEPTHS)), anything),
    block=st.one_of(st.sampled_from(BLOCKS), anything),
    conv_1d=st.lists(st.one_of(st.sampled_from([16, 64, 256]), st.integers())).map(tuple),
    ds_1d=st.lists(st.one_of(st.sampled_from([32, 256, 512]), st.integers())).map(tuple),
    width_multiplier=st.floats(),
    num_classes=st.integers(),
    stem=st.one_of(st.sampled_from(STEMS), anything),
    padding=st.one_of(st.sampled_from(PADDINGS), anything),
    pad_value=st.one_of(st.sampled_from([0, 1]), anything),
)
def test_any_fields_are_built_or_refused(**fields):
    try:
        structure = Structure(**fields)
    except UserError as error:
        assert str(error).startswith("model.")
    else:
        assert units(structure)
