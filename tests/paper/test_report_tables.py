"""The paper's tables in the report: its own numbers are all there, and what a run measured stands beside them."""

import pytest

from onebnet_jax.paper import matches, numbers, report_tables
from onebnet_jax.runs import config
from onebnet_jax.runs.history import History

# What each table prints, in any order.
PRINTED = {
    "Table 1": [value for row in numbers.TABLE1 for value in (row.top1, row.latency_ms)],
    "Table 2": [
        value
        for table in (numbers.TABLE2_SCRATCH, numbers.TABLE2_TEACHER)
        for row in table.values()
        for value in row
        if value
    ],
    "Table 3": [value for row in numbers.TABLE3.values() for value in row],
    "Table 4": [*numbers.TABLE4.values()],
    "Table 6": [value for row in numbers.TABLE6 for value in (row.top1, row.fp32_top1)],
    "Table 7": [value for row in numbers.TABLE7.values() for value in row.values()],
    "Table 8": [*numbers.TABLE8.values()],
}


def marked(section, mark):
    places = ((row, column) for row in range(len(section.rows)) for column in range(len(section.marks)))
    return [section.rows[row][column] for row, column in places if section.cell_mark(row, column) == mark]


@pytest.mark.parametrize("name", PRINTED)
def test_every_number_of_the_paper_is_there(name):
    section = report_tables.TABLES[name](report_tables.Found())
    assert sorted(map(float, marked(section, "paper"))) == sorted(PRINTED[name])
    assert len({len(section.marks), *map(len, section.rows)}) == 1
    assert {"measured", "counted", "estimated"} & set(section.marks)
    assert not marked(section, "measured") and marked(section, "needs")


def test_the_architecture_is_the_papers():
    section = report_tables.TABLES["Table 5"](report_tables.Found())
    assert [row[-1] for row in section.rows[1:]] == ["yes"] * 22


def history(folder, name, epochs, *overrides, top1=77.0):
    fields = config.load(name, [f"--config.train.epochs={epochs}", *overrides])
    lines = [
        {"step": epoch, "split": "test", "epoch": epoch, "top1": top1, "top5": 99.0} for epoch in range(1, epochs + 1)
    ]
    return History(folder, fields, {"train": lines})


def test_a_run_fills_the_row_of_its_network_and_no_other(tmp_path):
    """Whatever its padding and its name; of two the longer one; not one of another width."""
    runs = [
        history(tmp_path / "short", "fashionmnist_ds32_64", 1, top1=70.0),
        history(tmp_path / "long", "fashionmnist_ds32_64", 3, "--config.model.pad_value=0"),
        history(tmp_path / "half", "fashionmnist_ds32_64", 9, "--config.model.width_multiplier=0.5", top1=60.0),
        history(tmp_path / "wide", "cifar10_typeI", 2, "--config.model.width_multiplier=2", top1=94.0),
    ]
    found = report_tables.Found(matches.matches(runs))
    table6, table7 = (report_tables.TABLES[name](found) for name in ("Table 6", "Table 7"))
    assert marked(table6, "measured") == ["77.00"] and "run long, 3 of 400 epochs" in table6.rows[1][-1]
    assert marked(table7, "measured") == ["94.00"] and table7.rows[1][:2] == ["2", "TypeI"]


def test_the_best_epoch_of_fp32_stands_beside_its_last(tmp_path):
    run = history(tmp_path / "run", "fashionmnist_fp32", 2)
    run.lines["train"][0]["top1"] = 78.0
    table6 = report_tables.TABLES["Table 6"](report_tables.Found(matches.matches([run])))
    assert [row[5] for row in table6.rows[1:3]] == 2 * ["77.00; best 78.00"]


def test_files_and_a_pi_fill_their_columns():
    found = report_tables.Found(pi={("TypeII", 1): 91.0, ("TypeII", 4): 45.0}, files={"TypeII": 5.068})
    tables = {name: report_tables.TABLES[name](found) for name in ("Table 1", "Table 3", "Table 8")}
    assert {name: marked(section, "measured") for name, section in tables.items()} == {
        "Table 1": ["91.0"],
        "Table 3": ["5.07", "91.0"],
        "Table 8": ["45.0"],
    }
    for name, latencies in (("Table 1", 12), ("Table 3", 8), ("Table 8", 8)):
        assert f" 1 of the {latencies} latencies was measured" in f" {tables[name].verdict}"
        assert f"None of the {latencies} latencies" in report_tables.TABLES[name](report_tables.Found()).verdict


def test_networks_are_found_by_the_papers_names():
    names = ("FP32 ResNet18", "ReActNet18", "TypeII", "TypeII scratch", "XNOR-Net", "XNOR-Net++", "AdaBin")
    assert [matches.config_name("imagenet", name) for name in names] == [
        *("imagenet_fp32", "imagenet_reactnet", "imagenet_typeII", "imagenet_typeII_scratch", "imagenet_xnornet"),
        *(None, None),
    ]
