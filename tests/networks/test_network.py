"""Whole networks: parameters, sizes, modes, and values and gradients against a plain second version."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import plain
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onebnet_jax.networks import structure as structure_lib
from onebnet_jax.networks.layers import Binarization
from onebnet_jax.networks.network import Network, OneBNetUnit, ResNetBlock
from onebnet_jax.networks.structure import Structure, units

pytestmark = pytest.mark.usefixtures("quick_compilation")

TINY = ((4, 8), (1, 1))  # for structure.DEPTHS: two stages of one block


@pytest.fixture
def tiny(monkeypatch):
    """A depth of 8 whose networks compile in seconds."""
    monkeypatch.setitem(structure_lib.DEPTHS, 8, TINY)


@functools.cache
def shapes(structure, binarization=None, channels=3):
    network = Network(structure, binarization or Binarization())
    return jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 32, 32, channels)))


def names_and_sizes(tree):
    return {"/".join(key.key for key in path): leaf.size for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


# Parameters ----------------------------------------------------------------------------------------------------

IMAGENET = dict(num_classes=1000, stem="imagenet")
NAMED = {
    # name: structure, channels of the images, parameters
    "ReActNet18": (Structure(18, **IMAGENET), 3, 11_704_424),
    "TypeI": (Structure(18, ds_1d=(128, 256, 512), **IMAGENET), 3, 12_055_656),
    "TypeII": (Structure(18, conv_1d=(256, 512), ds_1d=(256, 512), **IMAGENET), 3, 9_102_952),
    "TypeIII": (Structure(18, conv_1d=(512,), ds_1d=(512,), **IMAGENET), 3, 9_620_584),
    "FP32 ResNet18": (Structure(18, "resnet", **IMAGENET), 3, 11_689_512),  # torchvision's resnet18
    "FP32 ResNet34": (Structure(34, "resnet", padding="torch", **IMAGENET), 3, 21_797_672),  # torchvision's resnet34
    "CIFAR-10 TypeI": (Structure(18, ds_1d=(128, 256, 512)), 3, 11_540_106),
    "CIFAR-10 TypeII": (Structure(18, conv_1d=(256, 512), ds_1d=(256, 512)), 3, 8_587_402),
    "CIFAR-10 FP32": (Structure(18, "resnet"), 3, 11_173_962),
    "FashionMNIST ds32_64": (Structure(20, ds_1d=(32, 64)), 1, 280_714),
    "FashionMNIST conv64_ds64": (Structure(20, conv_1d=(64,), ds_1d=(64,)), 1, 219_914),
    "FashionMNIST FP32": (Structure(20, "resnet"), 1, 272_186),
}


@pytest.mark.parametrize("name", NAMED)
def test_number_of_parameters(name):
    structure, channels, count = NAMED[name]
    assert sum(names_and_sizes(shapes(structure, channels=channels)["params"]).values()) == count


@pytest.mark.parametrize(("name", "mib"), [("ReActNet18", 4.05), ("TypeI", 5.39), ("TypeII", 5.03), ("TypeIII", 4.82)])
def test_binarized_kernels_as_bits_and_the_rest_as_floats_make_table_3(name, mib):
    sizes = names_and_sizes(shapes(NAMED[name][0])["params"])
    bits = sum(size * (1 if path.endswith("/conv/kernel") else 32) for path, size in sizes.items())
    assert round(bits / 8 / 2**20, 2) == mib


def test_parameters_of_a_unit_are_named_by_structure():
    structure = Structure(20, conv_1d=(64,), ds_1d=(64,), width_multiplier=0.5)
    params = shapes(structure, channels=1)["params"]
    assert set(params) == {"stem_conv", "stem_bn", "head"} | {unit.name for unit in units(structure)}
    for unit in units(structure):
        kernel = params[unit.name]["conv"]["kernel"]
        assert kernel.shape == (*unit.kernel, unit.in_channels, unit.out_channels)
        assert ("shortcut_conv" in params[unit.name]) == unit.downsamples
        assert params[unit.name]["rsign"]["alpha"].shape == (unit.in_channels,)
        assert params[unit.name]["rprelu"]["beta"].shape == (unit.out_channels,)


def test_what_is_binarized_does_not_change_the_parameters():
    """Stage 2 of the two-stage training takes over stage 1's variables as they are."""
    structure = Structure(20, conv_1d=(64,), ds_1d=(64,), width_multiplier=0.5)
    first, *others = [shapes(structure, Binarization(a, w)) for a in (True, False) for w in (True, False)]
    assert all(other == first for other in others)


