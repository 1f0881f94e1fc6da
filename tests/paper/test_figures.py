"""The paper's figures: what is drawn is what the structure, the counts and the arrays say."""

import numpy as np
import pytest

from onebnet_jax.errors import UserError
from onebnet_jax.networks import families
from onebnet_jax.networks.structure import placed
from onebnet_jax.paper import cost_report, diagrams, latency, numbers, plots, report_figures
from onebnet_jax.paper.look import Seen

TYPE_II = latency.table1_structure(numbers.table1_row("TypeII"))
INPUT = latency.IMAGENET_INPUT


def words(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_a_place_as_a_2d_unit_and_as_1d_units():
    plain = words(report_figures.place(TYPE_II, INPUT, downsampling=False))
    assert [word for word in plain if "binary conv" in word] == [
        f"binary conv {kernel}\n64 to 64" for kernel in ("3x3", "3x1", "1x3")
    ]
    assert not [word for word in plain if "pool" in word] and plain.count("RPReLU") == 3


def test_a_place_with_downsampling():
    """Rows are halved first, while channels widen, then columns: section 3.2."""
    drawn = words(report_figures.place(TYPE_II, INPUT, downsampling=True, unit="stage3_block1_conv1"))
    assert [word.split("\n")[1] for word in drawn if "average pool" in word] == ["2x2", "2x1", "1x2"]
    assert [word.split("\n")[1] for word in drawn if "float conv 1x1" in word] == ["128 to 256"] * 2 + ["256 to 256"]
    assert [word.split("\n")[1] for word in drawn if "output" in word] == ["256x14x14", "256x14x28", "256x14x14"]


def test_a_place_of_another_family_has_all_that_its_shortcut_spans():
    drawn = words(report_figures.place(families.build("xnornet"), INPUT, downsampling=True))
    assert sum("binary conv" in word for word in drawn) == 2 and drawn.count("+") == 1
    with pytest.raises(UserError, match="FP32 ResNet18 has no binarized unit"):
        report_figures.place(families.build("resnet"), INPUT, downsampling=True)


@pytest.mark.parametrize("structure", [TYPE_II, families.build("resnet", depth=34, stem="imagenet")])
def test_a_network_has_all_its_units(structure):
    drawn = words(diagrams.network(structure, INPUT))
    kernels = [word.split("\n")[0] for word in drawn if " to " in word and "FC" not in word and "\n" in word]
    assert kernels == [f"{unit.kernel[0]}x{unit.kernel[1]}" for unit in structure.units]
    sizes = ["x".join(map(str, (at.convolved[2], *at.convolved[:2]))) for at in placed(structure, INPUT)]
    assert [word for word in drawn if word in sizes and "\n" not in word and word != "64x56x56"] == [
        size for size in sizes if size != "64x56x56"
    ]


def test_computations_are_the_counts():
    counts = cost_report.unit_counts(cost_report.Entry("TypeII", TYPE_II, INPUT))
    figure = plots.computations(counts)
    heights = sorted(bar.get_height() for axes in figure.axes for bar in axes.patches)
    assert heights == pytest.approx(sorted(x for _, _, values in counts for pair in values.values() for x in pair))


def seen(**maps):
    rng = np.random.default_rng(0)
    shapes = dict(input=(4, 6, 6, 16), shifted=(4, 6, 6, 16), convolved=(4, 3, 6, 8))
    made = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    return Seen("unit", **made | dict(before=None, after=None) | maps)


def test_distributions_are_shares_of_all_values():
    maps = np.linspace(-1, 1, 1000, dtype=np.float32).reshape(1, 10, 10, 10)
    figure = plots.distributions([seen(input=maps, shifted=maps + 0.5)])
    of_bias, without = figure.axes
    labels = [text.get_text() for text in of_bias.get_legend().get_texts()]
    assert labels == ["before (50 % above 0)", "after (75 % above 0)"]
    assert [text.get_text() for text in without.texts] == ["this unit has no RPReLU"]


def test_activations_show_signs_and_the_channels_that_vary_most():
    unit = seen()
    unit.convolved[..., 5] *= 100
    figure = plots.activations(np.zeros((6, 6, 3), np.uint8), "image", [unit], channels=4)
    image, *small = figure.axes
    assert len(small) == 8 and image.images[0].get_array().shape == (6, 6, 3)
    assert {float(value) for axes in small[:4] for value in axes.images[0].get_array().ravel()} == {-1.0, 1.0}
    assert small[4].get_xlabel() == "channel 5" and small[4].images[0].get_array().shape == (3, 6)


def test_diagnostics_are_drawn_by_unit_and_epoch():
    shares = ("flipped", "in_window", "plus", "zero_gradient")
    lines = [
        {"epoch": epoch} | {f"{share}/{unit}": epoch / 10 for share in shares for unit in "ab"} for epoch in (1, 2)
    ]
    figure = plots.diagnostics(lines)
    for axes in figure.axes:
        assert [line.get_label() for line in axes.get_lines()] == ["a", "b"]
        assert all(line.get_xydata().tolist() == [[1, 10], [2, 20]] for line in axes.get_lines())
