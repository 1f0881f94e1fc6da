"""The list of units of every published network, what is refused, and that any of the others can be built and run."""

import itertools
import math

import jax
import jax.numpy as jnp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onebnet_jax.errors import UserError
from onebnet_jax.networks import cost, families
from onebnet_jax.networks.network import Network, variable_shapes
from onebnet_jax.networks.structure import Binarization, placed, strided
from onebnet_jax.ops import binarize


def body(family="onebnet", **fields):
    """The units behind the stem."""
    return families.build(family, **fields).units[1:]


# The units of a place, without and with downsampling, in 2-D and in 1-D: kernels, and strides where they are not 1.
S, DS, P = ["3x3"], ["3x3/2x2"], ["3x3", "1x1"]
S1, DS1 = ["3x1", "1x3"], ["3x1/2x1", "1x3/1x2"]
RESNET18 = [S * 4, DS + S * 3, DS + S * 3, DS + S * 3]
NAMED = {  # stage by stage
    "ReActNet18": (dict(), RESNET18),
    "Bi-RealNet18": (dict(family="birealnet"), RESNET18),
    "XNOR-Net ResNet18": (dict(family="xnornet"), RESNET18),
    "Real-to-Bin ResNet18": (dict(family="realtobin"), RESNET18),
    "FP32 ResNet18": (dict(family="resnet"), RESNET18),
    "ReActNet-A": (
        dict(family="reactnet_a"),
        [P, [*DS, "1x1"] + P, [*DS, "1x1"] + P, [*DS, "1x1"] + P * 5] + [[*DS, "1x1"] + P],
    ),
    "FP32 ResNet34": (dict(family="resnet", depth=34), [S * 6, DS + S * 7, DS + S * 11, DS + S * 5]),
    "TypeI": (dict(ds_1d=(128, 256, 512)), [S * 4, DS1 + S * 3, DS1 + S * 3, DS1 + S * 3]),
    "TypeII": (dict(conv_1d=(256, 512), ds_1d=(256, 512)), [S * 4, DS + S * 3, DS1 + S1 * 3, DS1 + S1 * 3]),
    "Table 1: 64,128 and 128": (
        dict(conv_1d=(64, 128), ds_1d=(128,)),
        [S1 * 4, DS1 + S1 * 3, DS + S * 3, DS + S * 3],
    ),
    "Table 1: 256,512 and none": (dict(conv_1d=(256, 512)), [S * 4, DS + S * 3, DS + S1 * 3, DS + S1 * 3]),
    "FashionMNIST, Table 6: 64 and 64": (
        dict(depth=20, conv_1d=(64,), ds_1d=(64,)),
        [S * 6, DS + S * 5, DS1 + S1 * 5],
    ),
}


@pytest.mark.parametrize("name", NAMED)
def test_units_of_named_networks(name):
    fields, expected = NAMED[name]
    described = {}
    for unit in body(**fields):
        strides = "" if unit.strides == (1, 1) else "/{}x{}".format(*unit.strides)
        described.setdefault(unit.stage, []).append("{}x{}".format(*unit.kernel) + strides)
    assert list(described.values()) == expected


def test_names_say_stage_block_place_and_kernel():
    names = [unit.name for unit in body(conv_1d=(512,), ds_1d=(256, 512))]
    assert names[:2] == ["stage1_block1_conv1", "stage1_block1_conv2"]
    assert names[8:11] == ["stage3_block1_conv1_3x1", "stage3_block1_conv1_1x3", "stage3_block1_conv2"]
    assert names[-4:] == [f"stage4_block2_conv{place}_{kernel}" for place in (1, 2) for kernel in ("3x1", "1x3")]


def test_what_surrounds_binarized_maps_if_nothing_is_said():
    pads = {family: {unit.pad_value for unit in body(family)} for family in families.FAMILIES}
    assert pads == {
        "onebnet": {1},
        "birealnet": {0},
        "xnornet": {0},
        "resnet": {0},
        "reactnet_a": {0},
        "realtobin": {0},
    }


