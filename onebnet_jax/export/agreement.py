"""Do the trained network, its Keras model and the converted file give the same answers, and if not, why not?

Float rounding differs between the three, and a rounding error that carries a value over the threshold of a sign turns
a -1 into a +1: a flip. A flip moves all that follows, and more flips follow from it. So the logits of single images
can differ visibly with nothing wrong. The report separates the two: the first flips of an image must lie within
rounding of their threshold; whatever comes after them is their consequence.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator

import jax
import numpy as np

from onebnet_jax.export import keras, lce
from onebnet_jax.export.plan import Plan, Unit
from onebnet_jax.networks.network import Network
from onebnet_jax.runs.trained import Trained

# What rounding can do, as a share of the RMS of a unit's its value or of the largest logit: 84 float32 epsilons.
ROUNDING = 1e-5
TINY = np.finfo(np.float32).tiny
BATCH_SIZE = 16  # all pre-sign maps of a batch are in memory


@dataclasses.dataclass
class UnitFlips:
    """Signs of one unit that turned out otherwise than in the trained network, over all images.

    Attributes:
      name: of the unit.
      signs: how many were compared.
      flips: how many differ.
      margin: the largest |its value| of a flip, divided by the RMS of its value.
      first_flips, first_margin: the same of flips in images in which no unit before this one has a flip.
    """

    name: str
    signs: int = 0
    flips: int = 0
    margin: float = 0.0
    first_flips: int = 0
    first_margin: float = 0.0


@dataclasses.dataclass
class Comparison:
    """One implementation against the trained network in JAX.

    Attributes:
      max_difference, mean_difference: of logits, absolute.
      correct: images whose highest logit is the label's; None without labels.
      equal_predictions: images on which the two predict the same class.
      images_with_flips: images in which any sign differs.
      unexplained: indices of images whose first flip is wider than rounding, or whose logits are further apart than
        rounding without any flip. Empty if all is well.
      differing: (index, unit, margin) of images that are predicted differently: where their first flip is and how
        wide; ("", 0) if they have none.
      units: in order.
    """

    max_difference: float = 0.0
    mean_difference: float = 0.0
    correct: int | None = None
    equal_predictions: int = 0
    images_with_flips: int = 0
    unexplained: list[int] = dataclasses.field(default_factory=list)
    differing: list[tuple[int, str, float]] = dataclasses.field(default_factory=list)
    units: list[UnitFlips] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Report:
    """Attributes:
    images: how many were compared.
    max_logit: the largest absolute logit of the trained network.
    correct: images that the trained network gets right; None without labels.
    keras, lce: the two comparisons.
    conversion_difference: between the file's logits and those of the conversion whose signs were read, which has all of
      them as outputs; 0 says that the file does what the report says.
    """

    images: int
    max_logit: float
    correct: int | None
    keras: Comparison
    lce: Comparison
    conversion_difference: float

    @property
    def explained(self) -> bool:
        """Whether every difference is the work of rounding, and the file the one that was looked into."""
        return not (self.keras.unexplained or self.lce.unexplained or self.conversion_difference)


# Normalized images [N, H, W, C]; what the file takes: these, or pixels of 0..255; labels int [N], or None.
Batch = tuple[np.ndarray, np.ndarray, np.ndarray | None]


def batches(images: np.ndarray, inputs=None, labels=None, size: int = BATCH_SIZE) -> Iterator[Batch]:
    """Arrays of all images in batches; `inputs` are what the file takes, if not `images`."""
    inputs = images if inputs is None else inputs
    for start in range(0, len(images), size):
        batch = slice(start, start + size)
        yield images[batch], inputs[batch], None if labels is None else labels[batch]


def compare(trained: Trained, plan: Plan, tflite: bytes, batches: Iterable[Batch]) -> Report:
    """Runs all three on the same images.

    Args:
      trained: the network.
      plan, tflite: its deployment plan, and the file made from it.
      batches: the images, one batch of them or more.
    """
    values = sign_inputs(trained)
    probe = keras.with_sign_inputs(keras.keras_model(plan), plan)
    file, lce_probe = lce.executable(tflite), lce.executable(lce.convert(probe))
    in_keras, in_lce = (_Accumulator(plan) for _ in range(2))
    max_logit, correct, conversion_difference = 0.0, None, 0.0
    for images, inputs, labels in batches:
        x = inputs.astype(np.float32)
        logits, distances = values(images)
        max_logit = max(max_logit, _max_abs(logits))
        if labels is not None:
            correct = (correct or 0) + int(np.sum(logits.argmax(-1) == labels))
        in_keras.add(logits, distances, keras.predict(probe, x), labels)
        outputs = lce_probe(images=x)
        in_lce.add(logits, distances, outputs, labels)
        conversion_difference = max(conversion_difference, _max_abs(outputs["head"] - file(images=x)["head"]))
    return Report(
        images=in_keras.images,
        max_logit=max_logit,
        correct=correct,
        keras=in_keras.result(),
        lce=in_lce.result(),
        conversion_difference=conversion_difference,
    )


class _Accumulator:
    """Adds up a `Comparison` over batches."""

    def __init__(self, plan: Plan):
        self.units = list(zip(plan.signs, keras.sign_inputs(plan)))
        self.comparison = Comparison(units=[UnitFlips(unit.name) for unit in plan.signs])
        self.images, self.sum_of_means = 0, 0.0

    def add(self, trained_logits, distances, outputs, labels):
        """outputs: the other implementation's logits and inputs of signs by the names of their layers."""
        result, logits = self.comparison, outputs["head"]
        flipped = np.zeros(len(logits), bool)
        first_unit, first_margin = np.full(len(logits), "", object), np.zeros(len(logits))
        for flips, (unit, layer) in zip(result.units, self.units, strict=True):
            distance = distances[unit.name]
            differs = positive(unit, outputs[layer]) != (distance > 0)
            margins = flip_margins(distance, differs)
            widest = margins.max(axis=(1, 2, 3))
            number = differs.sum(axis=(1, 2, 3))
            first = ~flipped & (number > 0)
            first_unit[first], first_margin[first] = unit.name, widest[first]
            flips.signs += differs.size
            flips.flips += int(number.sum())
            flips.margin = max(flips.margin, float(widest.max()))
            flips.first_flips += int(number[first].sum())
            flips.first_margin = max(flips.first_margin, float(widest[first].max(initial=0)))
            flipped |= number > 0
        difference = np.abs(logits - trained_logits)
        same = logits.argmax(-1) == trained_logits.argmax(-1)
        close = difference.max(-1) <= ROUNDING * _max_abs(trained_logits)
        explained = np.where(flipped, first_margin <= ROUNDING, close)
        result.max_difference = max(result.max_difference, float(difference.max()))
        self.sum_of_means += float(difference.mean(-1).sum())
        result.equal_predictions += int(same.sum())
        result.images_with_flips += int(flipped.sum())
        result.unexplained += (self.images + np.flatnonzero(~explained)).tolist()
        for index in np.flatnonzero(~same):
            result.differing.append((int(self.images + index), first_unit[index], float(first_margin[index])))
        if labels is not None:
            result.correct = (result.correct or 0) + int(np.sum(logits.argmax(-1) == labels))
        self.images += len(logits)

    def result(self) -> Comparison:
        self.comparison.mean_difference = self.sum_of_means / self.images
        return self.comparison


