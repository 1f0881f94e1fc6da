"""The schedule, the decay mask and Adam against closed forms and optax's own Adam."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from onebnet_jax.training.optim import adam, decay_mask, poly_schedule

from onebnet_jax.networks.network import Network
from onebnet_jax.networks.structure import Structure


def test_poly_schedule_moves_once_an_epoch_from_the_learning_rate_to_one_epochs_share():
    schedule = poly_schedule(1e-3, epochs=400, steps_per_epoch=235)
    first, last = range(235), range(399 * 235, 400 * 235)
    assert [schedule(step) for step in first] == [1e-3] * 235
    assert [schedule(step) for step in last] == pytest.approx([1e-3 / 400] * 235)
    assert schedule(235) == pytest.approx(1e-3 * 399 / 400)
    assert schedule(200 * 235) == pytest.approx(5e-4)
    assert schedule(400 * 235) == schedule(1000 * 235) == 0
    rates = [schedule(epoch * 235) for epoch in range(401)]
    np.testing.assert_allclose(np.diff(rates), -1e-3 / 400)


def test_poly_schedule_of_a_traced_step():
    schedule = poly_schedule(0.1, epochs=3, steps_per_epoch=2)
    rates = jax.jit(jax.vmap(schedule))(jnp.arange(9))
    np.testing.assert_allclose(rates, [0.1, 0.1, 0.2 / 3, 0.2 / 3, 0.1 / 3, 0.1 / 3, 0, 0, 0], rtol=1e-6)


@pytest.mark.parametrize(
    ("structure", "decayed"),
    [
        (
            Structure(20, ds_1d=(32, 64), conv_1d=(64,)),
            {"stem_conv/kernel", "conv/kernel", "shortcut_conv/kernel", "rsign/alpha", "rprelu/gamma", "rprelu/zeta"},
        ),
        (
            Structure(20, block="resnet"),
            {"stem_conv/kernel", "conv1/kernel", "conv2/kernel", "shortcut_conv/kernel"},
        ),
    ],
)
def test_decay_mask_of_a_network(structure, decayed):
    """Convolutions and learnable shifts are decayed; normalization, slopes and the head are not."""
    variables = jax.eval_shape(Network(structure).init, jax.random.key(0), jnp.zeros((1, 8, 8, 1)))
    mask = decay_mask(variables["params"])
    assert jax.tree.structure(mask) == jax.tree.structure(variables["params"])
    names = {True: set(), False: set()}
    for path, value in jax.tree_util.tree_leaves_with_path(mask):
        names[value].add("/".join(key.key for key in path[-2:]))
    assert names[True] == decayed
    kept = {"stem_bn/scale", "stem_bn/bias", "shortcut_bn/scale", "shortcut_bn/bias", "head/kernel", "head/bias"}
    assert kept <= names[False]
    assert ("rprelu/beta" in names[False]) == (structure.block == "onebnet")


def tree(seed):
    rng = np.random.default_rng(seed)
    shapes = {"unit": {"conv": {"kernel": (2, 3)}, "bn": {"scale": (4,)}}, "head": {"kernel": (3, 2)}}
    return jax.tree.map(
        lambda shape: jnp.array(rng.normal(size=shape), jnp.float32), shapes, is_leaf=lambda x: isinstance(x, tuple)
    )


def trained(optimizer, steps=5):
    """Parameters after steps with given gradients."""
    params = tree(0)
    state = optimizer.init(params)
    update = jax.jit(optimizer.update)
    for step in range(1, steps + 1):
        updates, state = update(tree(step), state, params)
        params = optax.apply_updates(params, updates)
    return params


def equal(a, b, tolerance=1e-6):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance), a, b)


def test_without_decay_it_is_optax_adam_with_torchs_values():
    schedule = poly_schedule(0.1, epochs=3, steps_per_epoch=2)
    equal(trained(adam(schedule, 0.0)), trained(optax.adam(schedule, b1=0.9, b2=0.999, eps=1e-8)))


def test_first_step_is_the_learning_rate_against_the_gradients_sign():
    params = trained(adam(lambda step: 0.1, 0.0), steps=1)
    equal(params, jax.tree.map(lambda p, g: p - 0.1 * jnp.sign(g), tree(0), tree(1)), 1e-4)


def test_weight_decay_is_l2_in_the_gradient_before_the_moments():
    decay, params = 0.3, tree(0)
    optimizer = adam(lambda step: 0.1, decay)
    _, state = optimizer.update(tree(1), optimizer.init(params), params)
    (moments,) = [part for part in state if isinstance(part, optax.ScaleByAdamState)]
    grads = tree(1)
    grads["unit"]["conv"]["kernel"] += decay * params["unit"]["conv"]["kernel"]  # the one that is decayed
    equal(moments.mu, jax.tree.map(lambda g: 0.1 * g, grads))
    equal(moments.nu, jax.tree.map(lambda g: 0.001 * g**2, grads))


@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_what_adam_keeps_does_not_depend_on_the_decay(decay):
    """So that a checkpoint fits whatever the decay is; those from before had this state where it was 0."""
    before = optax.chain(optax.identity(), optax.scale_by_adam(), optax.scale_by_learning_rate(lambda step: 0.1))
    states = (optimizer.init(tree(0)) for optimizer in (adam(lambda step: 0.1, decay), before))
    assert len({jax.tree.structure(state) for state in states}) == 1
