"""The first convolution of ResNets, 7x7 with stride 2 and a max pool, which the engine computes in tiles (tiles.h)."""

import dataclasses

import engines
import numpy as np
from engines import needs_engine
from hypothesis import example, given, settings
from hypothesis import strategies as st

from onebnet_jax.export.native import axis
from onebnet_jax.export.plan import Conv
from onebnet_jax.native.runtime import Engine

pytestmark = needs_engine
SAME = (None, None)


def stem(kernel, bias, beta, size, pads, pool_pads):
    """A network's file whose first unit is the stem, and whose second looks at its signs."""
    inputs, outputs = kernel.shape[2:]
    out = [axis(axis(n, 7, 2, p)[0], 3, 2, q)[0] for n, p, q in zip(size, pads or SAME, pool_pads or SAME)]
    plan = engines.signs_plan(np.ones((1, 1, outputs, 1)), out)
    first = plan.units[0]
    conv = Conv("stem_conv", kernel, bias, (2, 2), size, pads=pads)
    first = dataclasses.replace(first, conv=conv, beta=beta, max_pool=True, pool_pads=pool_pads)
    shape = (*size, inputs)
    return engines.pack(dataclasses.replace(plan, units=(first, *plan.units[1:]), image_shape=shape))


def windows(x, extent, pads, fill):
    """[H, W, C] -> [out_h, out_w, extent, extent, C], with stride 2."""
    sizes = [axis(n, extent, 2, p) for n, p in zip(x.shape, pads or SAME)]
    more = [(before, 2 * size + extent) for size, before in sizes]
    padded = np.pad(x, (*more, (0, 0)), constant_values=fill)
    views = np.lib.stride_tricks.sliding_window_view(padded, (extent, extent), axis=(0, 1))[::2, ::2]
    return np.moveaxis(views[: sizes[0][0], : sizes[1][0]], 2, -1)


def expected(image, kernel, bias, beta, pads, pool_pads, kind=np.float64):
    """[H, W, C_out] from [H, W, C_in]; of a kind of floats to which each sum is rounded, product after product."""
    x = windows(np.float64(image), 7, pads, 0)
    y = np.broadcast_to(bias.astype(kind), (*x.shape[:2], bias.size))
    for values, weights in zip(np.moveaxis(x.reshape(*x.shape[:2], -1), 2, 0), kernel.reshape(-1, bias.size)):
        y = (y + values[..., None] * weights).astype(kind)
    if beta is not None:
        y = np.where(y < 0, y * beta, y)
    return windows(y, 3, pool_pads, -np.inf).max(axis=(2, 3))


PADS = st.none() | st.tuples(*[st.tuples(st.integers(0, 4), st.integers(0, 4))] * 2)
POOL_PADS = st.none() | st.tuples(*[st.tuples(st.integers(0, 1), st.integers(0, 1))] * 2)


@given(
    size=st.tuples(st.integers(11, 45), st.integers(11, 70)),
    outputs=st.integers(1, 70),
    pads=PADS,
    pool_pads=POOL_PADS,
    activation=st.sampled_from(["none", "relu", "prelu"]),
    colours=st.sampled_from([3, 3, 3, 1]),  # tiles are for three
    seed=st.integers(0, 9),
)
@example(
    size=(64, 64), outputs=64, pads=((3, 3), (3, 3)), pool_pads=((1, 1), (1, 1)), activation="relu", colours=3, seed=0
)
@example(size=(11, 11), outputs=3, pads=None, pool_pads=None, activation="none", colours=3, seed=0)
@settings(max_examples=60)
def test_the_stem_is_a_convolution_with_a_max_pool(size, outputs, pads, pool_pads, activation, colours, seed):
    rng = np.random.default_rng(seed)
    kernel = rng.normal(size=(7, 7, colours, outputs)).astype(np.float32)
    bias, beta = np.float32(rng.normal(size=(2, outputs)))
    bias[0] = -1e5  # nothing there is above 0
    beta = {"none": None, "relu": np.zeros_like(beta), "prelu": beta}[activation]
    image = rng.integers(0, 256, (*size, colours), np.uint8)
    result = expected(image, kernel, bias, beta, pads, pool_pads)
    # What rounding may do to a sum of so many products of this size.
    bound = 1e-6 * expected(image, np.abs(kernel), np.abs(bias), None, pads, pool_pads)
    file, maps = stem(kernel, bias, beta, size, pads, pool_pads), {}
    for name in engines.sets():
        engine = Engine(file, instruction_set=name)
        signs, maps[name] = engine.look(image, 0)
        assert np.all(np.abs(maps[name] - result) <= bound)
        np.testing.assert_array_equal(signs, np.where(maps[name] > 0, 1, -1))
        for threads in (2, 5):  # which cut the rows elsewhere
            logits = Engine(file, instruction_set=name, threads=threads).logits(image[None])
            np.testing.assert_array_equal(logits, engine.logits(image[None]))
    for name in set(maps) - {"plain"}:
        assert maps[name].tobytes() == maps[engines.sets()[0]].tobytes()  # zeros have their sign


def test_tiles_round_no_worse_than_one_product_after_the_other():
    rng = np.random.default_rng(0)
    kernel, bias = np.float32(rng.normal(size=(7, 7, 3, 64))), np.float32(rng.normal(size=64))
    image = rng.integers(0, 256, (224, 224, 3), np.uint8)
    pads, pool_pads = ((3, 3), (3, 3)), ((1, 1), (1, 1))
    exact = expected(image, kernel, bias, None, pads, pool_pads)
    plain = expected(image, kernel, bias, None, pads, pool_pads, np.float32)
    file = stem(kernel, bias, None, (224, 224), pads, pool_pads)
    tiles = Engine(file).look(image, 0, signs=False)[1]
    error, other = (np.sqrt(np.mean((x - exact) ** 2)) for x in (tiles, plain))
    assert error < other
