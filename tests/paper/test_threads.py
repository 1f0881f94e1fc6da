"""The estimate for four threads: it finds rates that are there, and the paper's own table bears it."""

import numpy as np
import pytest

from onebnet_jax.networks import cost
from onebnet_jax.paper import latency, numbers, threads


@pytest.fixture(autouse=True)
def anew():
    threads.estimates.cache_clear()
    yield
    threads.estimates.cache_clear()


def test_rates_that_are_there_are_found(monkeypatch):
    """If three rates made the table, each network is foretold exactly by the others."""
    rates = np.array([5.0, 140.0, 1.5])
    counts = {
        name: cost.total(cost.layers(each, latency.IMAGENET_INPUT)) for name, each in threads.structures().items()
    }
    made = {name: float(latency.features(count) @ rates) for name, count in counts.items()}
    monkeypatch.setattr(numbers, "TABLE8", made)
    assert len(threads.estimates()) == len(made) >= 7
    for name, values in threads.estimates().items():
        assert values == pytest.approx((made[name], made[name]), rel=1e-6)


def test_the_papers_table_bears_it():
    found = threads.estimates()
    assert {"FP32 ResNet18", "Bi-RealNet", "TypeI", "TypeII", "TypeIII"} <= set(found)
    differences = {name: abs(left_out / numbers.TABLE8[name] - 1) for name, (_, left_out) in found.items()}
    assert all(difference < 0.06 for name, difference in differences.items() if name in numbers.TABLE3)
