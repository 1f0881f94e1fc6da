"""What is read out of a trained network, against the definitions and against its own chain of units."""

import numpy as np
import pytest
from workdirs import trained as make_run

from onebnet_jax.errors import UserError
from onebnet_jax.paper import look, report_figures
from onebnet_jax.runs import trained


@pytest.fixture(scope="module")
def network(tmp_path_factory, quick_compilation):
    return trained.load(make_run(tmp_path_factory.mktemp("run")))


def test_maps_of_units_follow_the_definitions(network):
    names = look.row_and_column(network)
    assert names == ["stage2_block1_conv1_3x1", "stage2_block1_conv1_1x3"]
    images, classes = look.test_images(network, [3, 0])
    first, second = look.look(network, images, names)
    params = {name: network.variables["params"][name] for name in names}
    for seen in (first, second):
        alpha, rprelu = params[seen.name]["rsign"]["alpha"], params[seen.name]["rprelu"]
        np.testing.assert_allclose(seen.input - alpha, seen.shifted, atol=1e-5)
        moved = seen.before - rprelu["gamma"]  # the paper's equation 2
        expected = np.where(moved > 0, moved, rprelu["beta"] * moved) + rprelu["zeta"]
        np.testing.assert_allclose(seen.after, expected, atol=1e-5)
        kernel = params[seen.name]["conv"]["kernel"]
        taps = seen.convolved / abs(kernel).mean((0, 1, 2))  # sums of as many -1 and +1
        assert np.allclose(taps, taps.round(), atol=1e-3) and abs(taps).max() <= kernel[..., 0].size
    np.testing.assert_allclose(first.after, second.input, atol=1e-5)
    assert first.convolved.shape[1:3] == (14, 28) and len(classes) == 2


def test_what_is_not_there_is_named(network):
    with pytest.raises(UserError, match="no binarized unit 'stem'; .*stage1_block1_conv1"):
        look.chosen(network, ["stem"])
    with pytest.raises(UserError, match="no test image 9999; .* to 999"):
        look.test_images(network, [9999])
    assert look.chosen(network, ["stage2_block1_conv1"]) == look.row_and_column(network)


def test_a_figure_of_a_network_whose_images_are_missing_says_so(network):
    moved = network.with_data(
        ["--config.data.name=fashion_mnist", "--config.data.dir=nowhere", "--config.data.source=files"]
    )
    section = report_figures.figure3(report_figures.Given((), moved))
    assert section.verdict.startswith("needs the images") and "nowhere" in section.verdict and not section.pictures
