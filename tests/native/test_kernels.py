"""The kernels against plain computations: integers exactly, gradients and statistics against float64."""

import functools
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import plain
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from onebnet_jax.native import build, kernels, library, units
from onebnet_jax.ops import binarize

pytestmark = pytest.mark.skipif(not library.instruction_sets(), reason=library.reason() or "")
SETS = library.instruction_sets()


@pytest.fixture(params=SETS)
def instruction_set(request, monkeypatch):
    monkeypatch.setenv(library.VARIABLE, request.param)
    return request.param


def normal(rng, *shape):
    return rng.normal(size=shape).astype(np.float32)


def binarized(rng, *shape):
    kernel = normal(rng, *shape)
    return np.abs(kernel).mean((0, 1, 2)) * np.where(kernel > 0, 1, -1).astype(np.float32)


def wide(tree):
    return jax.tree.map(lambda x: np.asarray(x, np.float64), tree)


def assert_close(got, wanted, tolerance=3e-6):
    """Each leaf within a share of its largest value."""
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(got), jax.tree.leaves(wanted), strict=True):
        assert np.abs(a - b).max() <= tolerance * np.abs(b).max(), jax.tree_util.keystr(path)


SHAPES = dict(
    size=st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9)),
    channels=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    kernel=st.sampled_from([(3, 3), (3, 1), (1, 3), (1, 1), (2, 5)]),
    strides=st.sampled_from([(1, 1), (1, 2), (2, 1), (2, 2)]),
    pad_value=st.sampled_from([0, 1]),
    seed=st.integers(0, 1000),
)


@settings(max_examples=10)
@given(**SHAPES)
def test_integers_are_exact_with_every_instruction_set(size, channels, kernel, strides, pad_value, seed):
    rng = np.random.default_rng(seed)
    x, alpha, w = normal(rng, *size, channels[0]), normal(rng, channels[0]), normal(rng, *kernel, *channels)
    x.flat[0], mask = alpha[0], rng.integers(0, 2, size[0]).astype(np.float32)  # one sign of 0
    wanted = plain.conv(np.where(x - alpha > 0, 1.0, -1.0), np.where(w > 0, 1.0, -1.0), strides, pad_value)
    sums = jnp.sum(mask[:, None, None, None] * jnp.stack([wanted, wanted**2]), (1, 2, 3))
    words = []
    for name in SETS:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(library.VARIABLE, name)
            counts, bits, got = kernels.counts(x, alpha, w, mask, strides, pad_value)
        np.testing.assert_array_equal(counts, wanted)
        np.testing.assert_allclose(got, sums, rtol=1e-6, atol=1e-3)
        words.append(bits)
    for bits in words[1:]:
        np.testing.assert_array_equal(bits, words[0])


def test_many_channels_do_not_overflow_the_counters(instruction_set):
    x, w = np.ones((1, 3, 3, 1500), np.float32), np.ones((3, 3, 1500, 2), np.float32)
    w[..., 1] = -1
    np.testing.assert_array_equal(kernels.counts(x, None, w)[0][0, 1, 1], [9 * 1500, -9 * 1500])


def compare_gradients(
    name, size, channels, kernel, strides, pad_value, seed=0, estimator="poly", window=1.0, shifted=True
):
    rng = np.random.default_rng(seed)
    x, alpha, w = normal(rng, *size, channels[0]), normal(rng, channels[0]), binarized(rng, *kernel, *channels)
    if not shifted:
        alpha = None

    def reference(x, alpha, w):
        x = x if alpha is None else x - alpha
        return plain.conv(plain.binarize(x, estimator, window), w, strides, pad_value)

    def native(binary_kernel, x, alpha, w):
        fixed = strides, pad_value, estimator, window, binary_kernel
        return kernels.rsign_conv(x, alpha, w, jnp.float32(1), *fixed)

    for binary_kernel, weights in ((True, w), (False, normal(rng, *w.shape))):
        wanted, pull = jax.vjp(reference, *wide((x, alpha, weights)))
        grad = normal(rng, *wanted.shape)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(library.VARIABLE, name)
            got, pull_native = jax.vjp(
                functools.partial(native, binary_kernel), *jax.tree.map(jnp.asarray, (x, alpha, weights))
            )
            assert_close((got, pull_native(grad)), (wanted, pull(wide(grad))))


@pytest.mark.slow
@settings(max_examples=5)
@given(
    name=st.sampled_from(SETS or [""]),
    estimator=st.sampled_from(["poly", "clip"]),
    window=st.sampled_from([0.5, 1.3]),
    shifted=st.booleans(),
    **SHAPES,
)
def test_gradients_are_those_of_closed_forms(float64, **arguments):
    compare_gradients(**arguments)


