"""Do a trained network, its Keras model, its file and the native engine give the same answers, and if not, why not?

Float rounding that carries a value over the threshold of a sign turns a -1 into a +1: a flip, from which more follow,
so that logits can differ visibly with nothing wrong. Only an image's first flips must lie within rounding.

What rounding can do is `ROUNDING` of the size of the values, and more behind a gate g = sigmoid(z). There z is a sum of
products of sums. A float32 sum of n terms errs by about sqrt(n) 2^-24 of the terms' size, so z, of 49 pixels, 512
channels and 64 hidden values, by 1.5e-6 of its RMS over the channels, and six times that is ROUNDING: an error d that
does not shrink where the terms cancel. It makes g (1 - g) d of the gate, and that times its convolution's result of the
unit: `gate_rounding`. A trained network's z are of the size of 1, and this is next to nothing; in a Real-to-Bin whose
statistics no training has set they are of the size of 200, from terms that add up to 30,000.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from onebnet_jax.errors import UserError
from onebnet_jax.export import card, native
from onebnet_jax.export.plan import Plan, Unit
from onebnet_jax.native.runtime import Engine
from onebnet_jax.networks.network import EXACT, Network
from onebnet_jax.runs.trained import Trained

# What rounding can do, as a share of the RMS of what a unit takes signs of, or of the largest logit: 84 epsilons.
ROUNDING = 1e-5
TINY = np.finfo(np.float32).tiny


@dataclasses.dataclass(frozen=True)
class UnitFlips:
    """Signs of one unit that turned out otherwise than in the trained network, over all images."""

    name: str  # of the unit
    signs: int  # how many were compared
    flips: int  # how many differ
    margin: float  # the largest distance of a flip from its threshold, see `flip_margins`
    first_flips: int  # those in images in which no unit before this one has a flip
    first_margin: float  # the largest distance of these


@dataclasses.dataclass(frozen=True)
class Comparison:
    """One implementation against the trained network in JAX."""

    max_difference: float  # of logits, absolute
    mean_difference: float
    correct: int | None  # images whose highest logit is the label's; None without labels
    equal_predictions: int  # images on which the two predict the same class
    images_with_flips: int  # images in which any sign differs
    unexplained: list[int]  # images whose first flip, or whose logits' difference without any, is wider than rounding
    differing: list[tuple[int, str, float]]  # image of another class, unit ("" for none) and margin of its first flip
    units: list[UnitFlips]  # in order


@dataclasses.dataclass(frozen=True)
class Report:
    """All on the same images."""

    images: int  # how many
    max_logit: float  # the largest absolute logit of the trained network
    correct: int | None  # images that the trained network gets right; None without labels
    keras: Comparison | None  # None where the file is the engine's own
    lce: Comparison | None
    conversion_difference: float  # of logits, the file's from those of the conversion whose signs were read; must be 0
    engine: Comparison | None = None
    engine_missing: str = ""  # why it is None
    sections: Sequence = ()  # a `parity.Parity` of each alone, where that was looked into

    @property
    def others(self) -> dict[str, Comparison]:
        """What was compared with the trained network."""
        compared = {"Keras": self.keras, "LCE": self.lce, "engine": self.engine}
        return {name: other for name, other in compared.items() if other}

    @property
    def explained(self) -> bool:
        """Whether every difference is the work of rounding, and the file the one that was looked into."""
        whole = not (any(other.unexplained for other in self.others.values()) or self.conversion_difference)
        return whole and all(section.explained for section in self.sections)


def compare(
    trained: Trained, plan: Plan, tflite: bytes | None, batches: Iterable, engine: Engine | None = None
) -> Report:
    """Runs a network, its plan as a Keras model, and its files on the same images; a batch's maps are all in memory.

    A batch: normalized images [N, H, W, C]; what the file takes, these or pixels of 0..255; labels int [N], or None.
    tflite: None compares the engine alone, without TensorFlow. engine: of a file made by the same plan; None packs the
    plan anew.
    """
    run, programs, missing, conversion_difference = intermediates(trained), {}, "", 0.0
    if tflite is not None:
        from onebnet_jax.export import keras, lce  # TensorFlow takes seconds to import

        probe = keras.keras_model(plan, with_sign_inputs=True)
        lce_probe, file = lce.executable(lce.convert(probe)), lce.executable(tflite)
        programs = {"keras": probe.predict_on_batch, "lce": lambda x: lce_probe(images=x)}
    try:
        engine = engine or Engine(native.pack(plan, native.pixel_table(plan, None), {}))
        programs["engine"] = lambda x: _of_engine(engine, plan, x)
    except UserError as error:
        missing = str(error)
    rows, truth = [], []
    for images, inputs, labels in batches:
        x = inputs.astype(np.float32)
        logits, signs, _, gates = run(images)
        found = {name: program(x) for name, program in programs.items()}
        shares = _rounding(plan, gates, len(logits))
        rows.append((logits, shares, *itertools.chain(*(_per_image(plan, signs, each) for each in found.values()))))
        truth.append(labels)
        if tflite is not None:
            difference = _max_abs(found["lce"]["head"] - file(images=x)["head"])
            conversion_difference = max(conversion_difference, difference)
    expected, rounding, *others = map(np.concatenate, zip(*rows))
    truth = None if truth[0] is None else np.concatenate(truth)
    compared = dict.fromkeys(("keras", "lce", "engine"))
    for name, *of_images in zip(programs, others[::3], others[1::3], others[2::3]):
        compared[name] = _comparison(plan, expected, rounding, truth, *of_images)
    whole = len(expected), _max_abs(expected), _correct(expected, truth)
    return Report(*whole, **compared, conversion_difference=conversion_difference, engine_missing=missing)


def _of_engine(engine: Engine, plan: Plan, x: np.ndarray) -> dict[str, np.ndarray]:
    """Logits as "head", and the signs of each unit by its name, as the Keras model and LCE have them."""
    outputs = {"head": engine.logits(x)}
    for index, unit in enumerate(plan.signs):
        signs = np.stack([engine.look(image, index, values=False)[0] for image in x])
        outputs[unit.name] = np.where(native.limits(unit)[1], -signs, signs)
    return outputs


def _per_image(plan: Plan, signs: dict, outputs: dict) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits [N, num_classes], and for each unit with a sign how many flips [N, units] and the widest [N, units]."""
    flips, margins = (np.zeros((len(outputs["head"]), len(plan.signs)), kind) for kind in (int, float))
    for index, unit in enumerate(plan.signs):
        margin = flip_margins(unit, signs[unit.name], outputs[unit.name])
        flips[:, index] = np.count_nonzero(margin >= 0, axis=(1, 2, 3))
        margins[:, index] = margin.max(axis=(1, 2, 3))
    return outputs["head"], flips, np.maximum(margins, 0)


