"""The tables of costs: they add up, and say what the cost model and the fit say."""

import pytest

from onebnet_jax.errors import UserError
from onebnet_jax.networks import families
from onebnet_jax.paper import cost_report, latency, numbers


def entry(label="TypeII", **changes):
    row = numbers.table1_row(label)
    fields = dict(name=label, image_shape=latency.IMAGENET_INPUT, measured_ms=row.latency_ms) | changes
    return cost_report.Entry(structure=latency.table1_structure(row), **fields)


def columns(table):
    header, *rows = table
    return {name: [row[index] for row in rows] for index, name in enumerate(header)}


def test_summary():
    assert columns(cost_report.summary([entry()])) == {
        "network": ["TypeII"],
        "input": ["224x224x3"],
        "parameters": ["9,102,952"],
        "float MACs (M)": ["176.3"],
        "binary MACs (M)": ["1,483.6"],
        "OPs (M)": ["199.5"],
        "storage (MiB)": ["5.027"],
        "Pi 4 naive (ms)": ["92.3"],
        "Pi 4 folded (ms)": ["84.9 to 90.5"],
        "paper (ms)": ["92.3"],
    }
    assert "paper (ms)" not in cost_report.summary([entry(measured_ms=None)])[0]


def test_layers_add_up():
    table = columns(cost_report.layer_table(entry("TypeIII")))
    counts = entry("TypeIII").total()
    for name, wanted in (
        ("parameters", counts.parameters),
        ("binary MACs", counts.binary_macs),
        ("element passes", counts.elements),
    ):
        assert sum(int(cell.replace(",", "")) for cell in table[name] if cell != "-") == wanted
    assert sum(float(cell.replace(",", "")) for cell in table["storage (bytes)"] if cell != "-") == pytest.approx(
        counts.storage_bits / 8, abs=5
    )


def test_units_are_compared_as_in_figure_5():
    """With 64 channels two 1-D units take about the OPs of a 2-D one, with 512 much less."""
    table = columns(cost_report.unit_table(entry()))
    ratios = {}
    for stage, place, cell in zip(table["stage"], table["place"], table["OPs (M)"]):
        before, after = map(float, cell.split(" -> "))
        ratios[int(stage), place] = after / before
    of_stages = [ratios[stage, "convolution"] for stage in (64, 128, 256, 512)]
    assert of_stages == sorted(of_stages, reverse=True) and of_stages[0] > 0.9 and of_stages[-1] < 0.75
    assert len(ratios) == 7


@pytest.mark.parametrize("family", ["resnet", "birealnet", "onebnet"])
def test_units_are_compared_of_binarized_onebnets_alone(family):
    structure = families.build(family, depth=18)
    with pytest.raises(UserError, match="--units .* this one"):
        cost_report.unit_table(cost_report.Entry("this one", structure, (32, 32, 3), binarized=family != "onebnet"))


def test_fit_tables():
    rates = columns(cost_report.rate_table())
    assert [float(cell) for cell in rates["ms"]] == pytest.approx(latency.fit().rates, abs=0.005)
    table = columns(cost_report.residual_table())
    assert table["network"][:12] == [row.label for row in numbers.TABLE1] and len(table["network"]) == 13 + len(
        latency.checks()
    )
    for measured, estimated, difference in list(zip(*list(table.values())[1:4]))[:12]:
        assert float(measured) - float(estimated) == pytest.approx(float(difference), abs=0.06)
