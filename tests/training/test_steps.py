"""Training and evaluation steps: counting with stand-ins for the network, arithmetic with a real one."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxprs import convolutions
from small_runs import SHORT

from onebnet_jax.data import augment
from onebnet_jax.data import load as data
from onebnet_jax.networks.network import Network
from onebnet_jax.ops import losses
from onebnet_jax.runs import optim
from onebnet_jax.training import steps

KEY = jax.random.key(1)
INPUT = functools.partial(steps.Input, mean=(0.0,), std=(1 / 255,))  # pixels come out as they went in


def on_devices(function, count):
    """`steps.many` pmapped over `count` devices, as feed.py does it; images and labels go to each."""
    in_axes = (None, None, 0, 0, None, None, None)
    pmapped = jax.pmap(function, steps.AXIS, in_axes=in_axes, out_axes=None, devices=jax.devices()[:count])

    def call(state, constants, images, labels, *places):
        copies = [np.broadcast_to(array, (count, *array.shape)) for array in (images, labels)]
        return pmapped(state, constants, *copies, *places)

    return call


def numbered_images(size):
    """uint8 [size, 1, 2, 1]: the two pixels of image i hold i."""
    number = np.arange(size)
    return np.stack([number // 256, number % 256], -1).astype(np.uint8).reshape(size, 1, 2, 1)


def make_train_steps(apply, optimizer, batch, total=6, smoothing=0.2):
    """Training steps whose only loss is the cross entropy: (state, images, labels, epoch, first, last) -> state."""

    def loss(logits, labels, images, params, constants):
        assert constants == {} and len(images) == len(labels)
        return losses.cross_entropy(logits, labels, smoothing)

    step = functools.partial(steps.train_step, apply, optimizer, loss, batch, total)
    run = on_devices(steps.many(step, batch, KEY, steps.check_finite), batch.devices)
    return lambda state, *rest: run(state, {}, *rest)


def numbers(images):
    return jnp.round(images[:, 0, 0, 0] * 256 + images[:, 0, 1, 0]).astype(jnp.int32)


# Counting. The stand-in network keeps, as its batch statistics, how often it has seen each image.


def count_epochs(size, local_batch, devices, epochs):
    """[epochs, size] of how often each image was seen, [epochs] of Sums, and [epochs * size] of the order."""
    batch = INPUT(local_batch * devices, devices)
    sgd, steps_per_epoch = optax.sgd(0.0), batch.steps(size)

    def apply(variables, images, train, mask, progress, mutable):
        assert train and mutable == ["batch_stats"] and images.shape == (local_batch, 1, 2, 1)
        seen = jnp.zeros(size).at[numbers(images)].add(mask)
        position = jnp.zeros(size).at[numbers(images)].add(mask * variables["batch_stats"]["step"])
        seen, position = jax.lax.psum((seen, position), steps.AXIS)
        stats = variables["batch_stats"]
        stats = {"seen": stats["seen"] + seen, "when": stats["when"] + position, "step": stats["step"] + 1}
        return variables["params"] * jnp.ones((local_batch, 10)), {"batch_stats": stats | {"progress": progress}}

    train_steps = make_train_steps(apply, sgd, batch, epochs * steps_per_epoch, smoothing=0.0)
    stats = {"seen": jnp.zeros(size), "when": jnp.zeros(size), "step": jnp.float32(0), "progress": jnp.float32(0)}
    state = steps.TrainState.first({"params": jnp.float32(1), "batch_stats": stats}, sgd)
    seen, sums, when = [], [], []
    for epoch in range(epochs):
        state = state.replace(sums=steps.Sums(), batch_stats=stats)
        state = train_steps(state, numbered_images(size), np.zeros(size, np.int32), epoch, 0, steps_per_epoch)
        seen.append(np.array(state.batch_stats["seen"]))
        when.append(np.array(state.batch_stats["when"]))
        sums.append(jax.device_get(state.sums))
        progress = 1 - (steps_per_epoch * (epochs - epoch - 1) + 1) / (steps_per_epoch * epochs)  # of the last step
        assert float(state.batch_stats["progress"]) == pytest.approx(progress, abs=1e-6)
    assert int(state.step) == epochs * steps_per_epoch and int(state.bad_step) == -1
    return seen, sums, when


@pytest.mark.slow
@settings(max_examples=6)
@given(size=st.integers(1, 600), local_batch=st.integers(1, 40), devices=st.sampled_from([1, 2, 4]))
def test_every_epoch_trains_on_every_image_once(size, local_batch, devices):
    seen, sums, when = count_epochs(size, local_batch, devices, epochs=2)
    for epoch in range(2):
        np.testing.assert_array_equal(seen[epoch], np.ones(size))
        assert sums[epoch].count == size
        # All labels are 0 and all logits equal, so the loss of each image is log 10.
        np.testing.assert_allclose(sums[epoch].loss, size * np.log(10), rtol=1e-5)
        sizes = np.bincount(when[epoch].astype(int))
        assert (sizes[:-1] == local_batch * devices).all() and 1 <= sizes[-1] <= local_batch * devices


@pytest.mark.slow
def test_the_order_is_new_in_every_epoch_and_the_same_on_any_number_of_devices():
    size = 200
    orders = {devices: count_epochs(size, 16 // devices, devices, epochs=3)[2] for devices in (1, 4)}
    np.testing.assert_array_equal(orders[1], orders[4])
    first, second, third = orders[1]
    for a, b in ((first, second), (second, third), (first, third)):
        assert np.mean(a == b) < 0.3  # 13 batches, so a 13th by chance


@settings(max_examples=6)
@given(size=st.integers(1, 600), local_batch=st.integers(1, 64), devices=st.sampled_from([1, 2, 4]), data=st.data())
def test_evaluation_counts_every_image_once(size, local_batch, devices, data):
    """Top-1, top-5 and loss of a stand-in whose logits follow from the image, against NumPy."""
    batch = INPUT(local_batch * devices, devices)
    table = np.random.default_rng(size).permuted(np.tile(np.arange(10.0, dtype=np.float32), (size, 1)), axis=1)
    labels = np.arange(size, dtype=np.int32) % 10

    def apply(variables, images):
        return variables[numbers(images)]

    score = on_devices(steps.many(functools.partial(steps.score_step, apply, batch), batch), devices)

    def evaluate(*cuts):
        sums = steps.Sums()
        for first, last in itertools.pairwise(cuts):
            sums = jax.device_get(score(sums, table, numbered_images(size), labels, 0, first, last))
        return sums

    cut, end = data.draw(st.integers(0, batch.steps(size))), batch.steps(size)
    sums = evaluate(0, cut, end)
    assert sums == evaluate(0, end)  # the loss too, to the bit
    rank = 9 - table[np.arange(size), labels]
    assert sums.count == size
    assert sums.top1 == np.sum(rank == 0)
    assert sums.top5 == np.sum(rank < 5)
    assert sums.means()["top5"] == pytest.approx(100 * np.mean(rank < 5))
    log_sum = np.log(np.sum(np.exp(np.arange(10.0))))
    np.testing.assert_allclose(sums.loss, np.sum(log_sum - 9 + rank), rtol=1e-5)


# Arithmetic, with a stem, a 3x1 and a 1x3 unit that downsample, and a 3x3 unit.

STRUCTURE = SHORT["onebnet"](depth=8, ds_1d=(32,), width_multiplier=0.25, channels=1)
SMALL = functools.partial(
    steps.Input, batch_size=8, mean=(0.3,), std=(0.4,), crop_padding=2, flip=True, rotate=20.0, brightness=0.3
)  # 22 images are three batches, and the last 6 images leave the last of 4 devices without any


def small_images(size=22, height=8):
    rng = np.random.default_rng(7)
    return rng.integers(0, 256, (size, height, height, 1), np.uint8), rng.integers(0, 10, size).astype(np.int32)


def float64_state(network, optimizer):
    variables = jax.jit(network.init)(jax.random.key(3), jnp.zeros((1, 8, 8, 1)))
    state = steps.TrainState.first(jax.tree.map(lambda x: x.astype(jnp.float64), variables), optimizer)
    return state.replace(sums=steps.Sums(jnp.float64(0), jnp.int64(0), jnp.int64(0), jnp.int64(0)))


def plain_loop(network, optimizer, state, images, labels, count):
    """`count` steps as one would write them without devices, masks or fixed shapes: the reference."""
    order_key, augment_key = jax.random.split(KEY)
    batch = SMALL(devices=1)
    params, batch_stats, opt_state = state.params, state.batch_stats, state.opt_state
    total_loss = right = 0

    @jax.jit
    def step(params, batch_stats, opt_state, x, y):
        x = augment.normalize(x, batch.mean, batch.std)

        def loss_fn(params):
            variables = {"params": params, "batch_stats": batch_stats}
            logits, updates = network.apply(variables, x, True, mutable=["batch_stats"])
            targets = 0.8 * jax.nn.one_hot(y, 10) + 0.02
            loss = -jnp.mean(jnp.sum(targets * jax.nn.log_softmax(logits), -1))
            return loss, (updates["batch_stats"], jnp.sum(jnp.argmax(logits, -1) == y))

        (loss, (batch_stats, right)), grads = jax.value_and_grad(loss_fn, has_aux=True)(params)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), batch_stats, opt_state, loss, right

    for index in range(count):
        epoch, position = divmod(index, 3)
        order = jax.random.permutation(jax.random.fold_in(order_key, epoch), len(labels))
        chosen = order[position * 8 : (position + 1) * 8]
        key = jax.random.fold_in(augment_key, index)
        turns, draws = augment.draw_turns(jax.random.fold_in(key, 1), 8, 20.0, 0.3), augment.draw(key, 8, 2, True)
        x = augment.turn(images[chosen], *(drawn[: len(chosen)] for drawn in turns))
        x = augment.apply(x, *(drawn[: len(chosen)] for drawn in draws), 2)
        params, batch_stats, opt_state, loss, hits = step(params, batch_stats, opt_state, x, labels[chosen])
        total_loss, right = total_loss + loss * len(chosen), right + hits
    return params, batch_stats, opt_state, total_loss, right


def assert_close(a, b, tolerance=1e-9):
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=tolerance, atol=tolerance), a, b)


@pytest.mark.slow
def test_one_device_four_devices_and_a_plain_loop_agree(float64, quick_compilation):
    """In float64, where rounding flips no sign; four steps, so beyond a partly filled batch and an epoch."""
    optimizer, _ = optim.make(optim.Optimizer(weight_decay=1e-4), 2, 3)
    images, labels = small_images()
    network = Network(STRUCTURE, axis_name=steps.AXIS, dtype=jnp.float64)
    start = float64_state(network, optimizer)
    ends = []
    for devices in (1, 4):
        train_steps = make_train_steps(network.apply, optimizer, SMALL(devices=devices))
        state = train_steps(start, images, labels, 0, 0, 3)
        state = train_steps(state, images, labels, 1, 0, 1)
        ends.append(jax.device_get(state))
    one, four = ends
    assert one.sums.count == four.sums.count == 22 + 8
    assert one.params["stem_conv"]["kernel"].dtype == np.float64
    assert_close(one, four)

    params, batch_stats, opt_state, loss, right = plain_loop(
        Network(STRUCTURE, dtype=jnp.float64), optimizer, start, images, labels, 4
    )
    assert_close((params, batch_stats, opt_state), (four.params, four.batch_stats, four.opt_state))
    assert_close(loss, four.sums.loss)
    assert right == four.sums.top1
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), params, start.params)
    assert min(jax.tree.leaves(moved)) > 1e-4  # every parameter has learnt


@pytest.fixture(scope="module")
def trainer(quick_compilation):
    """(train_steps, start, steps per epoch) of a float32 network on 52 real images, in batches of 8 on four devices."""
    return make_trainer(jnp.float32)


def make_trainer(dtype):
    dataset = data.open("fashion_mnist_mini")
    images, labels = dataset.train_images[:52, 6:22, 6:22], dataset.train_labels[:52]
    optimizer, _ = optim.make(optim.Optimizer(learning_rate=3e-2), 20, 7)
    network = Network(STRUCTURE, axis_name=steps.AXIS, dtype=dtype)
    batch = steps.Input(8, 4, dataset.info.mean, dataset.info.std, crop_padding=1, flip=True)
    train_steps = make_train_steps(network.apply, optimizer, batch)
    start = steps.TrainState.first(jax.jit(network.init)(jax.random.key(0), jnp.zeros((1, 16, 16, 1))), optimizer)
    return lambda state, *places: train_steps(state, images, labels, *places), start, batch.steps(52)


def bits(tree):
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(jax.device_get(tree))]


@pytest.mark.slow
def test_how_a_run_is_cut_into_calls_changes_no_bit(trainer):
    train_steps, start, steps_per_epoch = trainer
    assert steps_per_epoch == 7
    quiet = train_steps(start, 0, 0, 7)
    cut = start
    for first, last in ((0, 1), (1, 3), (3, 3), (3, 7)):
        cut = train_steps(cut, 0, first, last)
        cut = jax.tree.map(np.asarray, jax.device_get(cut))  # as it comes from a checkpoint
    assert bits(quiet) == bits(cut)
    assert bits(quiet) != bits(start)


def test_loss_falls_and_accuracy_rises_on_real_images(trainer):
    train_steps, state, steps_per_epoch = trainer
    history = []
    for epoch in range(20):
        state = train_steps(state.replace(sums=steps.Sums()), epoch, 0, steps_per_epoch)
        history.append((float(state.sums.loss) / 52, int(state.sums.top1) / 52))
    smallest = -(0.82 * np.log(0.82) + 9 * 0.02 * np.log(0.02))  # where labels are smoothed by 0.2
    assert history[0][0] > 2.0 and history[-1][0] - smallest < 0.6 * (history[0][0] - smallest)
    assert history[-1][1] > 0.4 > 2 * history[0][1]
    assert int(state.bad_step) == -1


@pytest.mark.parametrize("broken", ["a weight", "an Adam moment", "a shift before the sign"])
def test_bad_step_is_the_first_step_that_is_not_finite(trainer, broken):
    train_steps, start, _ = trainer
    state = train_steps(start, 0, 0, 3)
    assert int(state.bad_step) == -1
    state = jax.tree.map(np.array, jax.device_get(state))  # writable
    unit = next(name for name in sorted(state.params) if name.startswith("stage"))
    if broken == "a weight":
        state.params["head"]["kernel"][0, 0] = np.nan
    elif broken == "an Adam moment":
        moments = next(part for part in state.opt_state if hasattr(part, "nu"))
        moments.nu[unit]["conv"]["kernel"][0, 0] = np.inf  # freezes the parameter, with a loss like any other
    else:
        state.params[unit]["rsign"]["alpha"][0] = np.nan  # sign(NaN) = -1: the loss looks well
    after = train_steps(state, 0, 3, 4)
    assert int(after.bad_step) == 3
    assert np.isfinite(after.sums.loss) == (broken != "a weight")
    after = train_steps(after, 0, 4, 6)
    assert int(after.bad_step) == 3 and int(after.step) == 6


@pytest.mark.slow
def test_bfloat16_keeps_parameters_statistics_and_loss_in_float32():
    train_steps, start, steps_per_epoch = make_trainer(jnp.bfloat16)
    state = jax.eval_shape(train_steps, start, 0, 0, steps_per_epoch)
    floats = [x.dtype for x in jax.tree.leaves(state) if jnp.issubdtype(x.dtype, jnp.floating)]
    assert len(floats) > 40 and set(floats) == {jnp.dtype("float32")}


def test_bfloat16_is_what_convolutions_see_and_float32_what_leaves_the_network():
    network = Network(STRUCTURE, dtype=jnp.bfloat16)
    image = jnp.zeros((2, 16, 16, 1))
    variables = jax.eval_shape(network.init, jax.random.key(0), image)
    jaxpr = jax.make_jaxpr(network.apply)(variables, image)
    outputs = [equation.outvars[0].aval.dtype for equation in convolutions(jaxpr.jaxpr)]
    assert len(outputs) == 4 + 2 and set(outputs) == {jnp.dtype("bfloat16")}
    assert jaxpr.out_avals[0].dtype == jnp.float32


def test_scores_and_their_statistics_multiply_all_bits_of_float32():
    network, images = Network(STRUCTURE), jnp.zeros((2, 16, 16, 1), jnp.uint8)
    variables = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((2, 16, 16, 1)))
    rest = images, jnp.zeros(2, jnp.int32), jnp.ones(2)
    score = functools.partial(steps.score_step, network.apply, INPUT(2, 1), steps.Sums())
    renew = functools.partial(steps.statistics_step, network.apply, INPUT(2, 1))
    for step, *given_ in (score, variables), (renew, steps.Statistics(variables["batch_stats"]), variables["params"]):
        jaxpr = jax.make_jaxpr(step, axis_env=[(steps.AXIS, 1)])(*given_, *rest).jaxpr
        assert {str(equation.params["precision"]) for equation in convolutions(jaxpr)} == {
            str((jax.lax.Precision.HIGHEST,) * 2)
        }
