"""The Flax model of any list of units."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from onebnet_jax.errors import Parts, UserError
from onebnet_jax.networks.layers import BatchNorm, BinaryConv, Conv, PReLU, RPReLU, RSign, average_pool
from onebnet_jax.networks.structure import Binarization, Structure, Unit, shortcut
from onebnet_jax.ops import unit as ops

# A jax.default_matmul_precision. By default GPUs and TPUs multiply float32 values in fewer bits. That trains as well,
# but signs flip by it, and a score, or a comparison, is to be that of the network which is deployed.
EXACT = "float32"


class Network(nn.Module):
    """Stem, body and head: normalized images [N, H, W, C] -> logits [N, num_classes], float32."""

    structure: Structure
    binarization: Binarization = Binarization()  # of the units that are binary
    axis_name: str | None = None  # axis of the pmap over which batch statistics are taken
    dtype: Any = jnp.float32  # of activations and convolutions; all else is float32

    @nn.compact
    def __call__(
        self, images: jax.Array, train: bool = False, mask: jax.Array | None = None, progress: jax.Array | float = 1.0
    ) -> jax.Array:
        """Logits; with the running statistics, or those of the batch, which `train` uses and updates.

        Apply with mutable=["batch_stats"] to train; mask, [N] of 0 and 1, then says which images count (None: all).
        progress, from 0 to 1, is how far training has come, for estimators with a schedule. With
        mutable=["intermediates"] the input of each sign is kept as `sign_input`, each module's output as MODULE_output,
        and of each gate its argument with what it multiplies as `gated`.
        """
        if train and mask is None:
            mask = jnp.ones(len(images))
        context = mask if train else None, progress, images
        stem, *body = self.structure.units
        x = _apply(self, (stem,), images.astype(self.dtype), *context)
        self.sow("intermediates", "stem_output", x)
        for module, units in itertools.groupby(body, key=lambda unit: unit.module):
            x = Units(tuple(units), self.binarization, self.axis_name, self.dtype, name=module)(x, *context)
            self.sow("intermediates", f"{module}_output", x)
        x = jnp.mean(x, axis=(1, 2), dtype=jnp.promote_types(x.dtype, jnp.float32))
        return nn.Dense(self.structure.num_classes, name="head")(x)


class Units(nn.Module):
    """Units that share a shortcut: [N, H, W, C_in] -> [N, H', W', C_out]."""

    units: tuple[Unit, ...]
    binarization: Binarization
    axis_name: str | None
    dtype: Any

    @nn.compact
    def __call__(self, x, mask, progress, images):
        return _apply(self, self.units, x, mask, progress, images)


def _apply(module: Network | Units, units, x, mask, progress, images) -> jax.Array:
    """The units one after the other, as `Unit` says; their layers belong to the Flax module given."""
    inputs = []
    for index, unit in enumerate(units):
        inputs.append(x)
        if unit.norm not in FORMULAS:
            raise UserError(f"{unit.name} has the norm {unit.norm!r}; there are {', '.join(FORMULAS)}.")
        s = _shortcut(module, units[index + 1 - unit.span : index + 1], inputs[-unit.span], mask)
        x = FORMULAS[unit.norm](module, unit, x, s, mask, progress)
        if unit.max_pool:
            x = nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)) if unit.symmetric else "SAME")
    return ops.settle(x, images)


# A formula computes a unit without its max pool: x [N, H, W, C_in] -> [N, H', W', C_out], H' and W' as the unit's
# strides make them. module is the Flax module that the layers made within belong to, each by its name there; it has
# binarization, axis_name and dtype. shortcut is [N, H', W', C_out], or None where none ends; mask and progress are
# `Network`'s, mask None for evaluation.


def _after(module, unit: Unit, x, shortcut, mask, progress) -> jax.Array:
    y = convolved(module, unit, x, progress)
    return BatchNorm(module.axis_name, name=unit.at("bn")[-1])(y, mask, shortcut, activation(unit))


def _before(module, unit: Unit, x, shortcut, mask, progress) -> jax.Array:
    x = BatchNorm(module.axis_name, name=unit.at("bn")[-1])(x, mask)
    y = ops.value(convolved(module, unit, x, progress))
    if unit.gate:
        argument = _gate_argument(x, unit)
        module.sow("intermediates", unit.at("gated")[-1], (argument, y))
        y = y * nn.sigmoid(argument).astype(x.dtype)
    return ops.add(ops.add(y, None, activation(unit)), shortcut, "none")


FORMULAS = Parts("formula", after=_after, before=_before)  # by `Unit.norm`; `Unit` has them in mathematical terms


def convolved(module, unit: Unit, x: jax.Array, progress) -> jax.Array | ops.RSignConv:
    """conv(sign(x - alpha)), or of a unit that is not binary conv(x)."""
    if not unit.binary:
        shape = unit.out_channels, unit.kernel, unit.strides, unit.symmetric
        return Conv(*shape, module.dtype, name=unit.at("conv")[-1])(x)
    alpha = RSign(name=unit.at("rsign")[-1])(unit.in_channels) if unit.shift else None
    module.sow("intermediates", unit.at("sign_input")[-1], ops.shifted(x, alpha))
    return BinaryConv(unit, module.binarization, module.dtype, name=unit.at("conv")[-1])(x, alpha, progress)


def activation(unit: Unit):
    """A unit's activation as `ops.unit` takes it."""
    name = unit.activation
    if name in ("prelu", "rprelu"):
        return {"prelu": PReLU, "rprelu": RPReLU}[name](name=unit.at(name)[-1])(unit.out_channels)
    if name not in ops.ACTIVATIONS:
        known = ", ".join([*ops.ACTIVATIONS, "prelu", "rprelu"])
        raise UserError(f"{unit.name} has the activation {name!r}; there are {known}.")
    return name


def _shortcut(module, spanned: tuple[Unit, ...], start: jax.Array, mask) -> jax.Array | None:
    """The shortcut over some units, from a map [N, H, W, C] on; None over no unit."""
    added = shortcut(spanned, start.shape[1:])
    if added is None:
        return None
    s = start if added.pool == (1, 1) else average_pool(start, added.pool)
    if added.projects:
        conv = Conv(spanned[-1].out_channels, (1, 1), added.strides, dtype=module.dtype, name="shortcut_conv")
        s = BatchNorm(module.axis_name, name="shortcut_bn")(conv(s), mask)
    return jnp.tile(s, added.repeats) if added.repeats > 1 else s


def _gate_argument(x: jax.Array, unit: Unit) -> jax.Array:
    """What `Unit`'s gate takes the sigmoid of: [N, H, W, C_in] -> [N, 1, 1, C_out] (Real-to-Bin, figure 1)."""
    mean = jnp.mean(x, axis=(1, 2), keepdims=True, dtype=jnp.promote_types(x.dtype, jnp.float32))
    hidden = nn.relu(nn.Dense(unit.gate, use_bias=False, name=unit.at("gate_in")[-1])(mean))
    return nn.Dense(unit.out_channels, use_bias=False, name=unit.at("gate_out")[-1])(hidden)


def variable_shapes(network: nn.Module, image_shape: tuple[int, int, int]) -> dict:
    """{"params", "batch_stats"} of a network for images [H, W, C], as shapes and types; computes nothing."""
    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    return dict(jax.eval_shape(network.init, jax.random.key(0), images))
