"""What happens inside the units of a trained network on real images: for Figures 3 and 7."""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from onebnet_jax.data import augment
from onebnet_jax.errors import UserError
from onebnet_jax.networks.layers import BatchNorm
from onebnet_jax.networks.network import Network
from onebnet_jax.networks.structure import check_formulas
from onebnet_jax.ops import binarize
from onebnet_jax.ops import unit as ops
from onebnet_jax.runs.trained import Trained


@dataclasses.dataclass(frozen=True)
class Seen:
    """The maps in one unit, float32; None where the unit has no such step."""

    name: str
    input: np.ndarray  # [N, H, W, C_in]
    shifted: np.ndarray  # the input less the learnable bias, of which the signs are taken
    convolved: np.ndarray  # [N, H', W', C_out], the result of the convolution alone
    before: np.ndarray | None  # of its RPReLU, as after
    after: np.ndarray | None


def chosen(trained: Trained, names: Sequence[str]) -> list[str]:
    """The names of binary units that begin with those given, in the order of the network.

    Raises UserError for a name that fits none.
    """
    known = [unit.name for unit in trained.structure.units if unit.binary]
    for name in names:
        if not any(each.startswith(name) for each in known):
            raise UserError(f"There is no binarized unit {name!r}; the network has {', '.join(known) or 'none'}.")
    return [each for each in known if each.startswith(tuple(names))]


def row_and_column(trained: Trained) -> list[str]:
    """The first two units that are 3x1 and 1x3 and belong together; the first binarized ones where none are.

    Raises UserError for a network in which nothing is binarized.
    """
    units = [unit for unit in trained.structure.units if unit.binary]
    if not units:
        raise UserError(f"{trained.title} is {trained.structure.title}, in which nothing is binarized: choose another.")
    for first, second in zip(units, units[1:]):
        if (first.kernel, second.kernel) == ((3, 1), (1, 3)):
            return [first.name, second.name]
    return [unit.name for unit in units[:2]]


def test_images(trained: Trained, numbers: Sequence[int]) -> tuple[np.ndarray, list[str]]:
    """Test images by their numbers, uint8 [N, H, W, C], and the names of their classes.

    Raises UserError where they are missing, or for a number that there is not.
    """
    stored, names = trained.data.open(), trained.info.class_names
    if stored.info.streamed:
        raise UserError(f"Images of {stored.info.title} cannot be chosen by number; it is read as a stream.")
    if wrong := [number for number in numbers if not 0 <= number < stored.test_size]:
        raise UserError(f"There is no test image {wrong[0]}; they are numbered from 0 to {stored.test_size - 1}.")
    labels = stored.test_labels[list(numbers)]
    return stored.test_images[list(numbers)], [names[label] if names else str(label) for label in labels]


def look(trained: Trained, images: np.ndarray, names: Sequence[str]) -> list[Seen]:
    """The maps of units by their names, for images uint8 [N, H, W, C]. Raises as `check_formulas` does."""
    check_formulas(trained.structure)
    network, info = Network(trained.structure, trained.binarization), trained.info
    units = [unit for unit in trained.structure.units if unit.name in names]

    @jax.jit
    def run(variables, pixels):
        activated = {}

        def keep(call, args, kwargs, context):
            """Records what goes into an RPReLU, which BatchNorm computes along with itself, and what comes out."""
            if not isinstance(context.module, BatchNorm) or len(args) < 4 or isinstance(args[3], str):
                return call(*args, **kwargs)
            before = call(*args[:3])
            after = ops.add(before, None, args[3])
            activated[context.module.path] = before, after
            return after

        x = augment.normalize(pixels, info.mean, info.std)
        with nn.intercept_methods(keep):
            kept = network.apply(variables, x, mutable=["intermediates"])[1]["intermediates"]
        result = []
        for unit in units:
            params = variables["params"][unit.module]
            shifted = kept[unit.module][unit.at("sign_input")[-1]][0]
            alpha = params[unit.at("rsign")[-1]]["alpha"] if unit.shift else jnp.zeros(unit.in_channels)
            conv = params[unit.at("conv")[-1]]["kernel"]
            if trained.binarization.weights:
                conv = binarize.binarize_kernel(conv, scale=trained.binarization.weight_scale)
            convolved = binarize.binary_conv(shifted, conv, 1.0, unit.strides, unit.pad_value)
            result.append((shifted + alpha, shifted, convolved, *activated.get(unit.at("bn"), (None, None))))
        return result

    found = jax.device_get(run(trained.variables, images))
    return [Seen(unit.name, *maps) for unit, maps in zip(units, found)]