# Sizes ---------------------------------------------------------------------------------------------------------


@settings(max_examples=5)
@given(
    size=st.tuples(*[st.integers(1, 40)] * 2),
    stem=st.sampled_from(structure_lib.STEMS),
    ds_1d=st.sampled_from([(), (8,)]),
    classes=st.integers(2, 9),
)
def test_any_image_size_halves_rounding_up(size, stem, ds_1d, classes, tiny):
    structure = Structure(8, ds_1d=ds_1d, stem=stem, num_classes=classes)
    network, images = Network(structure), jax.ShapeDtypeStruct((2, *size, 3), jnp.float32)
    variables = jax.eval_shape(network.init, jax.random.key(0), images)
    apply = functools.partial(network.apply, capture_intermediates=True)
    logits, state = jax.eval_shape(apply, variables, images)
    assert logits.shape == (2, classes)
    rows, columns = (-(-n // 4) for n in size) if stem == "imagenet" else size
    for unit in units(structure):
        rows, columns = -(-rows // unit.strides[0]), -(-columns // unit.strides[1])
        (y,) = state["intermediates"][unit.name]["__call__"]
        assert y.shape == (2, rows, columns, unit.out_channels)


# Values and gradients ------------------------------------------------------------------------------------------

CASES = {
    "2-D": (dict(), Binarization()),
    "1-D, clip, pad 1, ReLU": (
        dict(conv_1d=(4, 8), ds_1d=(8,), pad_value=1, stem_relu=True),
        Binarization(estimator="clip", window=1.5),
    ),
    "ImageNet stem, float weights": (dict(ds_1d=(8,), stem="imagenet"), Binarization(weights=False, window=0.7)),
    "float activations": (dict(conv_1d=(8,), pad_value=1, width_multiplier=1.4), Binarization(activations=False)),
    "FP32": (dict(block="resnet", stem_relu=True), Binarization()),
    "FP32, torch padding": (dict(block="resnet", stem="imagenet", padding="torch"), Binarization()),
}
IMAGES = np.random.default_rng(0).normal(size=(4, 15, 10, 3))  # odd and even sizes at every stride
MASK = np.array([1.0, 1.0, 0.0, 1.0])


def random_variables(structure, dtype):
    """Kernels with weights beyond 1, slopes and scales of both signs."""
    rng = np.random.default_rng(1)

    def draw(path, leaf):
        values = rng.normal(size=leaf.shape)
        return jnp.array(values**2 + 0.5 if path[-1].key == "var" else values, dtype)

    return jax.tree_util.tree_map_with_path(draw, shapes(structure))


@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients_are_those_of_the_plain_version(case, float64, tiny):
    fields, binarization = CASES[case]
    structure = Structure(8, **fields)
    network, variables = Network(structure, binarization, dtype=jnp.float64), random_variables(structure, jnp.float64)
    counted = np.flatnonzero(MASK)
    logits_grad = np.random.default_rng(2).normal(size=(4, 10)) * MASK[:, None]

    def ours(params, images):
        logits, updates = network.apply({**variables, "params": params}, images, MASK, mutable=["batch_stats"])
        return jnp.sum(logits * logits_grad), (logits[counted], updates["batch_stats"])

    def plainly(params, images, train=True):
        logits, statistics = plain.network(
            structure, binarization, TINY, {**variables, "params": params}, images[counted], train
        )
        return jnp.sum(logits * logits_grad[counted]), (logits, statistics)

    @jax.jit
    def run(params, images):
        return [jax.value_and_grad(f, (0, 1), has_aux=True)(params, images) for f in (ours, plainly)] + [
            network.apply(variables, images)[counted],
            plainly(params, images, train=False)[1][0],
        ]

    ((_, (logits, stats)), grads), ((_, (plain_logits, batch_stats)), plain_grads), *evaluated = run(
        variables["params"], IMAGES
    )
    assert logits.dtype == jnp.float64
    close(logits, plain_logits)
    close(evaluated[0], evaluated[1])
    for path, (mean, var) in batch_stats.items():
        new, old = stats, variables["batch_stats"]
        for key in path.split("/"):
            new, old = new[key], old[key]
        close((new["mean"], new["var"]), (0.9 * old["mean"] + 0.1 * mean, 0.9 * old["var"] + 0.1 * var))
    assert len(jax.tree.leaves(stats)) == 2 * len(batch_stats)
    close(grads, plain_grads)
    assert all(np.any(leaf) for leaf in jax.tree.leaves(grads))
    assert not np.any(grads[1][MASK == 0])


def close(computed, wanted):
    def check(computed, wanted):
        np.testing.assert_allclose(computed, wanted, rtol=0, atol=1e-10 * max(1.0, np.abs(wanted).max()))

    jax.tree.map(check, computed, wanted)


# Modes and types -----------------------------------------------------------------------------------------------


def test_evaluation_uses_the_running_statistics_and_leaves_them(tiny):
    structure = Structure(8, ds_1d=(8,))
    network, variables, images = Network(structure), random_variables(structure, jnp.float32), jnp.float32(IMAGES)
    apply = jax.jit(functools.partial(network.apply, mutable=["batch_stats"]))
    logits, updates = apply(variables, images)
    jax.tree.map(np.testing.assert_array_equal, updates["batch_stats"], variables["batch_stats"])
    # Each image for itself: the others of the batch do not matter, as they do in training.
    others = images.at[1:].multiply(2.0)
    np.testing.assert_allclose(apply(variables, others)[0][0], logits[0], rtol=1e-5)
    trained, updates = apply(variables, images, MASK)
    assert np.abs(apply(variables, others, MASK)[0][0] - trained[0]).max() > 1e-2
    moved = jax.tree.map(lambda new, old: bool(np.any(new != old)), updates["batch_stats"], variables["batch_stats"])
    assert all(jax.tree.leaves(moved))


@pytest.mark.parametrize("block", structure_lib.BLOCKS)
def test_bfloat16_concerns_activations_alone(block, tiny):
    structure = Structure(8, block)
    variables, images = random_variables(structure, jnp.float32), jnp.float32(IMAGES)

    @functools.partial(jax.jit, static_argnums=1)
    def run(params, dtype):
        def loss(params):
            network = Network(structure, dtype=dtype)
            logits, state = network.apply(
                {**variables, "params": params}, images, MASK, mutable=["batch_stats", "intermediates"],
                capture_intermediates=lambda module, _: isinstance(module, (OneBNetUnit, ResNetBlock)),
            )  # fmt: skip
            return jnp.sum(logits * MASK[:, None]), (logits, state["batch_stats"], state["intermediates"])

        return jax.grad(loss, has_aux=True)(params)

    grads, (logits, batch_stats, intermediates) = run(variables["params"], jnp.bfloat16)
    for leaf in jax.tree.leaves((grads, logits, batch_stats)):
        assert leaf.dtype == jnp.float32
        assert np.isfinite(leaf).all()
    assert {leaf.dtype for leaf in jax.tree.leaves(intermediates)} == {jnp.dtype(jnp.bfloat16)}
    if block == "resnet":  # a OneBNet's signs may flip
        wide = run(variables["params"], jnp.float32)[1][0]
        np.testing.assert_allclose(logits, wide, rtol=0, atol=0.05 * np.abs(wide).max())
