"""Whole networks: names of parameters, what is kept, modes, and values and gradients against a plain second version."""

import dataclasses
import functools

import dyadic
import jax
import jax.numpy as jnp
import numpy as np
import plain
import pytest

from onebnet_jax.errors import UserError
from onebnet_jax.networks import cost, families
from onebnet_jax.networks.network import FORMULAS, Network, variable_shapes
from onebnet_jax.networks.structure import Binarization, check_deployable

pytestmark = pytest.mark.usefixtures("quick_compilation")

# Parameters ----------------------------------------------------------------------------------------------------

UNIT = ["conv/kernel", "bn/scale", "bn/bias"]
REACT_UNIT = ["rsign/alpha", *UNIT, "rprelu/gamma", "rprelu/beta", "rprelu/zeta"]
GATED_UNIT = [*UNIT, "gate_in/kernel", "gate_out/kernel", "prelu/beta"]
BLOCK = ["conv1/kernel", "bn1/scale", "bn1/bias", "conv2/kernel", "bn2/scale", "bn2/bias"]
SHORTCUT = ["shortcut_conv/kernel", "shortcut_bn/scale", "shortcut_bn/bias"]
PARAMETERS = {
    "onebnet": {
        "stage1_block1_conv1": REACT_UNIT,
        "stage1_block1_conv2": REACT_UNIT,
        "stage2_block1_conv1_3x1": REACT_UNIT + SHORTCUT,
        "stage2_block1_conv1_1x3": REACT_UNIT + SHORTCUT,
        "stage2_block1_conv2_3x1": REACT_UNIT,
        "stage2_block1_conv2_1x3": REACT_UNIT,
    },
    "birealnet": {
        "stage1_block1_conv1": UNIT,
        "stage1_block1_conv2": UNIT,
        "stage2_block1_conv1": UNIT + SHORTCUT,
        "stage2_block1_conv2": UNIT,
    },
    "xnornet": {"stage1_block1": BLOCK, "stage2_block1": BLOCK + SHORTCUT},
    "resnet": {"stage1_block1": BLOCK, "stage2_block1": BLOCK + SHORTCUT},
    "realtobin": {
        "stage1_block1_conv1": GATED_UNIT,
        "stage1_block1_conv2": GATED_UNIT,
        "stage2_block1_conv1": GATED_UNIT + SHORTCUT,
        "stage2_block1_conv2": GATED_UNIT,
    },
    "reactnet_a": {f"stage{stage}_block1_conv{place}": REACT_UNIT for stage in (1, 2) for place in (1, 2)},
}


def one_d(family):
    return dict(conv_1d=(32,), ds_1d=(32,)) if family == "onebnet" else {}


@pytest.mark.parametrize("family", families.FAMILIES)
def test_names_of_parameters(family):
    """Those of every checkpoint, whatever is binarized: stage 2 of two takes over stage 1's variables as they are."""
    structure = dyadic.structure(family, **one_d(family))
    for binarization in (Binarization(), Binarization(activations=False), Binarization(weights=False)):
        params = variable_shapes(Network(structure, binarization), dyadic.IMAGE_SHAPE)["params"]
        modules = {"": ["stem_conv/kernel", "stem_bn/scale", "stem_bn/bias", "head/kernel", "head/bias"]}
        modules[""] += ["stem_prelu/beta"] * (family == "realtobin")
        modules |= PARAMETERS[family]
        expected = {f"{module}/{part}".strip("/") for module, parts in modules.items() for part in parts}
        paths = jax.tree_util.tree_leaves_with_path(params)
        assert {"/".join(key.key for key in path) for path, _ in paths} == expected


# Values and gradients ------------------------------------------------------------------------------------------