def intermediates(trained: Trained) -> Callable[[np.ndarray], tuple[np.ndarray, dict]]:
    """A function of normalized images: the network's logits in full float32, and what `Network` keeps on the way."""
    network = Network(trained.structure, trained.binarization)

    @jax.jit
    def run(images):
        with jax.default_matmul_precision("float32"):  # GPUs may multiply float32 values in fewer bits by default
            logits, kept = network.apply(trained.variables, images, mutable=["intermediates"])
        return logits, jax.tree.map(lambda values: values[0], kept["intermediates"], is_leaf=_is_tuple)

    return lambda images: jax.device_get(run(images.astype(np.float32)))


def sign_inputs(trained: Trained) -> Callable[[np.ndarray], tuple[np.ndarray, dict[str, np.ndarray]]]:
    """A function of normalized images: logits, and for each binary unit what its sign is taken of, by its name."""
    run, units = intermediates(trained), [unit for unit in trained.structure.units if unit.binary]

    def of(images):
        logits, kept = run(images)
        return logits, {unit.name: kept[unit.module][unit.at("sign_input")[-1]] for unit in units}

    return of


def flip_margins(distance: np.ndarray, differs: np.ndarray) -> np.ndarray:
    """|value| / RMS(values) of what the signs of a unit are taken of, where they differ; 0 elsewhere."""
    rms = np.sqrt(np.mean(np.square(distance)))
    return np.where(differs, np.abs(distance) / max(rms, TINY), 0)


def positive(unit: Unit, sign_input: np.ndarray) -> np.ndarray:
    """Where the trained network's sign is +1, from what the deployed one takes the sign of (with sign(0) = +1)."""
    return (sign_input >= 0) == (unit.flips > 0)


def _is_tuple(value) -> bool:
    return isinstance(value, tuple)


def _max_abs(x) -> float:
    return float(np.max(np.abs(x), initial=0))
