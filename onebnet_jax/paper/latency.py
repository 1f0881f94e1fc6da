"""An estimate of the latency on a Raspberry Pi 4, with one thread, for a designer who has no Pi at hand.

    latency = a * binary MACs + b * float MACs + c * element passes

The rates are fitted by least squares to the twelve latencies of the paper's Table 1, of naive graphs of ResNet18
structures at 224x224; a free constant comes out as zero within its error. They know nothing of 32-bit packing of odd
channel counts, starting an op, and caches: of other depths, widths and sizes it indicates only the order.

In OneBNets element passes grow with all else that a unit's output costs, and the fit's rate c stands for that too, so
that of networks which are no OneBNets it says nothing. They are estimated from Bi-RealNet on, measured: the differences
to it at the rates a and b, and at c = 0.48 ms for 1e6 element passes, which is what the passes that ReActNet18 has and
Bi-RealNet lacks take (`pass_rate`). The 13 ms of Bi-RealNet for which these rates do not account are the same for all;
smaller networks have their share of it. `checks` compares that with what was measured. FP32 ResNet18 and Real-to-Bin
come out too low. In the one nearly all the work is float convolutions, of which OneBNets, and so the rate b, have few.
The other takes 12.5 ms more than estimated, 0.8 ms for each of its 16 gates, which no other network has. A gate is five
operators: the mean of a map, two small matrix products, a sigmoid, and a multiplication that no convolution takes in;
the estimate knows them as two passes and the products' MACs. At the fit's own c, 1.95 ms for 1e6, it would be 97.5 ms.
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


def imagenet_cost(structure: Structure) -> Cost:
    """What a network costs for an image of ImageNet's size."""
    return cost.total(cost.layers(structure, IMAGENET_INPUT))


@functools.cache
def fit() -> Fit:
    measured = np.array([row.latency_ms for row in numbers.TABLE1])
    design = np.stack([features(imagenet_cost(table1_structure(row))) for row in numbers.TABLE1])
    rates, *_ = np.linalg.lstsq(design, measured, rcond=None)
    residuals, inverse = measured - design @ rates, np.linalg.inv(design.T @ design)
    standard_errors = np.sqrt(np.diag(inverse) * (residuals @ residuals) / (len(measured) - len(rates)))
    # For least squares, leaving row i out divides its residual by 1 - leverage_i.
    leverage = np.einsum("ij,jk,ik->i", design, inverse, design)
    return Fit(rates, standard_errors, residuals, residuals / (1 - leverage))


@functools.cache
def pass_rate() -> float:
    """Milliseconds for 1e6 element passes: by how much ReActNet18 is slower than Bi-RealNet (Table 3)."""
    more = imagenet_cost(imagenet("onebnet")).elements - imagenet_cost(imagenet("birealnet")).elements
    return 1e6 * (numbers.TABLE3["ReActNet18"].latency_ms - numbers.TABLE3["Bi-RealNet"].latency_ms) / more


def estimate(counts: Cost, family: str = "onebnet") -> float:
    """Estimated milliseconds on a Raspberry Pi 4 with one thread; by the fit where the family is OneBNet's."""
    if family == "onebnet":
        return float(features(counts) @ fit().rates)
    both = counts, imagenet_cost(imagenet("birealnet"))
    work, of_birealnet = (features(each) @ [*fit().rates[:2], pass_rate()] for each in both)
    left = numbers.TABLE3["Bi-RealNet"].latency_ms - of_birealnet
    return float(work + left * min(1, work / of_birealnet))


def folding_saves(naive: Cost, folded: Cost, family: str = "onebnet") -> tuple[float, float]:
    """Milliseconds that folding saves, which removes two of a unit's four element-wise additions: (from, to).

    From: at `pass_rate`. To, of OneBNets: at the fit's rate per element pass, which also stands for all else that grows
    with a unit's output (bit packing, im2col, writing).
    """
    removed = (naive.elements - folded.elements) / 1e6
    return pass_rate() * removed, (fit().rates[2] if family == "onebnet" else pass_rate()) * removed


def checks() -> dict[str, tuple[float, float]]:
    """Measured networks that are no OneBNets, but Bi-RealNet: name -> (estimated, measured) in ms."""
    measured = {name: row.latency_ms for name, row in numbers.TABLE3.items()} | {"ReActNet-A": numbers.REACTNET_A_MS}
    built = numbers.FAMILIES | {"ReActNet-A": "reactnet_a"}
    names = [name for name in built if name not in ("ReActNet18", "Bi-RealNet")]
    costs = {name: imagenet_cost(imagenet(built[name])) for name in names}
    return {name: (estimate(costs[name], built[name]), measured[name]) for name in names}