SOFT = Binarization(activations=False, weights=False, soft_sign="tanh")
CASES = {
    # family, its fields, what is binarized, progress
    "1-D, clip, ReLU": (
        "onebnet",
        dict(conv_1d=(32,), ds_1d=(32,), stem_relu=True),
        Binarization(estimator="clip", window=1.5),
        1.0,
    ),
    "2-D, ImageNet stem": ("onebnet", dict(stem="imagenet", pad_value=0, width_multiplier=0.4), Binarization(), 1.0),
    "float weights": ("onebnet", dict(ds_1d=(32,)), Binarization(weights=False, window=0.7), 1.0),
    "Bi-Real Net": (
        "birealnet",
        dict(stem="imagenet", pad_value=1),
        Binarization(estimator="reste", weight_estimator="poly"),
        0.3,
    ),
    "XNOR-Net": ("xnornet", dict(), Binarization(estimator="clip", weight_scale="none"), 1.0),
    "XNOR-Net, ImageNet stem": (
        "xnornet",
        dict(stem="imagenet", pad_value=1),
        Binarization(estimator="tanh", weight_estimator="tanh"),
        0.6,
    ),
    "Real-to-Bin": (
        "realtobin",
        dict(stem="imagenet", width_multiplier=1.0),
        Binarization(estimator="clip", weight_scale="none"),
        1.0,
    ),
    "Real-to-Bin, tanh": ("realtobin", dict(width_multiplier=1.0), SOFT, 1.0),
    "ReActNet-A": ("reactnet_a", dict(stem="imagenet", width_multiplier=0.1), Binarization(), 1.0),
    "FP32": ("resnet", dict(), Binarization(), 1.0),
    "FP32, torch padding": ("resnet", dict(stem="imagenet", padding="torch"), Binarization(), 1.0),
}
IMAGES = np.random.default_rng(0).normal(size=(4, 15, 10, 3))  # odd and even sizes at every stride
MASK = np.array([1.0, 1.0, 0.0, 1.0])


def random_variables(structure, dtype):
    """Kernels with weights beyond 1, slopes and scales of both signs."""
    rng = np.random.default_rng(1)

    def draw(path, leaf):
        values = rng.normal(size=leaf.shape)
        return jnp.array(values**2 + 0.5 if path[-1].key == "var" else values, dtype)

    return jax.tree_util.tree_map_with_path(draw, variable_shapes(Network(structure), IMAGES.shape[1:]))


DEFAULT = ("1-D, clip, ReLU",)


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=[pytest.mark.slow] * (case not in DEFAULT)) for case in CASES]
)
def test_values_and_gradients_are_those_of_the_plain_version(case, float64):
    family, fields, binarization, progress = CASES[case]
    fields = dict(width_multiplier=0.25, stem="cifar") | fields
    structure = dyadic.structure(family, **fields)
    network, variables = Network(structure, binarization, dtype=jnp.float64), random_variables(structure, jnp.float64)
    counted = np.flatnonzero(MASK)
    logits_grad = np.random.default_rng(2).normal(size=(4, 10)) * MASK[:, None]

    def ours(params, images, progress):
        logits, updates = network.apply(
            {**variables, "params": params}, images, True, MASK, progress, mutable=["batch_stats"]
        )
        return jnp.sum(logits * logits_grad), (logits[counted], updates["batch_stats"])

    def plainly(params, images, progress, train=True):
        given = {**variables, "params": params}, images[counted], train, progress
        logits, statistics = plain.network(family, fields, dyadic.STAGES, binarization, *given)
        return jnp.sum(logits * logits_grad[counted]), (logits, statistics)

    @jax.jit
    def run(params, images, progress):
        return [
            *(jax.value_and_grad(f, (0, 1), has_aux=True)(params, images, progress) for f in (ours, plainly)),
            network.apply(variables, images)[counted],
            plainly(params, images, progress, train=False)[1][0],
        ]

    ((_, (logits, stats)), grads), ((_, (plain_logits, batch_stats)), plain_grads), *evaluated = run(
        variables["params"], IMAGES, progress
    )
    assert logits.dtype == jnp.float64
    close(logits, plain_logits)
    close(*evaluated)
    for path, (mean, var) in batch_stats.items():
        new, old = stats, variables["batch_stats"]
        for key in path.split("/"):
            new, old = new[key], old[key]
        close((new["mean"], new["var"]), (0.9 * old["mean"] + 0.1 * mean, 0.9 * old["var"] + 0.1 * var))
    assert len(jax.tree.leaves(stats)) == 2 * len(batch_stats)
    close(grads, plain_grads, 1e-8)  # a channel that is constant but for rounding has a factor of 1 / sqrt(1e-5)
    gates, others = [], []  # a gate whose few ReLUs are all at 0 for three images has no gradient
    for path, leaf in jax.tree_util.tree_leaves_with_path(grads):
        (gates if "gate" in jax.tree_util.keystr(path) else others).append(np.any(leaf))
    assert all(others) and (any(gates) or not gates)
    assert not np.any(grads[1][MASK == 0])


