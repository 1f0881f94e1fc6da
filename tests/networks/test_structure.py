"""Lists of units made by hand: where their parameters are, what their shortcuts are, how large their maps."""

import dataclasses

import dyadic
import pytest

from onebnet_jax.errors import UserError
from onebnet_jax.networks.structure import Binarization, Shortcut, Structure, Unit, check_deployable, placed

UNITS = (
    Unit("stem", (7, 7), (2, 2), 3, 8, binary=False, span=0, max_pool=True, parts="stem_{}"),
    Unit("a1", (3, 3), (2, 2), 8, 16, norm="before", span=0, module="a", parts="{}1"),
    Unit("a2", (3, 3), (1, 1), 16, 16, norm="before", span=2, shortcut="strided", module="a", parts="{}2"),
    Unit("b", (3, 1), (2, 1), 16, 16, norm="before", module="b"),
    Unit("c", (1, 3), (1, 1), 16, 16, module="c"),
    Unit("d", (1, 1), (1, 1), 16, 24, shortcut="strided", module="d"),
    Unit("e", (3, 3), (2, 2), 24, 24, binary=False, span=0, module="e"),
    Unit("f", (1, 3), (1, 2), 24, 48, shortcut="repeated", module="f"),
)
STRUCTURE = Structure(UNITS, 10)


def test_where_parameters_are():
    stem, a1, a2, b, *_ = UNITS
    assert [unit.at("conv") for unit in (stem, a1, a2, b)] == [
        ("stem_conv",),
        ("a", "conv1"),
        ("a", "conv2"),
        ("b", "conv"),
    ]
    assert a2.beside("shortcut_bn") == ("a", "shortcut_bn")
    assert [unit.section for unit in UNITS] == ["stem", "a", "a", "b", "c", "d", "e", "f"]


@pytest.mark.parametrize(
    ("unit", "fields", "words"),
    [
        ("c", {"symmetric": True}, "c has symmetric=True, which is of float maps"),
        ("e", {"shift": True}, "e has shift=True, which is of binarized maps"),
        ("c", {"gate": 4}, "c has a gate, which needs norm='before'"),
        ("c", {"pad_value": -1}, "pad_value=-1 will not do"),
    ],
)
def test_what_training_would_leave_out_or_kernels_replace_is_refused(unit, fields, words):
    """Kernels pad with 0 or 1; a file for devices would have the gate, and the other padding, that training had not."""
    (given,) = [each for each in UNITS if each.name == unit]
    with pytest.raises(UserError, match=words):
        dataclasses.replace(given, **fields)
    assert dataclasses.replace(given, norm="own").norm == "own"


def test_a_whole_network():
    assert (STRUCTURE.reduction, STRUCTURE.binary) == ((32, 32), True)
    assert not Structure((UNITS[0], dataclasses.replace(UNITS[-2], in_channels=8)), 10).binary


@pytest.mark.parametrize(
    ("index", "fields", "fault"),
    [
        (4, {"module": "b"}, "c has the parameters b/conv of a unit before it"),
        (4, {"module": ""}, "c needs a module"),
        (4, {"in_channels": 8}, "c takes 8 channels, and the unit before it gives 16"),
        (4, {"out_channels": 8}, "c gives 8 channels, to which its pooled shortcut adds 16"),
        (4, {"span": 9}, "c has a shortcut over 9 units, which must all be there"),
        (4, {"span": 2}, "c has a shortcut over 2 units, which must all be there and of one module"),
        (7, {"out_channels": 30}, "f gives 30 channels, to which its repeated shortcut adds 24"),
        (4, {"shortcut": "pool"}, "c's shortcut='pool' will not do; it must be one of pooled"),
    ],
)
def test_units_that_do_not_fit_are_refused_by_name(index, fields, fault):
    with pytest.raises(UserError, match=fault):
        Structure((*UNITS[:index], dataclasses.replace(UNITS[index], **fields), *UNITS[index + 1 :]), 10)


def test_sizes_of_maps_round_up():
    places = list(placed(STRUCTURE, (61, 34, 3)))
    assert [place.unit for place in places] == list(UNITS)
    assert [place.input for place in places] == [(61, 34, 3)] + [place.output for place in places[:-1]]
    assert places[0].convolved == (31, 17, 8)
    assert all(place.output == place.convolved for place in places[1:])
    outputs = [(16, 9, 8), (8, 5, 16), (8, 5, 16), (4, 5, 16), (4, 5, 16), (4, 5, 24), (2, 3, 24), (2, 2, 48)]
    assert [place.output for place in places] == outputs


def test_shortcuts_follow_changes_of_shape():
    assert [place.shortcut for place in placed(STRUCTURE, (61, 34, 3))] == [
        None,
        None,
        Shortcut((16, 9, 8), pool=(1, 1), strides=(2, 2), projects=True),
        Shortcut((8, 5, 16), pool=(2, 1), strides=(1, 1), projects=True),
        Shortcut((4, 5, 16), pool=(1, 1), strides=(1, 1), projects=False),
        Shortcut((4, 5, 16), pool=(1, 1), strides=(1, 1), projects=True),
        None,
        Shortcut((2, 3, 24), pool=(1, 2), strides=(1, 1), projects=False, repeats=2),
    ]


def test_a_norm_right_behind_a_convolution_is_part_of_it():
    def fused(first, second):
        *_, place = placed(Structure((UNITS[0], first, second), 10), (61, 34, 3))
        return place.fused_norm

    a1, a2 = UNITS[1:3]
    assert fused(a1, a2) and not fused(a1, dataclasses.replace(a2, norm="after"))
    for between in (dict(norm="after"), dict(activation="relu"), dict(span=1), dict(max_pool=True)):
        assert not fused(dataclasses.replace(a1, **between), a2)


# The first unit's map is the image's, behind the ImageNet stem a quarter of it; the next stage's is half of that.
@pytest.mark.parametrize(
    ("shape", "fields", "unit"),
    [
        ((2, 16, 3), {}, "stage1_block1_conv1"),
        ((16, 2, 3), {}, "stage1_block1_conv1"),
        ((4, 4, 3), {}, "stage2_block1_conv2"),
        ((4, 4, 3), {"family": "xnornet"}, "stage2_block1_conv2"),
        ((16, 16, 3), {"stem": "imagenet"}, "stage2_block1_conv2"),
        ((2, 16, 3), {"conv_1d": (16,)}, "stage1_block1_conv1_3x1"),
        ((16, 2, 3), {"conv_1d": (16,)}, "stage1_block1_conv1_1x3"),
        ((16, 4, 3), {"ds_1d": (32,), "conv_1d": (32,)}, "stage2_block1_conv2_1x3"),
    ],
)
def test_refuses_maps_too_small_for_zero_padding(shape, fields, unit):
    with pytest.raises(UserError, match=f"^{unit}: "):
        check_deployable(dyadic.structure(pad_value=0, **fields), shape, Binarization())
    for pad_value, factor, binarization in (
        (1, 1, Binarization()),
        (0, 4, Binarization()),
        (0, 1, Binarization(weights=False)),
    ):
        larger = shape[0] * factor, shape[1] * factor, 3
        check_deployable(dyadic.structure(pad_value=pad_value, **fields), larger, binarization)