def _rounding(plan: Plan, gates: dict, images: int) -> np.ndarray:
    """What rounding can do before each unit with a sign and, last, at the logits: [N, units + 1].

    As a share of the size of the values, which is the same behind the unit where it arose. The gates' errors are
    independent of one another, so that their squares add.
    """
    shares = [gates.get(unit.name, np.zeros(images)) for unit in plan.signs]
    return np.sqrt(np.cumsum(np.square([np.full(images, ROUNDING), *shares]), axis=0)).T


def _comparison(plan: Plan, expected, rounding, truth, logits, flips, margins) -> Comparison:
    """The trained network's logits, `_rounding` and the labels against what `_per_image` gives of all images."""
    difference, same = np.abs(logits - expected), logits.argmax(-1) == expected.argmax(-1)
    first = (flips > 0) & (np.cumsum(flips > 0, axis=1) == 1)  # [N, units]: the first unit of an image with a flip
    flipped, first_margin = first.any(axis=1), (margins * first).sum(axis=1)
    close = difference.max(axis=1) <= rounding[:, -1] * _max_abs(expected)
    explained = np.where(flipped, first_margin <= (rounding[:, :-1] * first).sum(axis=1), close)
    units = []
    for unit, flip, margin, here in zip(plan.signs, flips.T, margins.T, first.T):
        signs = len(expected) * unit.conv.kernel.shape[2] * math.prod(unit.conv.input_size)
        counts = int(flip.sum()), float(margin.max()), int(flip[here].sum()), float(margin[here].max(initial=0))
        units.append(UnitFlips(unit.name, signs, *counts))
    return Comparison(
        max_difference=float(difference.max()),
        mean_difference=float(difference.mean()),
        correct=_correct(logits, truth),
        equal_predictions=int(same.sum()),
        images_with_flips=int(flipped.sum()),
        unexplained=np.flatnonzero(~explained).tolist(),
        differing=[
            (int(image), units[first[image].argmax()].name if flipped[image] else "", float(first_margin[image]))
            for image in np.flatnonzero(~same)
        ],
        units=units,
    )


