"""Losses and scores against closed forms in NumPy."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from onebnet_jax.errors import UserError
from onebnet_jax.networks.structure import Binarization
from onebnet_jax.ops import losses
from onebnet_jax.ops.losses import attention, cross_entropy, distribution, in_top_k
from onebnet_jax.runs.experiment import Stage
from onebnet_jax.runs.optim import Optimizer
from onebnet_jax.training import stage


def log_softmax(logits):
    logits = np.float64(logits)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def targets(labels, classes, smoothing):
    return (1 - smoothing) * np.eye(classes)[labels] + smoothing / classes


LOGITS = np.random.default_rng(0).normal(size=(6, 10)).astype(np.float32)
MAPS, TEACHER_MAPS = ((4, 5, 6), (2, 3, 8)), ((4, 5, 2), (2, 3, 8))
LABELS = np.array([0, 9, 3, 3, 5, 1])
TEACHER_LOGITS = np.random.default_rng(1).normal(0, 3, (6, 10)).astype(np.float32)


@pytest.mark.parametrize("smoothing", [0.0, 0.2, 1.0])
def test_cross_entropy_and_its_gradient(smoothing):
    wanted = targets(LABELS, 10, smoothing)
    losses, vjp = jax.vjp(lambda logits: cross_entropy(logits, LABELS, smoothing), LOGITS)
    assert losses.shape == (6,) and losses.dtype == jnp.float32
    np.testing.assert_allclose(losses, -(wanted * log_softmax(LOGITS)).sum(-1), rtol=1e-5)
    np.testing.assert_allclose(vjp(jnp.ones(6))[0], np.exp(log_softmax(LOGITS)) - wanted, atol=1e-6)


def test_smoothing_of_the_paper_leaves_0_82_to_the_label_of_ten():
    """A.2: label smoothing 0.2. With logits log q the loss is the entropy of q, the least that it can be."""
    q = targets(np.array([4]), 10, 0.2)
    assert q[0, 4] == pytest.approx(0.82) and q[0, 0] == pytest.approx(0.02)
    assert cross_entropy(jnp.log(q), jnp.array([4]), 0.2)[0] == pytest.approx(-(q * np.log(q)).sum(), rel=1e-5)


def test_equal_logits_lose_the_logarithm_of_the_number_of_classes():
    np.testing.assert_allclose(cross_entropy(jnp.zeros((3, 7)), jnp.array([0, 3, 6]), 0.2), np.log(7), rtol=1e-6)


def test_huge_logits_stay_finite():
    losses = cross_entropy(jnp.array([[1e4, -1e4], [1e4, -1e4]]), jnp.array([0, 1]))
    assert losses.tolist() == [0.0, 2e4]


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_distribution_loss_and_its_gradients(temperature):
    """ReActNet's equation 5 at T = 1; beyond it, Hinton et al.'s: T^2 times the cross entropy of softened softmaxes."""
    wanted = np.exp(log_softmax(TEACHER_LOGITS / temperature))
    softened = log_softmax(LOGITS / temperature)
    losses, vjp = jax.vjp(lambda *logits: distribution(*logits, temperature), LOGITS, TEACHER_LOGITS)
    assert losses.shape == (6,) and losses.dtype == jnp.float32
    np.testing.assert_allclose(losses, -(temperature**2) * (wanted * softened).sum(-1), rtol=1e-5)
    student, teacher = vjp(jnp.ones(6))
    np.testing.assert_allclose(student, temperature * (np.exp(softened) - wanted), atol=3e-6)
    assert not teacher.any()


def test_distribution_loss_is_least_where_the_student_answers_as_the_teacher():
    """It is the entropy of the teacher's answers there, and no shift of the logits changes that."""
    q = np.exp(log_softmax(TEACHER_LOGITS))
    np.testing.assert_allclose(distribution(TEACHER_LOGITS + 5, TEACHER_LOGITS), -(q * np.log(q)).sum(-1), rtol=1e-5)
    assert (distribution(LOGITS, TEACHER_LOGITS) > distribution(TEACHER_LOGITS, TEACHER_LOGITS)).all()