def test_a_family_of_ones_own_that_fails_is_told_with_its_line(monkeypatch):
    monkeypatch.setitem(families.FAMILIES, "mine", lambda num_classes, channels: [][channels])
    with pytest.raises(UserError, match=r"'mine' fails .IndexError: .*, in line \d+ of .*test_families.py"):
        families.build("mine", num_classes=10, channels=3)


def test_multipliers_of_table_7():
    """Stages keep the names that they have at multiplier 1."""
    for multiplier, widths in ((2, (128, 256, 512, 1024)), (1.4, (90, 179, 358, 717)), (0.7, (45, 90, 179, 358))):
        units = body(width_multiplier=multiplier, conv_1d=(256, 512), ds_1d=(256, 512))
        assert {unit.stage: unit.out_channels for unit in units} == dict(zip((64, 128, 256, 512), widths, strict=True))


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("family", dict(family="vgg")),
        ("depth", dict(depth=19)),
        ("depth", dict(depth="18")),
        ("stem", dict(stem="mnist")),
        ("padding", dict(family="resnet", padding="valid")),
        ("pad_value", dict(pad_value=-1)),
        ("pad_value", dict(family="xnornet", pad_value=2)),
        ("conv_1d", dict(conv_1d=(100,))),
        ("conv_1d", dict(conv_1d=(256, 256))),
        ("conv_1d", dict(depth=20, conv_1d=(128,))),
        ("ds_1d", dict(ds_1d=(64,))),  # the first stage does not downsample
        *[("width_multiplier", dict(width_multiplier=m)) for m in (0.0, -1.0, 0.005, 17.0, math.nan, math.inf)],
        ("width_multiplier", dict(family="reactnet_a", width_multiplier=0.01)),
        ("stem", dict(family="reactnet_a", stem="mnist")),
        ("num_classes", dict(family="birealnet", num_classes=1)),
    ],
)
def test_what_cannot_be_built_is_refused_in_one_sentence_that_names_the_field(field, fields):
    with pytest.raises(UserError) as error:
        families.build(**dict(family="onebnet") | fields)
    message = str(error.value)
    assert message.startswith(f"model.{field}") and message.endswith(".") and "\n" not in message


def body_of(family, depth):
    """(output channels of each stage at multiplier 1, blocks of each)."""
    return families.stages(depth) if family != "reactnet_a" else ((64, 128, 256, 512, 1024), (1, 2, 2, 6, 2))


@st.composite
def recipes(draw, depths):
    """A family and fields of it that can be built."""
    family, depth = draw(st.sampled_from(list(families.FAMILIES))), draw(st.sampled_from(depths))
    widths, _ = body_of(family, depth)
    fields = dict(
        depth=st.just(depth),
        conv_1d=st.lists(st.sampled_from(widths), unique=True).map(tuple),
        ds_1d=st.lists(st.sampled_from(widths[1:]), unique=True).map(tuple),
        width_multiplier=st.one_of(st.floats(0.05, 2), st.sampled_from([0.0313, 0.7, 1.4, 16.0])),
        stem=st.sampled_from(["cifar", "imagenet"]),
        stem_relu=st.booleans(),
        pad_value=st.sampled_from([0, 1]),
        padding=st.sampled_from(["same", "torch"]),
        num_classes=st.integers(2, 12),
        channels=st.sampled_from([1, 3]),
    )
    return family, {name: draw(fields[name]) for name in families.parameters(family)}


