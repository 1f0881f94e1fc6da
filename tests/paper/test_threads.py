"""The estimate for four threads: it finds rates that are there, and the paper's own table bears it."""

import numpy as np
import pytest

from onebnet_jax.networks import cost
from onebnet_jax.paper import latency, numbers, report_tables, threads


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
    assert {"FP32 ResNet18", "Bi-RealNet", "TypeI", "TypeII", "TypeIII"} <= set(threads.differences())
    assert all(abs(difference) < 0.06 for difference in threads.differences().values())


def test_a_fit_that_does_not_hold_estimates_nothing(monkeypatch):
    """As where one network takes half as long again."""
    table = report_tables.TABLES["Table 8"](report_tables.Found())
    assert table.counts()["estimated"] == 2 * len(threads.differences())
    threads.estimates.cache_clear()
    monkeypatch.setitem(numbers.TABLE8, "TypeI", 1.5 * numbers.TABLE8["TypeI"])
    table = report_tables.TABLES["Table 8"](report_tables.Found())
    assert "estimated" not in table.counts() and "No estimates" in table.verdict
