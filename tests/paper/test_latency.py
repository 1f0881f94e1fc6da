"""The latency estimate against the paper's measurements, and the cost command."""

import numpy as np
import pytest

from onebnet_jax import errors
from onebnet_jax.commands import cost as cost_command
from onebnet_jax.networks import cost
from onebnet_jax.networks.structure import Structure
from onebnet_jax.paper import latency
from onebnet_jax.paper import numbers as paper

IMAGENET = (224, 224, 3)


def _design():
    return np.stack(
        [latency.features(cost.total(cost.layers(latency.table1_structure(row), IMAGENET))) for row in paper.TABLE1]
    )


MEASURED = np.array([row.latency_ms for row in paper.TABLE1])


def test_fit_gives_back_table1():
    residuals = MEASURED - _design() @ latency.fit().rates
    np.testing.assert_allclose(latency.fit().residuals, residuals, atol=1e-9)
    assert np.abs(residuals).max() < 0.7
    assert np.sqrt((residuals**2).mean()) < 0.35


def test_rates_are_plausible_for_a_cortex_a72():
    binary, floating, elements = latency.fit().rates
    assert 30e9 < 1e12 / binary < 70e9  # binary MACs/s: 128-bit XNOR, popcount and sum at 1.5 GHz
    assert 3e9 < 1e12 / floating < 6e9  # float MACs/s: at most 4 a cycle
    assert 0.3e9 < 1e9 / elements < 1.5e9  # elements/s: 8 bytes of traffic each
    assert (latency.fit().standard_errors < latency.fit().rates / 20).all()


def test_a_constant_would_be_zero_within_its_error():
    design = np.column_stack([_design(), np.ones(len(MEASURED))])
    solution, *_ = np.linalg.lstsq(design, MEASURED, rcond=None)
    residuals = MEASURED - design @ solution
    error = np.sqrt(np.linalg.inv(design.T @ design)[-1, -1] * (residuals @ residuals) / (len(MEASURED) - 4))
    assert abs(solution[-1]) < error
    assert np.sqrt((residuals**2).mean()) > np.sqrt((latency.fit().residuals ** 2).mean()) - 0.01


def test_leaving_one_out_is_a_refit_without_that_row():
    design = _design()
    for row in range(len(MEASURED)):
        others = np.arange(len(MEASURED)) != row
        rates, *_ = np.linalg.lstsq(design[others], MEASURED[others], rcond=None)
        assert latency.fit().left_out[row] == pytest.approx(MEASURED[row] - design[row] @ rates, abs=1e-6)
    assert np.abs(latency.fit().left_out).max() < 1.0


def test_networks_outside_the_fit_are_within_a_seventh():
    for estimated, measured in latency.checks().values():
        assert estimated == pytest.approx(measured, rel=1 / 7)


def test_folding_saves_at_least_what_the_paper_suggests():
    structure = latency.table1_structure(paper.TABLE1[0])
    naive, folded = (cost.total(cost.layers(structure, IMAGENET, folded=value)) for value in (False, True))
    least, most = latency.folding_saves(naive, folded)
    # Half of the 3.0 ms by which ReActNet18 is slower than Bi-Real Net, as half of the passes go (almost: RSign's
    # pass over a wider input stays).
    assert 0.45 * 3.0 < least < 0.5 * 3.0
    assert most == pytest.approx(latency.estimate(naive) - latency.estimate(folded))
    assert least < most


def test_folding_does_nothing_for_fp32_networks():
    structure = Structure(depth=20, block="resnet")
    naive, folded = (cost.total(cost.layers(structure, (28, 28, 1), folded=value)) for value in (False, True))
    assert latency.folding_saves(naive, folded) == (0, 0)


def test_command_prints_every_table(capsys, tmp_path):
    plot = tmp_path / "table1.png"
    cost_command.main(["--table1", "--fit", "--units", "--plot", str(plot)])
    output = capsys.readouterr().out
    row = next(line for line in output.splitlines() if line.startswith("TypeII "))
    cells = [cell.strip() for cell in row.split("  ") if cell]
    expected = [
        "TypeII",
        "224x224x3",
        "9,102,952",
        "176.3",
        "1,483.6",
        "199.5",
        "5.027",
        "92.3",
        "84.9 to 90.5",
        "92.3",
    ]
    assert cells == expected
    assert "estimate" in output and "not a measurement" in output
    # Figure 5 (a): with 64 channels two 1-D units take about the OPs of a 2-D one, with 512 much less.
    places = [line.split() for line in output.splitlines() if " convolution " in line][:4]
    ratios = {int(stage): float(after) / float(before) for stage, _, *_, before, _, after, _, _, _ in places}
    assert ratios[64] > ratios[128] > ratios[256] > ratios[512]
    assert ratios[64] > 0.9 and ratios[512] < 0.75
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_layer_table_adds_up(capsys):
    cost_command.main(["--table1", "--layers", "--markdown"])
    section = capsys.readouterr().out.split("TypeIII: layers")[1]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if "|" in line]
    column = rows[0].index("binary MACs")
    macs = sum(int(row[column].replace(",", "")) for row in rows[2:] if row[column] != "-")
    structure = next(latency.table1_structure(row) for row in paper.TABLE1 if row.name == "TypeIII")
    assert macs == cost.total(cost.layers(structure, IMAGENET)).binary_macs


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name at least one CONFIG"),
        (["--nonsense", "--fit"], "unrecognized arguments: --nonsense"),
        (["--fit", "--plot", "x.png"], "nothing to draw"),
        (["--table1", "--plot", "no/such/folder/x.png"], "cannot be written"),
        (["--table1", "--plot", "x.nonsense"], "cannot be written"),
    ],
)
def test_bad_arguments_give_one_sentence(arguments, message, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["cost", *arguments])
    with pytest.raises(SystemExit) as exit_info:
        errors.cli(cost_command.main)
    captured = capsys.readouterr()
    assert exit_info.value.code == 2
    assert message in captured.err
    assert "Traceback" not in captured.err and not captured.out
