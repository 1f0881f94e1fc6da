"""An estimate of the latency on a Raspberry Pi 4, with one thread, for a designer who has no Pi at hand.

    latency = a * binary MACs + b * float MACs + c * element passes

The rates are fitted by least squares to the twelve latencies of the paper's Table 1, of naive graphs of ResNet18
structures at 224x224; a free constant comes out as zero within its error. They know nothing of 32-bit packing of odd
channel counts, starting an op, and caches: of other depths, widths and sizes it indicates only the order (`checks`).
"""

import dataclasses
import functools

import numpy as np

from onebnet_jax.networks import cost, families
from onebnet_jax.networks.cost import Cost
from onebnet_jax.networks.structure import Structure
from onebnet_jax.paper import numbers

IMAGENET_INPUT = (224, 224, 3)


@dataclasses.dataclass(frozen=True)
class Fit:
    rates: np.ndarray  # [3], ms per 1e9 binary MACs, per 1e9 float MACs, per 1e6 element passes
    standard_errors: np.ndarray  # [3], of the rates
    residuals: np.ndarray  # [12], measured minus estimated in ms, in the order of `numbers.TABLE1`
    left_out: np.ndarray  # [12], the same with each row estimated from the other eleven


def features(counts: Cost) -> np.ndarray:
    """[3]: 1e9 binary MACs, 1e9 float MACs, 1e6 element passes."""
    return np.array([counts.binary_macs / 1e9, counts.float_macs / 1e9, counts.elements / 1e6])


def table1_structure(row: numbers.Table1Row) -> Structure:
    return imagenet("onebnet", depth=18, conv_1d=row.conv_1d, ds_1d=row.ds_1d, pad_value=0)


def imagenet(family: str, **fields) -> Structure:
    """A network for ImageNet, of depth 18 where nothing else is said."""
    return families.build(family, stem="imagenet", num_classes=1000, **fields)


@functools.cache
def fit() -> Fit:
    measured = np.array([row.latency_ms for row in numbers.TABLE1])
    counts = (cost.total(cost.layers(table1_structure(row), IMAGENET_INPUT)) for row in numbers.TABLE1)
    design = np.stack([features(count) for count in counts])
    rates, *_ = np.linalg.lstsq(design, measured, rcond=None)
    residuals, inverse = measured - design @ rates, np.linalg.inv(design.T @ design)
    standard_errors = np.sqrt(np.diag(inverse) * (residuals @ residuals) / (len(measured) - len(rates)))
    # For least squares, leaving row i out divides its residual by 1 - leverage_i.
    leverage = np.einsum("ij,jk,ik->i", design, inverse, design)
    return Fit(rates, standard_errors, residuals, residuals / (1 - leverage))


def estimate(counts: Cost) -> float:
    """Estimated milliseconds on a Raspberry Pi 4 with one thread."""
    return float(features(counts) @ fit().rates)


def folding_saves(naive: Cost, folded: Cost) -> tuple[float, float]:
    """Milliseconds that folding saves, which removes two of a unit's four element-wise additions: (from, to).

    To: the fit's rate per element pass, which also stands for all else that grows with a unit's output (bit packing,
    im2col, writing). From: ReActNet18 takes 3.0 ms longer than Bi-Real Net, which lacks RSign and RPReLU (Table 3).
    """
    reactnet = cost.layers(table1_structure(numbers.TABLE1[0]), IMAGENET_INPUT)
    only_reactnet = cost.total(layer for layer in reactnet if layer.kind in ("rsign", "rprelu"))
    slower = numbers.TABLE3["ReActNet18"].latency_ms - numbers.TABLE3["Bi-RealNet"].latency_ms
    removed = naive.elements - folded.elements
    return slower * removed / only_reactnet.elements, fit().rates[2] * removed / 1e6


def checks() -> dict[str, tuple[float, float]]:
    """Networks of Table 3 that the fit has not seen: name -> (estimated, measured) in ms."""
    names = [name for name in numbers.FAMILIES if name != "ReActNet18"]
    counts = (cost.total(cost.layers(imagenet(numbers.FAMILIES[name]), IMAGENET_INPUT)) for name in names)
    return {name: (estimate(count), numbers.TABLE3[name].latency_ms) for name, count in zip(names, counts)}
