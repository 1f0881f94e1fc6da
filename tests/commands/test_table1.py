"""The command table1: the paper's ImageNet networks as files, beside the cost model and the paper."""

import collections
import contextlib
import re
from pathlib import Path

import pytest

import onebnet_jax.export  # noqa: F401  asks for Keras 2, before TensorFlow is imported
from onebnet_jax.commands import table1
from onebnet_jax.errors import UserError
from onebnet_jax.networks import cost
from onebnet_jax.paper import latency, numbers
from onebnet_jax.runs import config


@pytest.mark.slow
@pytest.mark.parametrize("row", numbers.TABLE1, ids=lambda row: row.label)
def test_a_file_has_the_size_of_the_cost_model_and_of_table_3(row):
    """24 conversions at 224x224."""
    pytest.importorskip("larq_compute_engine")
    sizes, structure = [], latency.table1_structure(row)
    for folded, additions in ((False, 4), (True, 2)):
        card, report = table1.convert(row.label, folded, images=0)
        counts, units = collections.Counter(card["operators"]), len(structure.units) - 1
        assert counts["LceBconv2d"] == counts["LceQuantize"] == counts["PRELU"] == units
        assert counts["ADD"] + counts["SUB"] == additions * units and report is None
        # The cost model counts the constants; the rest is the graph: docs/convert.md gives its bytes for each operator.
        counted = cost.total(cost.layers(structure, latency.IMAGENET_INPUT, folded=folded)).storage_mib
        assert 0 < card["bytes"] - counted * 2**20 < 320 * counts.total()
        if row.name:
            assert card["mib"] == pytest.approx(counted, rel=0.01)
            assert card["mib"] == pytest.approx(numbers.TABLE3[row.name].storage_mib, rel=0.01)
        sizes.append(card["bytes"])
    assert sizes[0] > sizes[1]


def tables(text):
    """Markdown tables, as dicts of their rows."""
    found = []
    for lines in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        header, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines.splitlines())
        found.append([dict(zip(header, row, strict=True)) for row in rows])
    return found


@pytest.mark.parametrize("unexplained", [[], [3]])
def test_agreement_is_in_the_table_and_in_the_exit_status(unexplained, monkeypatch, capsys):
    pytest.importorskip("larq_compute_engine")
    from onebnet_jax.export.agreement import Comparison, Report, UnitFlips

    def convert(label, folded, images):
        units = [UnitFlips("a", 3_000_000, 0, 0.0, 0, 0.0), UnitFlips("b", 400_000, 9, 0.5, 2, 1e-7)]
        lce = Comparison(0.25, 0.03125, None, images - 1, 1, unexplained, [], units)
        keras = Comparison(0.0, 0.0, None, images, 0, [], [], [])
        return {"bytes": 1, "operators": {}}, Report(images, 12.34, None, keras, lce, 0.0)

    monkeypatch.setattr(table1, "convert", convert)
    with pytest.raises(SystemExit) if unexplained else contextlib.nullcontext() as end:
        table1.main(["TypeI", "--markdown"])
    output = capsys.readouterr().out
    assert end is None or end.value.code == 1
    assert list(tables(output)[1][0].values())[2:] == ["7 of 8", "12.3", "2.5e-01", "3.1e-02", "2 of 3.4 M"]
    assert bool(re.search("NOT explained.*TypeI naive, TypeI folded", output)) == bool(unexplained)


@pytest.mark.slow
@pytest.mark.usefixtures("quick_compilation")
def test_a_converted_row_is_compared_on_as_many_images_as_asked_for(monkeypatch):
    """A small network in its place."""
    pytest.importorskip("larq_compute_engine")
    load, small = config.load, ("depth=10", "width_multiplier=0.0625")
    overrides = [*(f"--config.model.{field}" for field in small), "--config.data.image_size=96"]
    monkeypatch.setattr(config, "load", lambda path: load(path, overrides))
    card, report = table1.convert("TypeIII", True, images=5)
    assert report.images == 5 and report.explained and card["operators"]["LceBconv2d"] == 10


def test_bad_arguments(capsys):
    with pytest.raises(UserError, match="'TypeV'"):
        table1.main(["TypeV"])
    with pytest.raises(SystemExit):
        table1.main(["--images=-1"])
    assert "--images=-1" in capsys.readouterr().err


def test_the_documentation_has_these_tables(monkeypatch, capsys):
    """What needs no conversion is computed anew; the tables agree with each other."""
    sizes, agreement, operators = tables((Path(__file__).parents[2] / "docs" / "convert.md").read_text())[-3:]
    names = [(name, graph) for name in table1.NAMED for graph in ("naive", "folded")]
    assert [(row["network"], row["graph"]) for row in sizes] == names
    assert [(row["network"], row["graph"]) for row in agreement] == names
    assert all(row["equal predictions"].endswith(" of 8") for row in agreement)
    cards = {}
    for row, (name, graph) in zip(sizes, names):
        cells = {next(iter(count.values())): count[name].split(" / ")[graph == "folded"] for count in operators[2:]}
        found = {kind: int(cell) for kind, cell in cells.items() if cell != "0"}
        cards[name, graph == "folded"] = dict(bytes=float(row["file (MiB)"]) * 2**20, operators=found)
    monkeypatch.setattr(table1, "convert", lambda label, folded, images: (cards[label, folded], None))
    table1.main(["--images=0", "--markdown"])
    assert tables(capsys.readouterr().out) == [sizes, operators]