def test_attention_loss_and_its_gradients():
    rng = np.random.default_rng(2)
    maps, teacher = ([rng.normal(size=(3, *size)) for size in sizes] for sizes in (MAPS, TEACHER_MAPS))
    shares = []
    for x, y in zip(maps, teacher):
        squares = [np.square(each).mean(-1) for each in (x, y)]
        shares.append([each / each.max((1, 2), keepdims=True) for each in squares])
    wanted = np.mean([np.square(x - y).mean((1, 2)) for x, y in shares], axis=0)
    found, vjp = jax.vjp(attention, [jnp.float32(x) for x in maps], [jnp.float32(x) for x in teacher])
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    of_maps, of_teacher = vjp(jnp.ones(3))
    assert all(np.any(grad) for grad in of_maps) and not any(np.any(grad) for grad in of_teacher)
    assert not attention([2 * jnp.float32(x) for x in teacher], teacher).any()
    assert np.isfinite(attention([jnp.zeros((1, 2, 2, 3))], [jnp.ones((1, 2, 2, 3))])).all()


def test_in_top_k():
    logits = jnp.array([[0.1, 0.9, 0.5, 0.3], [4.0, 3.0, 2.0, 1.0], [-1.0, -2.0, -3.0, -4.0]])
    labels = jnp.array([2, 3, 0])
    hits = {k: in_top_k(logits, labels, k).tolist() for k in (1, 2, 3, 4, 5)}
    # Five of four classes are all of them.
    assert hits == {1: [0, 0, 1], 2: [1, 0, 1], 3: [1, 0, 1], 4: [1, 1, 1], 5: [1, 1, 1]}


def test_top_1_is_the_largest_logit():
    assert in_top_k(LOGITS, LABELS, 1).tolist() == (LOGITS.argmax(-1) == LABELS).astype(int).tolist()


PARAMS = {"unit": {"kernel": jnp.asarray([[0.5, -2.0]])}}
OWN = {
    "of each image": (lambda logits, labels, params: jnp.square(logits).sum(-1), None),
    "of all": (lambda logits, labels, params: jnp.square(1 - jnp.abs(params["unit"]["kernel"])).sum(), None),
    "a number": (lambda logits, labels, params: 0.5, "has no gradient"),
    "of each logit": (lambda logits, labels, params: logits, r"gives an array \[4, 3\]"),
    "of each class": (lambda logits, labels, params: logits.mean(0), r"gives an array \[3\]"),
    "a boolean": (lambda logits, labels, params: logits.argmax(-1) != labels, "fails .TypeError"),
    "a count": (lambda logits, labels, params: jnp.float32(logits.argmax(-1) != labels), "has no gradient"),
    "no finite slope": (lambda logits, labels, params: jnp.sqrt(jnp.sum((logits - logits) ** 2, -1)), "not finite"),
    "a loop": (
        lambda logits, labels, params: jax.lax.while_loop(lambda x: x < 9, lambda x: 2 * x, logits[0, 0]),
        "fails",
    ),
    "breaks": (
        lambda logits, labels, params: params["nowhere"],
        r"fails .KeyError: 'nowhere', in line \d+ of .*/test_losses",
    ),
    "not finite": (lambda logits, labels, params: jnp.log(logits).sum(-1), "not finite"),
}


@pytest.mark.parametrize("name", OWN)
def test_a_loss_of_ones_own_is_tried_and_added(name, monkeypatch):
    loss, refusal = OWN[name]
    monkeypatch.setitem(losses.LOSSES.data, "mine", loss)
    with pytest.raises(UserError, match=f"loss 'mine' .*{refusal}") if refusal else contextlib.nullcontext():
        losses.check_loss("mine", PARAMS, classes=3)
    if refusal:
        return
    given = Stage("train", 4, 1, Binarization(), Optimizer(), other_loss="mine", other_weight=0.25)
    logits, labels = jnp.asarray([[1.0, 2.0, 3.0], [0.0, -1.0, 0.5]]), jnp.asarray([0, 2])
    total = stage.loss_of(given, None, logits, labels, None, PARAMS, {})
    added = {"of each image": np.array([14.0, 1.25]), "of all": 1.25}[name]
    np.testing.assert_allclose(total, cross_entropy(logits, labels) + 0.25 * added, rtol=1e-6)