@given(recipes([8, 10, 18, 20, 34, 110]))
def test_every_network_is_a_chain_that_halves_once_a_stage(recipe):
    family, fields = recipe
    structure = families.build(family, **fields)
    assert structure == families.build(**dict(structure.recipe))
    stem, *units = structure.units
    widths, counts = body_of(family, fields.get("depth"))
    multiplier = fields["width_multiplier"]
    if family == "reactnet_a":
        multiplier = stem.out_channels / 32
        assert stem.out_channels == round(32 * fields["width_multiplier"])
    assert (stem.in_channels, structure.num_classes) == (fields["channels"], fields["num_classes"])
    assert len({unit.name for unit in structure.units}) == len(structure.units)
    for unit, following in itertools.pairwise(structure.units):
        assert unit.out_channels == following.in_channels
    for index, (stage, count) in enumerate(zip(widths, counts, strict=True)):
        own = [unit for unit in units if unit.stage == stage]
        channels = {unit.out_channels for unit in own[1:]}  # the first unit of ReActNet-A keeps those before it
        assert channels == {round(multiplier * stage)}
        halvings = [math.prod(strides) for strides in zip(*(unit.strides for unit in own), strict=True)]
        assert halvings == ([1, 1] if index == 0 else [2, 2])
        # Each of the 3x3 places of a block, two or one, reaches over 3x3 pixels, be it in one unit or in two.
        reach = [sum(k - 1 for k in sizes) for sizes in zip(*(unit.kernel for unit in own), strict=True)]
        assert reach == [2 * (1 if family == "reactnet_a" else 2) * count] * 2
    # Each unit lies under one shortcut, which follows its changes of shape.
    assert sum(unit.span for unit in units) == len(units)
    for place in placed(structure, (32, 32, stem.in_channels)):
        if place.shortcut and not place.shortcut.projects:
            *size, channels = place.shortcut.input
            kept = (*strided(size, place.shortcut.pool), channels * place.shortcut.repeats)
            assert kept == place.convolved and (family == "reactnet_a" or kept == place.shortcut.input)


@pytest.mark.slow
@settings(max_examples=8)
@given(
    recipe=recipes([8, 8, 10]),
    size=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    binarization=st.builds(
        Binarization,
        *[st.booleans()] * 2,
        st.sampled_from(list(binarize.ESTIMATORS)),
        st.floats(1e-3, 1e3),
        st.sampled_from(list(binarize.ESTIMATORS)),
        st.sampled_from(list(binarize.SCALES)),
    ),
    dtype=st.sampled_from([jnp.float32, jnp.bfloat16]),
    train=st.booleans(),
)
def test_any_network_runs_at_any_image_size_with_the_sizes_and_parameters_counted(
    recipe, size, binarization, dtype, train
):
    structure = families.build(recipe[0], **recipe[1])
    shape = (*size, structure.units[0].in_channels)
    network = Network(structure, binarization, dtype=dtype)
    variables = variable_shapes(network, shape)

    def run(params, batch_stats, images, progress):
        logits, state = network.apply(
            {"params": params, "batch_stats": batch_stats},
            images, train, progress=progress, mutable=["batch_stats", "intermediates"],
        )  # fmt: skip
        return logits.sum(), (logits, state)

    images, progress = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((2, *shape), ()))
    gradient = jax.grad(run, has_aux=True)
    grads, (logits, state) = jax.eval_shape(gradient, variables["params"], variables["batch_stats"], images, progress)
    assert grads == variables["params"] and state["batch_stats"] == variables["batch_stats"]
    assert (logits.shape, logits.dtype) == ((2, structure.num_classes), jnp.float32)

    outputs = {}
    for place in placed(structure, shape):
        outputs[place.unit.section] = place.output
        if place.unit.binary:
            *path, name = place.unit.at("sign_input")
            (kept,) = state["intermediates"][path[0]].pop(name)
            assert (kept.shape, kept.dtype) == ((2, *place.input), dtype)
        if place.unit.gate:
            (kept,) = state["intermediates"][path[0]].pop(place.unit.at("gated")[-1])
            assert [each.shape for each in kept] == [(2, 1, 1, place.unit.out_channels), (2, *place.convolved)]
    for section, output in outputs.items():
        (kept,) = state["intermediates"].pop(f"{section}_output")
        assert (kept.shape, kept.dtype) == ((2, *output), dtype)
    assert not jax.tree.leaves(state["intermediates"])

    counted = cost.total(cost.layers(structure, shape, binarization.weights))
    assert counted.parameters == sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables["params"]))
    assert min(counted.ops, counted.storage_bits, counted.elements) > 0
