"""The paper's twelve ImageNet structures as files: sizes and operators, and the tables of them in the README."""

import pathlib
import re

import pytest

import onebnet_jax.export  # noqa: F401  asks for Keras 2, before TensorFlow is imported
from onebnet_jax.commands import table1
from onebnet_jax.errors import UserError
from onebnet_jax.networks import cost
from onebnet_jax.networks import structure as structure_lib
from onebnet_jax.paper import latency
from onebnet_jax.paper import numbers as paper

ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize("row", paper.TABLE1, ids=lambda row: row.label)
def test_file_has_the_size_of_the_cost_model_and_of_table_3(row):
    """24 conversions at 224x224."""
    pytest.importorskip("larq_compute_engine")
    units = structure_lib.units(latency.table1_structure(row))
    naive, folded = (table1.convert(row, fold) for fold in (False, True))
    for converted, additions in ((naive, 4), (folded, 2)):
        count = converted.operators
        assert count["LceBconv2d"] == count["LceQuantize"] == count["PRELU"] == len(units)
        assert count["ADD"] + count["SUB"] == additions * len(units)
        assert count["CONV_2D"] == 1 + count["AVERAGE_POOL_2D"] == 1 + sum(unit.downsamples for unit in units)
        # The cost model counts the constants; the rest is the graph: README gives its bytes for each operator.
        assert 0 < (converted.mib - converted.model_mib) * 2**20 < 320 * sum(count.values())
        if row.name:
            assert converted.mib == pytest.approx(converted.model_mib, rel=0.01)
            assert converted.mib == pytest.approx(paper.TABLE3[row.name].storage_mib, rel=0.01)
    assert folded.mib < naive.mib


def test_table():
    kinds = {"LceBconv2d": 7, "CONV_2D": 3, "ADD": 4, "SUB": 1}
    rows = [table1.Converted("TypeI", folded, 5.3712, 5.3551, kinds, None) for folded in (False, True)]
    header, naive, folded = (row[:10] for row in table1.table(rows))
    naive, folded = dict(zip(header, naive, strict=True)), dict(zip(header, folded, strict=True))
    assert list(folded.values())[:5] == ["TypeI", "folded", "5.371", "5.355", ""] and naive["Table 3"] == "5.39"
    assert (naive["operators"], naive["LceBconv2d"], naive["ADD + SUB"]) == ("15", "7", "5")
    assert float(naive["Pi 4, estimated (ms)"]) == pytest.approx(101.7, abs=0.6)
    least, most = map(float, folded["Pi 4, estimated (ms)"].split(" to "))
    assert 90 < least < most < 101.7
    assert (naive["Table 1, measured"], folded["Table 1, measured"]) == ("101.7", "")


def test_operator_table():
    files = [{"ADD": 2, "MEAN": 1}, {"ADD": 1, "PRELU": 3}]
    rows = [table1.Converted("TypeI", bool(index), 5.4, 5.4, kinds, None) for index, kinds in enumerate(files)]
    assert table1.operator_table(rows) == [
        ["network", "graph", "ADD", "MEAN", "PRELU"],
        ["TypeI", "naive", "2", "1", "0"],
        ["TypeI", "folded", "1", "0", "3"],
    ]


@pytest.mark.parametrize("unexplained", [[], [3]])
def test_agreement_is_in_the_table_and_in_the_exit_status(unexplained, monkeypatch, capsys):
    pytest.importorskip("larq_compute_engine")
    from onebnet_jax.export.agreement import Comparison, Report, UnitFlips

    def convert(row, folded, images):
        units = [UnitFlips("a", signs=3_000_000), UnitFlips("b", signs=400_000, flips=9, first_flips=2)]
        lce = Comparison(0.25, 0.03125, equal_predictions=images - 1, units=units, unexplained=unexplained)
        report = Report(images, 12.34, None, Comparison(), lce, conversion_difference=0.0)
        return table1.Converted(row.label, folded, 4.0, 4.0, {"ADD": 1}, report)

    monkeypatch.setattr(table1, "convert", convert)
    if unexplained:
        with pytest.raises(SystemExit) as end:
            table1.main(["TypeI"])
        assert end.value.code == 1
    else:
        table1.main(["TypeI"])
    output = capsys.readouterr().out
    rows = [re.split(r"\s{2,}", line) for line in output.splitlines() if line.startswith("TypeI ")]
    assert [row[-5:] for row in rows[:2]] == [["7 of 8", "12.3", "2.5e-01", "3.1e-02", "2 of 3.4 M"]] * 2
    assert ("NOT explained by float rounding: TypeI naive, TypeI folded" in output) == bool(unexplained)


def test_bad_arguments(capsys):
    with pytest.raises(UserError, match="^'TypeV' is not in the paper's Table 1"):
        table1.main(["TypeV"])
    with pytest.raises(SystemExit):
        table1.main(["--images=-1"])
    assert "--images=-1 must be 0 or more" in capsys.readouterr().err


def test_the_readme_has_these_tables():
    """What needs no conversion is computed anew; the two tables agree with each other."""
    lines = (ROOT / "README.md").read_text().splitlines()
    tables = {}
    for line in (line for line in lines if line.startswith("| ")):
        row = [cell.strip() for cell in line.strip("|").split("|")]
        if row[:2] == ["network", "graph"]:
            tables[tuple(row)] = rows = []
        elif row[1] in ("naive", "folded"):
            rows.append(row)
    (header, printed), (kinds, operators) = tables.items()
    assert [row[0] for row in printed] == [name for name in table1.NAMED for _ in range(2)]
    converted = []
    for row, counts in zip(printed, operators, strict=True):
        name, folded = row[0], row[1] == "folded"
        storage = cost.layers(latency.table1_structure(paper.table1_row(name)), latency.IMAGENET_INPUT, folded=folded)
        found = dict(zip(kinds[2:], map(int, counts[2:]), strict=True))
        model_mib = cost.total(storage).storage_mib
        converted.append(table1.Converted(name, folded, float(row[2]), model_mib, found, None))
    expected = table1.table(converted)
    assert list(header) == expected[0]
    assert [row[:10] for row in printed] == [row[:10] for row in expected[1:]]
    assert [list(kinds), *operators] == table1.operator_table(converted)
    assert all(row[10].endswith(" of 8") for row in printed)