def close(computed, wanted, tolerance=1e-10):
    def check(computed, wanted):
        np.testing.assert_allclose(computed, wanted, rtol=0, atol=tolerance * max(1.0, np.abs(wanted).max()))

    jax.tree.map(check, computed, wanted)


@pytest.mark.slow
def test_progress_reaches_the_slopes_without_compiling_again():
    structure, traced = dyadic.structure(width_multiplier=0.25), []
    variables = random_variables(structure, jnp.float32)

    @functools.partial(jax.jit, static_argnums=0)
    def gradient(estimator, progress):
        traced.append(estimator)

        def loss(images):
            network = Network(structure, Binarization(estimator=estimator))
            return jnp.sum(network.apply(variables, images, progress=progress) ** 2)

        return jax.grad(loss)(jnp.float32(IMAGES))

    for estimator, schedule in (("poly", False), ("tanh", True)):
        start, *later = [gradient(estimator, progress) for progress in (0.0, 0.5, 1.0)]
        assert all(np.any(grad != start) == schedule for grad in later)
    assert traced == ["poly", "tanh"]


def test_a_formula_of_ones_own_computes_the_unit_and_nothing_else_takes_it(monkeypatch):
    """Twice the shortcut; what does not know it refuses it, with the unit's name."""
    plain = dyadic.structure(width_multiplier=0.25)
    last = dataclasses.replace(plain.units[-1], norm="own", activation="none")
    own = dataclasses.replace(plain, units=(*plain.units[:-1], last))
    images, shape = jnp.float32(IMAGES), IMAGES.shape[1:]
    with pytest.raises(UserError, match=f"{last.name} has the norm 'own'; there are after, before"):
        Network(own).init(jax.random.key(0), images)
    found = []

    def doubled(module, unit, x, shortcut, mask, progress):
        found.append((unit, shortcut, FORMULAS["after"](module, unit, x, 2 * shortcut, mask, progress)))
        return found[-1][-1]

    monkeypatch.setitem(FORMULAS, "own", doubled)
    variables = random_variables(own, jnp.float32)
    found.clear()
    kept = Network(own).apply(variables, images, mutable=["intermediates"])[1]["intermediates"]
    ((unit, shortcut, result),) = found
    assert unit == last
    np.testing.assert_array_equal(kept[f"{last.module}_output"][0], result)
    monkeypatch.setitem(FORMULAS, "own", FORMULAS["after"])
    less = Network(own).apply(variables, images, mutable=["intermediates"])[1]["intermediates"]
    np.testing.assert_allclose(result - less[f"{last.module}_output"][0], shortcut, atol=1e-5)
    for refuse in (cost.layers, functools.partial(check_deployable, binarization=Binarization())):
        with pytest.raises(UserError, match=f"{last.name} is computed by 'own'"):
            refuse(own, shape)


# Modes and types -----------------------------------------------------------------------------------------------


