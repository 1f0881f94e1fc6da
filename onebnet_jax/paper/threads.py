"""An estimate of the latency on a Raspberry Pi 4 with four threads, from the paper's Table 8, and how far it holds."""

import functools

import numpy as np

from onebnet_jax.networks import cost
from onebnet_jax.networks.structure import Structure
from onebnet_jax.paper import latency, numbers


def structures() -> dict[str, Structure]:
    """The networks of Tables 3 and 8 that can be built here, by the paper's names; all based on ResNet18."""
    rows = {row.label: latency.table1_structure(row) for row in numbers.TABLE1 if row.name}
    return {name: latency.imagenet(family) for name, family in numbers.FAMILIES.items()} | rows


@functools.cache
def estimates() -> dict[str, tuple[float, float]]:
    """Network of Table 8 -> ms by the fit to all of those, and by the fit to all others.

    The same three terms as `latency.estimate`, fitted by least squares of the relative differences: one network takes
    six times as long as the others. The second value shows how well the fit foretells a network that it has not seen.
    """
    built = structures()
    names = [name for name in numbers.TABLE3 if name in built and name in numbers.TABLE8]
    counts = [cost.total(cost.layers(built[name], latency.IMAGENET_INPUT)) for name in names]
    measured = np.array([numbers.TABLE8[name] for name in names])
    shares = np.stack([latency.features(count) for count in counts]) / measured[:, None]
    results = {}
    for index, name in enumerate(names):
        others = np.arange(len(names)) != index
        both = [np.linalg.lstsq(part, np.ones(len(part)), rcond=None)[0] for part in (shares, shares[others])]
        results[name] = tuple(float(shares[index] @ rates * measured[index]) for rates in both)
    return results
