"""The latency estimate against the paper's measurements."""

import numpy as np
import pytest

from onebnet_jax.networks import cost, families
from onebnet_jax.paper import latency, numbers

MEASURED = np.array([row.latency_ms for row in numbers.TABLE1])


def design():
    structures = [latency.table1_structure(row) for row in numbers.TABLE1]
    counts = [cost.total(cost.layers(structure, latency.IMAGENET_INPUT)) for structure in structures]
    return np.stack([latency.features(count) for count in counts])


def test_fit_gives_back_table1():
    residuals = MEASURED - design() @ latency.fit().rates
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
    with_constant = np.column_stack([design(), np.ones(len(MEASURED))])
    solution, *_ = np.linalg.lstsq(with_constant, MEASURED, rcond=None)
    residuals = MEASURED - with_constant @ solution
    inverse = np.linalg.inv(with_constant.T @ with_constant)
    assert abs(solution[-1]) < np.sqrt(inverse[-1, -1] * (residuals @ residuals) / (len(MEASURED) - 4))
    assert np.sqrt((residuals**2).mean()) > np.sqrt((latency.fit().residuals ** 2).mean()) - 0.01


def test_leaving_one_out_is_a_refit_without_that_row():
    for row in range(len(MEASURED)):
        others = np.arange(len(MEASURED)) != row
        rates, *_ = np.linalg.lstsq(design()[others], MEASURED[others], rcond=None)
        assert latency.fit().left_out[row] == pytest.approx(MEASURED[row] - design()[row] @ rates, abs=1e-6)
    assert np.abs(latency.fit().left_out).max() < 1.0


def test_networks_that_are_no_onebnets():
    """As shares of what was measured; ReActNet-A has three times the binary MACs of Bi-RealNet."""
    within = {"FP32 ResNet18": 0.09, "XNOR-Net": 0.01, "Real-to-Bin": 0.13, "ReActNet-A": 0.015}
    found = {name: abs(estimated / measured - 1) for name, (estimated, measured) in latency.checks().items()}
    assert found.keys() == within.keys() and all(found[name] < within[name] for name in within), found
    counts = cost.total(cost.layers(latency.imagenet("birealnet"), latency.IMAGENET_INPUT))
    assert latency.estimate(counts, "birealnet") == numbers.TABLE3["Bi-RealNet"].latency_ms


def test_folding_saves_at_least_what_the_paper_suggests():
    structure = latency.table1_structure(numbers.TABLE1[0])
    naive, folded = (cost.total(cost.layers(structure, latency.IMAGENET_INPUT, folded=fold)) for fold in (False, True))
    least, most = latency.folding_saves(naive, folded)
    # Half of the 3.0 ms by which ReActNet18 is slower than Bi-Real Net, as half of the passes go (almost: RSign's
    # pass over a wider input stays).
    assert 0.45 * 3.0 < least < 0.5 * 3.0 < most == pytest.approx(latency.estimate(naive) - latency.estimate(folded))


def test_folding_does_nothing_for_fp32_networks():
    structure = families.build("resnet", depth=20)
    naive, folded = (cost.total(cost.layers(structure, (28, 28, 3), folded=fold)) for fold in (False, True))
    assert latency.folding_saves(naive, folded) == (0, 0)
