"""Optimizers and schedules against closed forms, and what weight decay applies to."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from onebnet_jax.networks import families
from onebnet_jax.networks.network import Network, variable_shapes
from onebnet_jax.runs.optim import OPTIMIZERS, Optimizer, decay_mask, make

# Schedules -----------------------------------------------------------------------------------------------------


def rates(epochs, steps_per_epoch, **spec):
    """The learning rate in each epoch; it is the same in all steps of an epoch, traced or not."""
    _, schedule = make(Optimizer(**spec), epochs, steps_per_epoch)
    steps = jnp.arange(epochs * steps_per_epoch)
    traced = jax.jit(jax.vmap(schedule))(steps).reshape(epochs, steps_per_epoch)
    np.testing.assert_array_equal(traced, np.broadcast_to(traced[:, :1], traced.shape))
    assert float(schedule(int(steps[-1]))) == pytest.approx(float(traced[-1, -1]), rel=2e-5)
    return traced[:, 0]


def test_poly_falls_from_the_learning_rate_to_one_epochs_share():
    np.testing.assert_allclose(rates(400, 3), 1e-3 * (1 - np.arange(400) / 400), rtol=2e-5)


def test_cosine_falls_along_half_a_period():
    expected = 0.2 * (1 + np.cos(np.pi * np.arange(10) / 10)) / 2
    np.testing.assert_allclose(rates(10, 3, schedule="cosine", learning_rate=0.2), expected, rtol=1e-5)


def test_constant_stays():
    np.testing.assert_allclose(rates(4, 3, schedule="constant", learning_rate=0.2), [0.2] * 4, rtol=1e-6)


@pytest.mark.parametrize("schedule", ["poly", "cosine", "constant"])
def test_warm_up_grows_by_equal_parts_and_then_the_schedule_begins(schedule):
    spec = dict(schedule=schedule, learning_rate=0.2)
    warmed = rates(8, 3, warmup_epochs=3, **spec)
    np.testing.assert_allclose(warmed[:3], [0.05, 0.1, 0.15], rtol=1e-6)
    np.testing.assert_allclose(warmed[3:], rates(5, 3, **spec), rtol=1e-6)


# Centred weights ------------------------------------------------------------------------------------------------


def test_centred_weights_end_each_step_with_a_mean_of_0_within_1():
    """Of binarized convolutions, by plain NumPy; float ones, shortcuts and gates move as without."""
    rng, shapes = np.random.default_rng(0), {"conv1": (3, 3, 5, 2), "shortcut_conv": (1, 1, 5, 2), "gate_in": (5, 2)}
    params = {
        "stem_conv": {"kernel": rng.normal(size=(3, 3, 3, 5))},
        "stage1_block1": {name: {"kernel": rng.normal(size=shape)} for name, shape in shapes.items()},
    }
    moved = {}
    for centred in (False, True):
        optimizer, _ = make(Optimizer("sgd", 0.5, momentum=0.0, centre_weights=centred), 1, 1)
        updates, _ = optimizer.update(jax.tree.map(np.ones_like, params), optimizer.init(params), params)
        moved[centred] = jax.tree.map(np.asarray, optax.apply_updates(params, updates))
    weights = params["stage1_block1"]["conv1"]["kernel"] - 0.5
    weights = np.clip(weights - weights.mean(axis=2, keepdims=True), -1, 1)
    found = moved[True]["stage1_block1"].pop("conv1")["kernel"]
    np.testing.assert_allclose(found, weights, atol=1e-6)
    assert np.abs(weights).max() == 1
    del moved[False]["stage1_block1"]["conv1"]
    jax.tree.map(np.testing.assert_array_equal, moved[True], moved[False])


# Weight decay --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "decayed"),
    [
        ("onebnet", {"stem_conv/kernel", "conv/kernel", "shortcut_conv/kernel", "rsign/alpha", "rprelu/gamma"}),
        ("resnet", {"stem_conv/kernel", "conv1/kernel", "conv2/kernel", "shortcut_conv/kernel"}),
    ],
)
def test_convolutions_and_learnable_shifts_are_decayed(family, decayed):
    """Normalization, slopes and the head are not."""
    params = variable_shapes(Network(families.build(family, depth=20)), (8, 8, 3))["params"]
    names = {True: set(), False: set()}
    for path, value in jax.tree_util.tree_leaves_with_path(decay_mask(params)):
        names[value].add("/".join(key.key for key in path[-2:]))
    assert names[True] == decayed | ({"rprelu/zeta"} if family == "onebnet" else set())
    kept = {"stem_bn/scale", "stem_bn/bias", "shortcut_bn/scale", "shortcut_bn/bias", "head/kernel", "head/bias"}
    assert kept <= names[False] and ("rprelu/beta" in names[False]) == (family == "onebnet")


# Optimizers, on parameters of which the first alone is decayed -------------------------------------------------


def tree(seed):
    rng = np.random.default_rng(seed)
    shapes = {"unit": {"conv": {"kernel": (2, 3)}, "bn": {"scale": (4,)}}, "head": {"kernel": (3, 2)}}
    return jax.tree.map(
        lambda shape: jnp.array(rng.normal(size=shape), jnp.float32), shapes, is_leaf=lambda x: isinstance(x, tuple)
    )


def trained(count, **spec):
    """Parameters after so many steps, whose gradients are tree(1), tree(2), ..., at a learning rate of 0.1."""
    optimizer, _ = make(Optimizer(learning_rate=0.1, schedule="constant", **spec), 1, 1)
    params = tree(0)
    state, update = optimizer.init(params), jax.jit(optimizer.update)
    for step in range(1, count + 1):
        updates, state = update(tree(step), state, params)
        params = optax.apply_updates(params, updates)
    return params


def by_hand(count, rule, decay=0.0, decoupled=False):
    """The same in NumPy: rule(step, gradient, memory) -> update, the memory being a dictionary of each leaf."""

    def leaf(path, p):
        p, memory = np.float64(p), {}
        wd = decay if path[-2:] == ("conv", "kernel") else 0.0
        for step in range(1, count + 1):
            g = tree(step)
            for key in path:
                g = g[key]
            g = np.float64(g) + (0.0 if decoupled else wd * p)
            p = p - 0.1 * (rule(step, g, memory) + (wd * p if decoupled else 0.0))
        return p

    return jax.tree_util.tree_map_with_path(lambda path, p: leaf(tuple(key.key for key in path), p), tree(0))


def adam(step, g, memory):
    """Kingma & Ba 2015, algorithm 1."""
    memory["m"] = 0.9 * memory.get("m", 0.0) + 0.1 * g
    memory["v"] = 0.999 * memory.get("v", 0.0) + 0.001 * g**2
    return memory["m"] / (1 - 0.9**step) / (np.sqrt(memory["v"] / (1 - 0.999**step)) + 1e-8)


def nesterov(momentum):
    """As in PyTorch, without dampening."""

    def rule(step, g, memory):
        memory["b"] = momentum * memory.get("b", 0.0) + g
        return g + momentum * memory["b"]

    return rule


def lion(step, g, memory):
    """Chen et al. 2023, program 1, with betas of 0.9 and 0.99."""
    m = memory.get("m", 0.0)
    memory["m"] = 0.99 * m + 0.01 * g
    return np.sign(0.9 * m + 0.1 * g)


@pytest.mark.parametrize("decay", [0.0, 0.3])
@pytest.mark.parametrize(
    ("spec", "rule", "decoupled"),
    [
        (dict(name="adam"), adam, False),
        (dict(name="sgd", momentum=0.7), nesterov(0.7), False),
        (dict(name="adamw"), adam, True),
        (dict(name="lion"), lion, True),
    ],
    ids=lambda value: value["name"] if isinstance(value, dict) else "",
)
def test_updates_are_those_of_the_papers(spec, rule, decoupled, decay):
    found = trained(4, weight_decay=decay, **spec)
    expected = by_hand(4, rule, decay, decoupled)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), found, expected)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_what_an_optimizer_keeps_does_not_depend_on_the_decay(name):
    """So that a checkpoint fits whatever the decay is."""
    states = [make(Optimizer(name, weight_decay=decay), 1, 1)[0].init(tree(0)) for decay in (0.0, 0.3)]
    assert jax.tree.structure(states[0]) == jax.tree.structure(states[1])
