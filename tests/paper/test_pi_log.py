"""Logs of a Raspberry Pi are read as they were meant, or refused."""

import numpy as np
import pytest
from pi_logs import NEW_OUTPUT, OLD_OUTPUT, log

from onebnet_jax.errors import UserError
from onebnet_jax.paper import pi_log, pi_report


def test_log_of_the_old_shape():
    parsed = pi_log.parse(log(), "a.log")
    assert (parsed.model, parsed.threads, parsed.kernel, parsed.xnnpack) == ("BDN.tflite", 1, "default", True)
    assert (parsed.count, parsed.mean_ms, parsed.std_ms) == (50, 198.612, 2.465)
    assert (parsed.min_ms, parsed.max_ms, parsed.init_ms, parsed.first_ms) == (195.713, 205.852, 5.373, 206.847)
    assert parsed.size_mib == pytest.approx(4.80795e6 / 2**20) and parsed.memory_mb == 30.4531
    assert parsed.before["temperature_c"] == "51.5" and parsed.after["temperature_c"] == "52.5"
    assert parsed.before["device"] == "Raspberry Pi 4 Model B Rev 1.4"


def test_log_of_the_new_shape():
    flags = "--graph=m.tflite --num_threads=4 --use_xnnpack=false --use_indirect_bgemm=true"
    parsed = pi_log.parse(log(NEW_OUTPUT, flags), "a.log")
    assert (parsed.threads, parsed.kernel, parsed.xnnpack) == (4, "indirect", False)
    assert (parsed.count, parsed.mean_ms, parsed.memory_mb) == (50, 1022.17, 109.848)


def test_log_of_equal_times():
    *_, line = (line for line in OLD_OUTPUT.splitlines() if line.startswith("count="))
    parsed = pi_log.parse(log(OLD_OUTPUT.replace(line, "count=50 curr=198612(all same)")), "a.log")
    assert (parsed.count, parsed.mean_ms, parsed.std_ms, parsed.min_ms) == (50, 198.612, 0.0, 198.612)


@pytest.mark.parametrize("output", [OLD_OUTPUT, NEW_OUTPUT], ids=["old", "new"])
def test_a_log_cut_anywhere_is_refused_or_right(output):
    whole = log(output)
    expected, refused = pi_log.parse(whole, "a.log"), 0
    for end in range(len(whole)):
        try:
            parsed = pi_log.parse(whole[:end], "a.log")
        except UserError as error:
            refused += 1
            assert "a.log" in str(error)
        else:
            assert (parsed.mean_ms, parsed.count, parsed.std_ms) == (expected.mean_ms, expected.count, expected.std_ms)
    assert refused >= whole.index("Inference (avg)")


@pytest.mark.parametrize("output", [OLD_OUTPUT, NEW_OUTPUT], ids=["old", "new"])
def test_a_damaged_log_is_refused_or_read(output):
    rng, whole = np.random.default_rng(0), log(output)
    for _ in range(1000):
        characters = list(whole)
        for place in rng.integers(len(whole), size=rng.integers(1, 4)):
            characters[place] = rng.choice(list("0123456789.e+-=: \nabc\0²"))
        try:
            parsed = pi_log.parse("".join(characters), "a.log")
        except UserError:
            continue
        assert parsed.count > 0 and pi_report.device_lines([parsed])
        assert pi_report.results([parsed], {})[0].mean_ms >= 0


@pytest.mark.parametrize("text", ["", "\n", "hello", OLD_OUTPUT, "command=\n", "command=ls -l\n"])
def test_other_text_is_no_log(text):
    with pytest.raises(UserError, match="a.log is not a log"):
        pi_log.parse(text, "a.log")


@pytest.mark.parametrize(
    ("before", "after", "meaning"),
    [
        ("0x0", "0x0", []),
        ("0x50000", "0x50000", []),  # happened before
        ("0x0", "0x50000", ["under-voltage", "throttling"]),  # happened meanwhile
        ("0x20002", "0x20000", ["capped clock"]),  # lasted when the run began
        ("0x0", "0x80008", ["temperature limit"]),
        ("0x0", "unknown", None),
    ],
)
def test_throttling(before, after, meaning):
    parsed = pi_log.parse(log(throttled=(before, after)), "a.log")
    assert pi_log.throttling([parsed]) == meaning
    assert ("WARNING" in "\n".join(pi_report.device_lines([parsed]))) == (meaning != [])
