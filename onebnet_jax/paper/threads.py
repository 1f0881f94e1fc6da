"""An estimate of the latency on a Raspberry Pi 4 with four threads, from the paper's Table 8, and how far it holds."""

import functools

import numpy as np

from onebnet_jax.networks.structure import Structure
from onebnet_jax.paper import latency, numbers

HOLDS = 10  # percent that a network may come out off by the fit to the others, else there are no estimates


def structures() -> dict[str, Structure]:
    """The networks of Tables 3 and 8, by the paper's names; all based on ResNet18 but ReActNetA."""
    rows = {row.label: latency.table1_structure(row) for row in numbers.TABLE1 if row.name}
    families = numbers.FAMILIES | {"ReActNetA": "reactnet_a"}
    return {name: latency.imagenet(family) for name, family in families.items()} | rows


@functools.cache
def estimates() -> dict[str, tuple[float, float]]:
    """Network of Table 8 -> ms by the fit to all of those in Table 3 too, and by the fit to those but itself.

    The same three terms as `latency.estimate`, fitted by least squares of the relative differences: one network takes
    six times as long as the others. The second value shows how well the fit foretells a network that it has not seen;
    for ReActNetA, which has another shape and is not in Table 3, both are the same.
    """
    built = {name: structure for name, structure in structures().items() if name in numbers.TABLE8}
    counts = [latency.imagenet_cost(structure) for structure in built.values()]
    measured, alike = (
        np.array([numbers.TABLE8[name] for name in built]),
        np.array([name in numbers.TABLE3 for name in built]),
    )
    shares = np.stack([latency.features(count) for count in counts]) / measured[:, None]
    results = {}
    for index, name in enumerate(built):
        others = alike & (np.arange(len(built)) != index)
        both = [np.linalg.lstsq(part, np.ones(len(part)), rcond=None)[0] for part in (shares[alike], shares[others])]
        results[name] = tuple(float(shares[index] @ rates * measured[index]) for rates in both)
    return results


def differences() -> dict[str, float]:
    """Network of Tables 3 and 8 -> how far it is off by the fit to the others, as a share of its own latency."""
    both = {name: left_out for name, (_, left_out) in estimates().items() if name in numbers.TABLE3}
    return {name: left_out / numbers.TABLE8[name] - 1 for name, left_out in both.items()}
