"""Units inside real networks: what the native kernels give against float64 and XLA, on the maps that they get there."""

import dataclasses
import re

import dyadic
import jax
import jax.numpy as jnp
import numpy as np
import precision
import pytest

from onebnet_jax.errors import UserError
from onebnet_jax.native import kernels, library
from onebnet_jax.networks import cost, families
from onebnet_jax.networks.network import Network
from onebnet_jax.networks.structure import Binarization, check_deployable
from onebnet_jax.ops import unit

pytestmark = pytest.mark.skipif(not library.available(), reason=str(library.reason()))
NETWORKS = {
    # 2-D and 1-D, with and without downsampling
    "onebnet": families.build("onebnet", depth=8, conv_1d=(32,), ds_1d=(64,)),
    "xnornet": families.build("xnornet", depth=8, stem="cifar"),
    "resnet": families.build("resnet", depth=8),
    "reactnet_a": dyadic.structure("reactnet_a"),
}


def largest_difference(got, wanted):
    """The largest over all leaves, each as a share of its own largest value."""
    pairs = zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True)
    return max(np.abs(np.float64(a) - b).max() / (np.abs(b).max() + 1e-30) for a, b in pairs)


def by_xla(function):
    """The function with the kernels out of reach."""

    def call(*args):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(kernels, "serves", lambda *_: False)
            return function(*args)

    return call


@pytest.mark.usefixtures("quick_compilation")
@pytest.mark.parametrize(
    "family", [pytest.param(name, marks=[pytest.mark.slow] * (name != "onebnet")) for name in NETWORKS]
)
@pytest.mark.parametrize("binary_weights", [True, False])  # the last stage, and the first of two
def test_each_unit_and_its_gradients_are_those_of_float64(family, binary_weights, monkeypatch):
    """Unit by unit, as a sign that rounding turns changes all that follows it in a whole network."""
    structure = NETWORKS[family]
    network = Network(structure, Binarization(weights=binary_weights))
    images = np.random.default_rng(0).normal(size=(6, 8, 8, 3)).astype(np.float32)
    variables = network.init(jax.random.key(0), images[:1])
    rng, norm, found = np.random.default_rng(1), unit.norm, []

    def checked(y, shortcut, scale, bias, mask, activation, *_):
        grad = rng.normal(size=unit.value(y).shape).astype(np.float32)
        name, rprelu = (activation, ()) if isinstance(activation, str) else ("rprelu", activation)
        described = isinstance(y, unit.RSignConv)
        identity = described and shortcut is y.x
        floats = (y.x, y.alpha, y.kernel) if described else y

        def outputs_and_gradients(mask, grad, *differentiated):
            def outputs(floats, shortcut, scale, bias, rprelu):
                given = unit.RSignConv(*floats, jnp.ones(()), *y[4:]) if described else floats
                return norm(given, floats[0] if identity else shortcut, scale, bias, mask, rprelu or name)

            results, pull = jax.vjp(outputs, *differentiated)
            return results, pull((grad, *map(jnp.zeros_like, results[1:])))

        arguments = mask, grad, floats, None if identity else shortcut, scale, bias, rprelu
        got = jax.jit(outputs_and_gradients)(*arguments)
        with precision.x64():
            wanted = by_xla(jax.jit(outputs_and_gradients))(*jax.tree.map(jnp.float64, arguments))
        found.append(largest_difference(got, wanted))
        return got[0]

    monkeypatch.setattr(unit, "norm", checked)
    mask = np.float32([1, 1, 0, 1, 1, 1])
    network.apply(variables, jnp.asarray(images), True, jnp.asarray(mask), jnp.float32(1), mutable=["batch_stats"])
    assert len(found) >= sum(u.norm == "after" for u in structure.units) and max(found) < 1e-5


@pytest.mark.usefixtures("quick_compilation")
def test_an_activation_of_ones_own_follows_kernels_and_xla_alike(monkeypatch):
    """It is one entry of a dictionary; the network can be trained and counted, and is refused as a file for devices."""
    structure = NETWORKS["onebnet"]
    plain, own = (
        dataclasses.replace(structure, units=tuple(dataclasses.replace(u, activation=name) for u in structure.units))
        for name in ("none", "third")
    )
    images = np.random.default_rng(0).normal(size=(6, 8, 8, 3)).astype(np.float32)
    with pytest.raises(UserError, match="third"):
        Network(own).init(jax.random.key(0), images)
    monkeypatch.setitem(unit.ACTIVATIONS, "third", lambda y: y / 3)
    variables = Network(own).init(jax.random.key(0), images)
    logits = Network(own).apply(variables, images, train=True, mutable=["batch_stats"])[0]
    others = by_xla(lambda: Network(own).apply(variables, images, train=True, mutable=["batch_stats"])[0])()
    assert largest_difference(logits, others) < 1e-5
    assert cost.total(cost.layers(own, (8, 8, 3))).elements > cost.total(cost.layers(plain, (8, 8, 3))).elements
    with pytest.raises(UserError, match="third"):
        check_deployable(own, (8, 8, 3), Binarization())


@pytest.mark.usefixtures("quick_compilation")
@pytest.mark.parametrize("described", [True, False])
def test_a_shortcut_of_one_value_a_channel_is_added_by_the_kernels_too(described):
    """As a formula of a user's own may have it; the kernels themselves read a value for each of the map's."""
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(2, 6, 6, 3)).astype(np.float32), np.ones((3, 3, 3, 4), np.float32)
    shortcut, ones = rng.normal(size=(2, 1, 1, 4)).astype(np.float32), jnp.ones(4)

    def summed(x, shortcut):
        y = unit.RSignConv(x, None, jnp.asarray(kernel), 1.0, (2, 2), 1, "poly", 1.0, binary_kernel=True)
        y = y if described else unit.value(y)
        return jnp.sum(unit.norm(y, shortcut, ones, ones, jnp.ones(2), (ones, ones, ones))[0] ** 2)

    got, wanted = (each(jax.value_and_grad(summed, (0, 1)))(x, shortcut) for each in (lambda f: f, by_xla))
    assert largest_difference(got, wanted) < 1e-5


@pytest.mark.parametrize("binary_kernel", [True, False])
def test_kernels_compute_what_surrounds_a_convolution_of_float_weights_too(binary_kernel):
    """Stage 1 of two, which takes several times as long without them."""
    x, kernel, ones = jnp.zeros((2, 6, 6, 40)), jnp.ones((3, 3, 40, 40)), jnp.ones(40)

    def summed(x, kernel):
        y = unit.RSignConv(x, None, kernel, 1.0, (1, 1), 1, "poly", 1.0, binary_kernel)
        return jnp.sum(unit.norm(y, x, ones, ones, jnp.ones(2), (ones, ones, ones))[0] ** 2)

    program = str(jax.make_jaxpr(jax.grad(summed, (0, 1)))(x, kernel))
    float_weights = {"float_forward", "gradients", "statistics", "tail_gradient"}
    others = {"forward", "gradients"} if binary_kernel else float_weights
    assert set(re.findall(r"onebnet_(\w+)", program)) == {"tail_forward", "tail_backward"} | others
