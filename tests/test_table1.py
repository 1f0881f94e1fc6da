"""The paper's twelve ImageNet structures as files: sizes and operators. Slow: 24 conversions at 224x224."""

import dataclasses

import pytest

import onebnet_jax.export  # noqa: F401  asks for Keras 2, before TensorFlow is imported
from onebnet_jax import latency, paper
from onebnet_jax import structure as structure_lib
from onebnet_jax.export import table1


@pytest.mark.slow
@pytest.mark.parametrize("row", paper.TABLE1, ids=lambda row: row.label)
def test_file_has_the_size_of_the_cost_model_and_of_table_3(row):
    pytest.importorskip("larq_compute_engine")
    units = structure_lib.units(latency.table1_structure(row))
    naive, folded = (table1.convert(row, fold) for fold in (False, True))
    for converted, additions in ((naive, 4), (folded, 2)):
        count = converted.operators
        assert count["LceBconv2d"] == count["LceQuantize"] == count["PRELU"] == len(units)
        assert count["ADD"] + count["SUB"] == additions * len(units)
        assert count["CONV_2D"] == 1 + count["AVERAGE_POOL_2D"] == 1 + sum(unit.downsamples for unit in units)
        assert converted.mib == pytest.approx(converted.model_mib, rel=0.01)
        if row.name:
            assert converted.mib == pytest.approx(paper.TABLE3[row.name].storage_mib, rel=0.01)
    assert folded.mib < naive.mib


def test_table(capsys):
    rows = [table1.Converted("TypeI", True, 5.3712, 5.3551, dict.fromkeys(["LceBconv2d", "CONV_2D"], 7), None)]
    assert table1.table(rows)[1][:5] == ["TypeI", "folded", "5.371", "5.355", "5.39"]
    least, most = map(float, table1.table(rows)[1][5].split(" to "))
    assert 90 < least < most < 101.7 and table1.table(rows)[1][6:8] == ["-", "7"]
    naive = table1.table([dataclasses.replace(rows[0], folded=False)])[1]
    assert float(naive[5]) == pytest.approx(101.7, abs=0.6) and naive[6] == "101.7"
