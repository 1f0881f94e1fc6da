"""Timing runs put together, and set beside the paper's figures of the same networks and of no others."""

import dataclasses
import json

import numpy as np
import pytest

from onebnet_jax.networks import families
from onebnet_jax.paper import latency, numbers, pi_report
from onebnet_jax.paper.pi_log import Run


def run(**changes):
    fields = dict(model="m.tflite", threads=1, kernel="default", xnnpack=True, count=50, mean_ms=90.0, std_ms=1.0)
    return Run(**{**fields, **dict(min_ms=88.0, max_ms=95.0, init_ms=5.0, first_ms=91.0), **changes})


def card(structure, shape=(224, 224, 3), weights=True):
    return {
        "structure": json.loads(json.dumps(dict(structure.recipe))),
        "binarization": {"activations": True, "weights": weights},
        "input": {"shape": [1, *shape]},
        "folded": True,
    }


def test_repetitions_are_put_together_like_their_samples():
    rng = np.random.default_rng(0)
    samples = [rng.gamma(9.0, 10.0, size) for size in (50, 50, 37)]
    runs = [run(count=len(s), mean_ms=float(s.mean()), std_ms=float(s.std())) for s in samples]
    (result,) = pi_report.results(runs, {})
    every = np.concatenate(samples)
    assert result.count == len(every)
    assert (result.mean_ms, result.std_ms) == (pytest.approx(every.mean()), pytest.approx(every.std()))
    (entry,) = pi_report.as_json([result], compare=False)
    assert entry["mean_ms"] == result.mean_ms and len(entry["repetitions"]) == 3 and "paper_ms" not in entry


@pytest.mark.parametrize("row", numbers.TABLE1, ids=lambda row: row.label)
def test_networks_of_table_1_are_known_by_their_cards(row):
    structure = latency.imagenet("onebnet", conv_1d=row.conv_1d, ds_1d=row.ds_1d, pad_value=1, stem_relu=True)
    measured = pi_report.results([run(), run(threads=4)], {"m.tflite": card(structure)})
    assert [result.paper_ms.get("Table 1") for result in measured] == [row.latency_ms, None]
    if row.name:
        assert measured[0].network == row.name
        assert measured[0].paper_ms["Table 3"] == numbers.TABLE3[row.name].latency_ms
        assert measured[1].paper_ms == {"Table 8": numbers.TABLE8[row.name]}


@pytest.mark.parametrize("name", ["FP32 ResNet18", "XNOR-Net", "Bi-RealNet"])
def test_the_networks_that_the_paper_compares_with_are_known(name):
    structure = latency.imagenet(numbers.FAMILIES[name])
    (result,) = pi_report.results([run()], {"m.tflite": card(structure, weights=name != "FP32 ResNet18")})
    assert result.paper_ms == {"Table 3": numbers.TABLE3[name].latency_ms}
    table = pi_report.storage_table([dataclasses.replace(result, runs=(run(size_mib=4.0123),))])
    assert table[1] == ["m.tflite", name, "4.01", f"{numbers.TABLE3[name].storage_mib:.2f}"]


def test_other_networks_are_not_compared():
    type_i = latency.table1_structure(numbers.TABLE1[3])
    assert pi_report.network(card(type_i)) == "TypeI"
    fields = dict(type_i.recipe)
    others = [
        card(families.build(**fields | change))
        for change in ({"num_classes": 10}, {"width_multiplier": 0.5}, {"stem": "cifar"}, {"depth": 34})
    ]
    for other in (*others, card(type_i, shape=(192, 192, 3)), card(type_i, weights=False), {}):
        assert pi_report.network(other) == ""
    damaged = card(type_i)
    for structure in (None, [], {"family": "zzz"}, {"family": "onebnet", "depth": "18"}, {**fields, "zzz": 1}):
        assert pi_report.network(damaged | {"structure": structure}) == ""


def test_a_folded_graph_is_told_apart_from_the_papers():
    cards = {"m.tflite": card(latency.table1_structure(numbers.TABLE1[3]))}
    for folded, graph in ((True, "folded"), (False, "naive")):
        measured = pi_report.results([run()], {"m.tflite": cards["m.tflite"] | {"folded": folded}})
        assert measured[0].graph == graph
        assert ("--no-fold" in pi_report.comparison_note(measured)) == folded