def test_training_uses_the_statistics_of_the_batch_and_evaluation_the_running_ones():
    structure = dyadic.structure("birealnet", width_multiplier=0.25)
    network, variables, images = Network(structure), random_variables(structure, jnp.float32), jnp.float32(IMAGES)
    apply = jax.jit(functools.partial(network.apply, mutable=["batch_stats"]), static_argnames="train")
    others = images.at[1:].multiply(2.0)

    logits, updates = apply(variables, images)
    jax.tree.map(np.testing.assert_array_equal, updates["batch_stats"], variables["batch_stats"])
    # Each image for itself: the others of the batch do not matter, and neither does a mask.
    np.testing.assert_allclose(apply(variables, others)[0][0], logits[0], rtol=1e-5)
    np.testing.assert_array_equal(apply(variables, images, mask=MASK)[0], logits)

    trained, updates = apply(variables, images, train=True)
    assert np.abs(apply(variables, others, train=True)[0][0] - trained[0]).max() > 1e-2
    moved = jax.tree.map(lambda new, old: bool(np.any(new != old)), updates["batch_stats"], variables["batch_stats"])
    assert all(jax.tree.leaves(moved))
    close(apply(variables, images, train=True, mask=jnp.ones(4)), (trained, updates), 1e-5)  # as without a mask


def test_bfloat16_rounds_activations():
    """Not those of a network with signs, which may flip."""
    structure = dyadic.structure("resnet")
    variables = random_variables(structure, jnp.float32)
    narrow, wide = (
        Network(structure, dtype=d).apply(variables, jnp.float32(IMAGES)) for d in (jnp.bfloat16, jnp.float32)
    )
    assert 0 < np.abs(narrow - wide).max() < 0.05 * np.abs(wide).max()


# What is kept --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", families.FAMILIES)
def test_intermediates_on_dyadic_values(family):
    """They need no rounding and hit thresholds, as the tests of conversion count on."""
    structure = dyadic.structure(family, **one_d(family))
    variables = dyadic.variables(structure)
    apply = jax.jit(functools.partial(Network(structure).apply, mutable=["intermediates"]))
    logits, state = apply(variables, dyadic.images())
    kept, params = jax.tree.map(np.asarray, state["intermediates"]), variables["params"]
    for leaf in (logits, *jax.tree.leaves(kept)):  # 22 bits, where float32 has 24
        assert np.all(np.round(leaf * 2**14) == leaf * 2**14) and np.abs(leaf).max() < 2**8

    (x,) = kept["stem_output"]
    hits = np.zeros(2)
    for module in PARAMETERS[family]:
        y, p, kind = x, params[module], np.arange(x.shape[-1]) % 2
        if family in ("onebnet", "reactnet_a"):
            y, kind = x - p["rsign"]["alpha"], p["rsign"]["alpha"] != 0
        elif family in ("xnornet", "realtobin"):
            norm = "bn1" if family == "xnornet" else "bn"
            bn, running = p[norm], variables["batch_stats"][module][norm]
            y = (x - running["mean"]) / np.sqrt(running["var"] + 1e-5) * bn["scale"] + bn["bias"]
            kind = np.select([bn["scale"] > 0, bn["scale"] < 0], [0, 1], 2)
        if structure.binary:
            (sign_input,) = kept[module]["sign_input1" if family == "xnornet" else "sign_input"]
            np.testing.assert_array_equal(sign_input, y)
            hits += [np.sum(y[..., kind == k] == 0) for k in (0, 1)]
        (x,) = kept[f"{module}_output"]
    np.testing.assert_array_equal(logits, x.mean((1, 2)) @ params["head"]["kernel"] + params["head"]["bias"])
    assert np.ptp(logits) > 1
    # Thresholds of 0 and others; behind a BN, whose bias and mean make them, gains of both signs.
    assert not structure.binary or hits.min() > 50