def intermediates(trained: Trained) -> Callable[[np.ndarray], tuple[np.ndarray, dict, dict, dict]]:
    """A function of normalized images: logits in full float32, what each unit's signs are taken of, SECTION_output.

    And of each unit with a gate its `gate_rounding` as a share of the largest value of its section's output: [N].
    """
    network = Network(trained.structure, trained.binarization)
    binary = [unit for unit in trained.structure.units if unit.binary]

    @jax.jit
    def run(images):
        with jax.default_matmul_precision(EXACT):
            logits, kept = network.apply(trained.variables, images, mutable=["intermediates"])
        kept = jax.tree.map(lambda values: values[0], kept["intermediates"], is_leaf=lambda x: isinstance(x, tuple))
        signs = {unit.name: kept[unit.module][unit.at("sign_input")[-1]] for unit in binary}
        outputs, gates = {name: kept[name] for name in kept if name.endswith("_output")}, {}
        for unit in (unit for unit in binary if unit.gate):
            size = jnp.abs(outputs[f"{unit.section}_output"]).max(axis=(1, 2, 3))
            gates[unit.name] = gate_rounding(*kept[unit.module][unit.at("gated")[-1]]) / jnp.maximum(size, TINY)
        return logits, signs, outputs, gates

    return lambda images: jax.device_get(run(images.astype(np.float32)))


def gate_rounding(argument: jax.Array, y: jax.Array) -> jax.Array:
    """How far rounding of a gate's argument, [N, 1, 1, C], can move sigmoid(argument) * y, [N, H, W, C]: [N]."""
    slope = jax.nn.sigmoid(argument) * jax.nn.sigmoid(-argument)
    moved = jnp.sqrt(jnp.mean(jnp.square(argument), axis=-1, keepdims=True)) * slope * jnp.abs(y)
    return ROUNDING * moved.max(axis=(1, 2, 3))


def signs(trained: Trained, pixels: np.ndarray) -> dict[str, np.ndarray]:
    """The images themselves, uint8 [N, H, W, C], as "images", "logits", and the signs of each unit by its name.

    Signs are uint8 [N, h, w, ceil(C / 8)]: a bit is 1 for +1 and 0 for -1, the first channel's the lowest of its byte.
    """
    run, rows = intermediates(trained), []
    for image in pixels:
        logits, values, *_ = run(card.normalize(image[None], trained.info.mean, trained.info.std))
        packed = {name: np.packbits(x > 0, axis=-1, bitorder="little") for name, x in values.items()}
        rows.append({"images": image[None], "logits": logits} | packed)
    return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}


def flip_margins(unit: Unit, trained: np.ndarray, deployed: np.ndarray) -> np.ndarray:
    """|value| / RMS of the values that two networks take a unit's signs of, where these differ; -1 where they do not.

    The trained network's sign(0) is -1, the deployed one's +1.
    """
    flips = ((deployed >= 0) == (unit.flips > 0)) != (trained > 0)
    return np.where(flips, np.abs(trained) / max(np.sqrt(np.mean(np.square(trained))), TINY), -1.0)


def _correct(logits: np.ndarray, labels: np.ndarray | None) -> int | None:
    return None if labels is None else int(np.sum(logits.argmax(-1) == labels))


def _max_abs(x) -> float:
    return float(np.max(np.abs(x), initial=0))
