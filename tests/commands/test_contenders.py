"""The command contenders: who runs when, and the table."""

import importlib.util
import subprocess
import sys
import time

import engines
import numpy as np
import pytest

from onebnet_jax.commands import contenders
from onebnet_jax.commands.rivals import Contender


def test_they_take_turns():
    calls = []
    runs = {name: Contender(lambda name=name: calls.append(name), 9) for name in "ab"}
    times = contenders.in_turn(runs, rounds=2, times=3)
    assert "".join(calls) == "aaabbb" + 2 * "aaaabbbb"
    assert [len(times[name]) for name in "ab"] == [6, 6]


def test_the_table_states_ratios(monkeypatch, capsys):
    monkeypatch.setattr(
        contenders, "contenders", lambda threads: {name: Contender(None, 3 << 20) for name in ("engine", "other")}
    )
    monkeypatch.setattr(contenders, "in_turn", lambda runs, rounds: {"engine": [2.0, 4.0, 3.0], "other": [9.0] * 3})
    contenders.main([])
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["engine", "3.0", "3.00", "2.00", "1.00"] in rows and ["other", "3.0", "9.00", "9.00", "3.00"] in rows
    with pytest.raises(SystemExit):
        contenders.main(["--threads=0"])


def test_a_call_of_several_images_is_divided_by_their_number():
    runs = {
        "one": Contender(lambda: time.sleep(0.02), 0),
        "each of two": Contender(lambda: time.sleep(0.02), 0, images=2),
    }
    times = contenders.in_turn(runs, rounds=1, times=2)
    assert min(times["one"]) >= 20 and min(times["each of two"]) < 20 <= 2 * min(times["each of two"])


FOUND = """
import sys
from onebnet_jax.commands import contenders
from onebnet_jax.native import runtime
if sys.argv[2:]:
    contenders.hold(sys.argv[2])
print(runtime.Engine(sys.argv[1]).instruction_set)
"""


@engines.needs_engine
@pytest.mark.parametrize("held_to", contenders.HELD_TO)
def test_what_it_is_held_to_is_the_most_that_a_library_finds(held_to, tmp_path):
    def run(*arguments):
        return subprocess.run([sys.executable, "-c", FOUND, model, *arguments], capture_output=True, text=True)

    model = tmp_path / "m.onb"
    model.write_bytes(engines.pack(engines.signs_plan(np.ones((1, 1, 1, 1)), (1, 1))))
    done = run(held_to)
    if "cannot be hidden here" in done.stderr:
        pytest.skip(done.stderr.strip().splitlines()[-1])
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ("avx2" if held_to == "avx2" else run().stdout.strip())


@pytest.mark.slow
def test_all_of_them_run():
    pytest.importorskip("larq_compute_engine")
    names = contenders.in_turn(contenders.contenders(2), rounds=1, times=1)
    assert len(names) >= 11
    for runtime, packages in (("ONNX Runtime", ("onnx", "onnxruntime")), ("OpenVINO", ("openvino",))):
        assert any(runtime in name for name in names) == all(map(importlib.util.find_spec, packages))