@pytest.mark.parametrize(
    "size, channels, kernel, strides",
    [
        ((8, 4, 4), (20, 40), (1, 3), (1, 1)),  # six images side by side, and the last two
        ((7, 3, 9), (16, 16), (3, 3), (2, 2)),
        ((1, 3, 70), (9, 33), (3, 3), (1, 1)),  # a row in parts
        ((2, 2, 131), (5, 7), (1, 5), (1, 2)),
        ((1, 7, 1), (3, 5), (1, 3), (3, 4)),  # rows and columns that nothing reads
        ((1, 1, 60), (4, 4), (1, 49), (1, 1)),
    ],
)
@pytest.mark.parametrize("pad_value", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_gradients_of_maps_that_are_cut_or_put_together(
    size, channels, kernel, strides, pad_value, instruction_set, float64
):
    compare_gradients(instruction_set, size, channels, kernel, strides, pad_value)


@pytest.mark.parametrize("name", sorted(set(binarize.ESTIMATORS) - set(kernels.SLOPES)))
def test_other_estimators_bring_their_slope(name):
    rng = np.random.default_rng(0)
    x, alpha, w = (jnp.asarray(v) for v in (normal(rng, 2, 5, 5, 7), normal(rng, 7), binarized(rng, 3, 3, 7, 9)))
    grad, progress = normal(rng, 2, 5, 5, 9), jnp.float32(0.3)

    def native(x, alpha, w):
        return kernels.rsign_conv(x, alpha, w, progress, (1, 1), 1, binarize.ESTIMATORS[name], 1.3)

    def xla(x, alpha, w):
        return binarize.binary_conv(x - alpha, w, progress, (1, 1), 1, name, 1.3)

    assert_close(jax.vjp(native, x, alpha, w)[1](grad), jax.vjp(xla, x, alpha, w)[1](grad))


def unit_by_hand(x, alpha, kernel, shortcut, scale, bias, mask, rprelu, strides, pad_value, of_y=None):
    y = plain.conv(plain.binarize(x - alpha, "poly", 1.0), kernel, strides, pad_value)
    weights = mask[:, None, None, None] / (mask.sum() * y.shape[1] * y.shape[2])
    mean = jnp.sum(weights * y, (0, 1, 2))
    variance = jnp.sum(weights * (y - mean) ** 2, (0, 1, 2))
    y = (y - mean) / jnp.sqrt(variance + 1e-5) * scale + bias
    y = y if shortcut is None else y + shortcut
    if rprelu is not None:
        gamma, beta, zeta = rprelu
        y = jnp.where(y > gamma, y - gamma, beta * (y - gamma)) + zeta
    return y, mean, variance


def unit_arguments(rng, images=5, channels=21, strides=(1, 1), shortcut=True, rprelu=True):
    c, rows = channels, -(-9 // strides[0])
    return dict(
        x=normal(rng, images, 9, 10, c),
        alpha=0.3 * normal(rng, c),
        kernel=binarized(rng, 3, 3, c, c),
        shortcut=normal(rng, images, rows, 10, c) if shortcut else None,
        scale=1 + normal(rng, c),
        bias=normal(rng, c),
        rprelu=tuple(0.3 * normal(rng, c) for _ in range(3)) if rprelu else None,
    )


def in_one(x, alpha, kernel, shortcut, scale, bias, mask, rprelu, strides, pad_value, axis_name=None):
    return units.unit(
        x, alpha, kernel, shortcut, scale, bias, mask, rprelu, 1.0, strides, pad_value, axis_name=axis_name
    )


def in_two(x, alpha, kernel, shortcut, scale, bias, mask, rprelu, strides, pad_value):
    y = kernels.rsign_conv(x, alpha, kernel, jnp.float32(1), strides, pad_value)
    return units.tail(y, shortcut, scale, bias, mask, rprelu)


@pytest.mark.parametrize("native", [in_one, in_two])
@pytest.mark.parametrize("rprelu", [pytest.param(False, marks=pytest.mark.slow), True])
@pytest.mark.parametrize("shortcut, strides", [("none", (2, 1)), ("itself", (1, 1)), ("another", (2, 1))])
def test_units_and_their_gradients(native, rprelu, shortcut, strides, monkeypatch, float64):
    monkeypatch.setenv(library.VARIABLE, SETS[(3 * rprelu + len(shortcut)) % len(SETS)])
    rng = np.random.default_rng(0)
    arguments = unit_arguments(rng, strides=strides, shortcut=shortcut == "another", rprelu=rprelu)
    mask = np.array([1, 1, 0, 1, 0], np.float32)
    grad = normal(rng, 5, -(-9 // strides[0]), 10, 21)

    def loss(unit, mask):
        def f(arguments):
            arguments = dict(arguments)
            if shortcut == "itself":
                arguments["shortcut"] = arguments["x"]
            results = unit(**arguments, mask=mask, strides=strides, pad_value=1)
            return jnp.sum(results[0] * grad), results

        return jax.jit(jax.grad(f, has_aux=True))

    got = loss(native, mask)(jax.tree.map(jnp.asarray, arguments))
    assert_close(got, loss(unit_by_hand, wide(mask))(wide(arguments)))


def test_four_devices_are_one():
    """Statistics and their gradients go across devices; parameters' gradients are each device's share."""
    rng = np.random.default_rng(0)
    arguments = unit_arguments(rng, images=8)
    grad, mask = normal(rng, 8, 9, 10, 21), np.array([1, 1, 0, 1, 1, 1, 1, 1], np.float32)
    batched = ("x", "shortcut")
    data = {name: arguments.pop(name) for name in batched}

    def gradients(data, parameters, grad, mask, axis_name=None):
        def loss(data, parameters):
            out = in_one(**data, **parameters, mask=mask, strides=(1, 1), pad_value=0, axis_name=axis_name)
            return jnp.sum(out[0] * grad), out[1:]

        (of_data, of_parameters), statistics = jax.grad(loss, (0, 1), has_aux=True)(data, parameters)
        if axis_name:
            of_parameters = lax.psum(of_parameters, axis_name)
        return of_data, of_parameters, statistics

    split = jax.tree.map(lambda x: x.reshape(4, 2, *x.shape[1:]), (data, grad, mask))
    four = jax.pmap(gradients, "devices", in_axes=(0, None, 0, 0), static_broadcasted_argnums=4)(
        split[0], arguments, *split[1:], "devices"
    )
    of_data = jax.tree.map(lambda x: x.reshape(8, *x.shape[2:]), four[0])
    assert_close((of_data, *jax.tree.map(lambda x: x[3], four[1:])), jax.jit(gradients)(data, arguments, grad, mask))


def test_in_a_loop_and_what_is_not_finite():
    """NaN has the sign -1, as in XLA; it goes through the slope and the tail, so that training's check sees it."""
    rng = np.random.default_rng(0)
    arguments = unit_arguments(rng, shortcut=False)
    mask = np.ones(5, np.float32)

    def body(_, x):
        out, *_ = in_one(**arguments | {"x": x, "shortcut": x}, mask=mask, strides=(1, 1), pad_value=0)
        return out

    looped = jax.jit(lambda x: lax.fori_loop(0, 2, body, x))(arguments["x"])
    assert_close(looped, body(0, body(0, jnp.asarray(arguments["x"]))))
    x = arguments["x"].copy()
    x[1, 2, 3, 4] = np.nan
    counts = kernels.counts(x, None, arguments["kernel"])[0]
    x[1, 2, 3, 4] = -1
    np.testing.assert_array_equal(counts, kernels.counts(x, None, arguments["kernel"])[0])
    x[1, 2, 3, 4] = np.nan
    assert np.isnan(body(0, jnp.asarray(x))[1, 2, 3, 4])
    dx = jax.grad(lambda x: jnp.sum(kernels.rsign_conv(x, None, jnp.asarray(arguments["kernel"]), jnp.float32(1))))(x)
    assert np.isnan(dx[1, 2, 3, 4]) and np.isfinite(np.delete(dx, 1, 0)).all()


SCRIPT = """
import hashlib, jax, jax.numpy as jnp, numpy as np
from onebnet_jax.native import units
rng = np.random.default_rng(0)
digest = hashlib.sha256()
for c, size, kernel in ((16, 28, (3, 3)), (130, 9, (3, 1))):
    x, g = (jnp.asarray(rng.normal(size=(40, size, size, c)), jnp.float32) for _ in range(2))
    w = jnp.asarray(rng.choice([-1.0, 1.0], size=(*kernel, c, c)), jnp.float32)
    p = [jnp.asarray(rng.normal(size=c), jnp.float32) for _ in range(6)]
    def f(x, w, p):
        return units.unit(x, p[0], w, x, p[1], p[2], jnp.ones(40), tuple(p[3:]), axis_name=None)[0]
    for _ in range(3):
        out, pull = jax.vjp(f, x, w, p)
        for leaf in jax.tree.leaves((out, pull(g))):
            digest.update(np.asarray(leaf).tobytes())
        print(digest.hexdigest())
        digest = hashlib.sha256()
"""


def test_the_same_bits_for_any_number_of_threads():
    lines = []
    for threads in (1, 3):
        env = os.environ | {"NPROC": str(threads), "XLA_FLAGS": ""}  # the size of XLA's pool of threads
        done = subprocess.run([sys.executable, "-c", SCRIPT], env=env, capture_output=True, text=True, check=True)
        lines.append(done.stdout.split())
    assert len(lines[0]) == 6 and len(set(lines[0])) == 2
    assert lines[1] == lines[0]


def test_sets_that_the_library_was_built_for():
    assert SETS[-1] == "plain" and set(SETS) <= set(build.SETS)
