"""Signs, estimators, scales and the binarized convolution against their closed forms."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import plain
import pytest

from onebnet_jax.errors import UserError
from onebnet_jax.networks.network import FORMULAS
from onebnet_jax.ops.binarize import (
    ESTIMATORS,
    SCALES,
    binarize_kernel,
    binary_conv,
    check_estimator,
    check_scale,
    sign,
    ste_sign,
)
from onebnet_jax.ops.convolution import conv
from onebnet_jax.ops.unit import ACTIVATIONS

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_sign_is_never_zero_and_that_of_zero_is_minus_one(dtype):
    tiny = float(jnp.finfo(dtype).tiny)
    y = sign(jnp.array([0.0, -0.0, tiny, -tiny, 3.0, -3.0, jnp.inf, -jnp.inf], dtype))
    assert y.dtype == dtype
    assert y.tolist() == [-1, -1, 1, -1, 1, -1, 1, -1]


# Estimators ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("window", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_slopes_are_the_derivatives_of_the_papers_functions(estimator, window, float64):
    """At zero, on the edges, just inside and outside of them, and anywhere, whatever the progress."""
    edges = window * np.array([0.1, 1.0, 1.5])
    sizes = np.concatenate([[0, 1e-300, 9, np.inf], edges[1:], edges - 1e-9, edges + 1e-9, np.linspace(0.01, 4, 40)])
    x = jnp.concatenate([-sizes, sizes])
    grad = jnp.where(jnp.arange(x.size) % 3 == 0, -2.0, 1.0)
    for progress in (0.0, 0.2, 0.5, 0.9, 1.0):
        y, vjp = jax.vjp(lambda x, p=progress: ste_sign(x, p, estimator, window), x)
        np.testing.assert_array_equal(y, np.where(x > 0, 1, -1))
        # At infinity the derivative of a power is 0 * inf.
        finite = jnp.where(jnp.isfinite(x), x, 1e9)
        slope = jax.vmap(jax.grad(plain.soft_sign), (0, None, None, None))(finite, estimator, window, progress)
        np.testing.assert_allclose(vjp(grad)[0], grad * slope, rtol=1e-12, atol=1e-13)


def test_slopes_with_a_schedule_at_its_two_ends():
    """tanh: k t, with t from 0.1 to 10 and k = max(1 / t, 1); reste: the identity, then the cube root."""

    def slope(x, progress, estimator):
        return float(jax.grad(ste_sign)(jnp.float32(x), progress, estimator))

    assert [slope(0.0, p, "tanh") for p in (0.0, 0.5, 1.0)] == pytest.approx([1, 1, 10])
    assert [slope(1.4, 0.0, "reste"), slope(1.6, 0.0, "reste")] == [1, 0]
    assert slope(0.5, 1.0, "reste") == pytest.approx(0.5 ** (-2 / 3) / 3)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_estimators_in_bfloat16(estimator):
    """Values and slopes keep the type, and are those of float32 rounded; sums of +-1 below 256 are exact."""
    x = jnp.array(np.random.default_rng(0).integers(-4, 5, (2, 5, 5, 16)) / 4, jnp.bfloat16)
    kernel = sign(jax.random.normal(jax.random.key(0), (3, 3, 16, 4), jnp.bfloat16))
    progress = jnp.float32(0.4)

    def run(x, kernel):
        slope = jax.grad(lambda x: jnp.sum(ste_sign(x, progress, estimator)))(x)
        y, vjp = jax.vjp(lambda *args: binary_conv(*args, progress, (2, 1), 0, estimator), x, kernel)
        return slope, y, *vjp(y)

    narrow, wide = run(x, kernel), run(x.astype(jnp.float32), kernel.astype(jnp.float32))
    assert {array.dtype for array in narrow} == {jnp.dtype(jnp.bfloat16)}
    np.testing.assert_allclose(np.float32(narrow[0]), wide[0], rtol=0.02)
    np.testing.assert_array_equal(np.float32(narrow[1]), wide[1])


def test_unknown_names_are_refused():
    x, kernel = jnp.ones((1, 2, 2, 1)), jnp.ones((1, 1, 1, 1))
    for function in (
        lambda x: ste_sign(x, estimator="cubic"),
        lambda x: binary_conv(x, kernel, estimator="cubic"),
        lambda x: binarize_kernel(x, scale="cubic"),
    ):
        with pytest.raises(KeyError, match="cubic"):
            jax.grad(lambda x, f=function: jnp.sum(f(x)))(x)


WRONG = [  # what a user may write, and what is said of it
    (lambda x, window, progress: 1.0, "gives a float, not an array"),
    (lambda x, window, progress: jnp.ones(()), r"gives an array \[\] of float32, not \[100\]"),
    (lambda x, window, progress: jnp.ones(x.shape, int), "of int32"),
    (lambda x, window, progress: (jnp.sign(x), jnp.ones_like(x)), "gives a tuple"),
    (lambda x, window, progress: x**-0.5, "not finite, with window 0.5 and progress 0"),
    (lambda x, window, progress: x / (1 - progress), "not finite, with window 0.5 and progress 1"),
    (lambda x, window, progress: jnp.exp(x) / (1 + jnp.exp(x)) ** 2 if progress < 1 else x, "fails .TracerBool"),
    (lambda x: x, "fails .TypeError"),
    (lambda x, window, progress: 0 * x, "gives 0 everywhere, with window 0.5"),
]


@pytest.mark.parametrize(("function", "words"), WRONG)
def test_an_estimator_of_ones_own_that_gives_no_slope_is_refused(function, words, monkeypatch):
    monkeypatch.setitem(ESTIMATORS, "own", function)
    with pytest.raises(UserError, match=f"^The estimator 'own' .*{words}"):
        check_estimator("own", 0.5)


def test_what_the_package_has_passes_its_checks():
    for name in ESTIMATORS:
        check_estimator(name, 1e-3)
    for name in SCALES:
        check_scale(name)


def test_a_scale_of_ones_own_has_a_factor_for_each_output_channel(monkeypatch):
    """The kernels read one of each, so that any other would train another network there than XLA does."""
    monkeypatch.setitem(SCALES, "own", lambda kernel: abs(kernel).mean(axis=(2, 3), keepdims=True))
    with pytest.raises(UserError, match=r"'own' gives an array \[3, 1, 1, 1\] of float32, not \[5\]"):
        check_scale("own")


@pytest.mark.parametrize("parts", [ESTIMATORS, SCALES, ACTIVATIONS, FORMULAS])
def test_what_the_package_has_cannot_be_replaced_under_its_name(parts):
    """Kernels and files for devices know these by name."""
    before = dict(parts)
    for name in before:
        for replace in (parts.__setitem__, lambda name, own: parts.update({name: own})):
            with pytest.raises(UserError, match=f"has its own {parts.kind} {name!r}"):
                replace(name, abs)
    assert dict(parts) == before


# Weights -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", SCALES)
def test_binarize_kernel(scale):
    """One magnitude per output channel, a constant for the gradient; zero weights are negative ones."""
    kernel = np.random.default_rng(0).normal(size=(3, 1, 4, 5)).astype(np.float32)
    kernel[..., 0].flat[:4] = 0, -0.0, 1, -1
    kernel[..., 1] = 0
    factor = {"mean": np.abs(kernel).mean(axis=(0, 1, 2)), "none": np.ones(5)}[scale]
    np.testing.assert_allclose(SCALES[scale](kernel), factor, rtol=1e-6)
    grad = np.random.default_rng(1).normal(size=kernel.shape).astype(np.float32)
    for estimator, progress, window in [("clip", 1.0, 1.0), ("poly", 1.0, 2.0), ("tanh", 0.3, 1.0)]:
        binarized, vjp = jax.vjp(lambda w, o=(progress, estimator, window): binarize_kernel(w, *o, scale), kernel)
        np.testing.assert_allclose(binarized, np.where(kernel > 0, factor, -factor), rtol=1e-6)
        _, expected = jax.vjp(lambda w, o=(progress, estimator, window): ste_sign(w, *o), kernel)
        np.testing.assert_allclose(vjp(grad)[0], factor * expected(grad)[0], rtol=1e-6)


# The binarized convolution -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "strides"), [((3, 3), (2, 2)), ((3, 1), (2, 1)), ((1, 3), (1, 1)), ((1, 1), (1, 1))])
def test_binary_conv_is_conv_of_ste_sign(size, strides, float64):
    rng = np.random.default_rng(0)
    # A grid that contains 0 and the edges +-0.5 and +-1 exactly.
    x = jnp.array(rng.integers(-12, 13, (2, 6, 5, 4)) / 8)
    kernel = jnp.array(rng.normal(size=(*size, 4, 3)))
    for estimator, (window, pad_value) in itertools.product(ESTIMATORS, [(1.0, 0), (0.5, 1)]):

        def whole(x, kernel, options=(0.3, strides, pad_value, estimator, window)):
            return binary_conv(x, kernel, *options)

        def parts(x, kernel, options=(0.3, estimator, window), pad_value=pad_value):
            return conv(ste_sign(x, *options), kernel, strides, pad_value)

        y, vjp = jax.vjp(whole, x, kernel)
        expected, expected_vjp = jax.vjp(parts, x, kernel)
        np.testing.assert_array_equal(y, expected)
        grad = jnp.array(rng.normal(size=y.shape))
        for computed, wanted in zip(vjp(grad), expected_vjp(grad), strict=True):
            assert np.abs(wanted).max() > 0
            np.testing.assert_allclose(computed, wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_what_the_backward_pass_keeps(dtype):
    """The figures of the module's documentation, to the byte: one bit or two per value, or x itself."""
    x, kernel = jnp.ones((3, 5, 7, 3), dtype), jnp.ones((3, 3, 3, 16), dtype)
    progress = jnp.float32(0.5)

    def kept(function, *args):
        _, vjp = jax.vjp(function, *args)
        return sum(leaf.nbytes for leaf in jax.tree.leaves(vjp)) - progress.nbytes

    bits = -(-x.size // 8)
    for estimator in ESTIMATORS:
        alone, more = (bits, 2 * bits) if estimator == "clip" else (x.nbytes, x.nbytes)
        assert kept(lambda x, e=estimator: ste_sign(x, progress, e), x) == alone
        both = kept(lambda x, kernel, e=estimator: binary_conv(x, kernel, progress, estimator=e), x, kernel)
        assert both == more + kernel.nbytes
