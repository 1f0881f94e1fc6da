"""The command contenders: who runs when, and the table."""

import platform
import subprocess
import sys
import time

import pytest

from onebnet_jax.commands import contenders


def test_they_take_turns():
    calls = []
    runs = {name: (lambda name=name: calls.append(name), 1) for name in "ab"}
    times = contenders.in_turn(runs, rounds=2, times=3)
    assert "".join(calls) == "aaabbb" + 2 * "aaaabbbb"
    assert [len(times[name]) for name in "ab"] == [6, 6]


def test_the_table_states_ratios(monkeypatch, capsys):
    monkeypatch.setattr(contenders, "contenders", lambda threads: {"engine": None, "other": None})
    monkeypatch.setattr(contenders, "in_turn", lambda runs, rounds: {"engine": [2.0, 4.0, 3.0], "other": [9.0] * 3})
    contenders.main([])
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["engine", "3.00", "2.00", "1.00"] in rows and ["other", "9.00", "9.00", "3.00"] in rows
    with pytest.raises(SystemExit):
        contenders.main(["--threads=0"])


def test_a_call_of_several_images_is_divided_by_their_number():
    runs = {"one": (lambda: time.sleep(0.02), 1), "each of two": (lambda: time.sleep(0.02), 2)}
    times = contenders.in_turn(runs, rounds=1, times=2)
    assert min(times["one"]) >= 20 and min(times["each of two"]) < 20 <= 2 * min(times["each of two"])


REFUSED = """
import ctypes
from onebnet_jax.commands import contenders
arch_prctl = lambda code, value: ctypes.CDLL(None, use_errno=True).syscall(158, code, value)
before = arch_prctl(0x1022, ctypes.byref(ctypes.c_ulong())), arch_prctl(0x1023, 18)
contenders.refuse_amx()
print(*before, arch_prctl(0x1022, ctypes.byref(ctypes.c_ulong())), arch_prctl(0x1023, 18))
"""


@pytest.mark.skipif((platform.system(), platform.machine()) != ("Linux", "x86_64"), reason="there is no AMX")
def test_amx_is_refused_and_nothing_else():
    done = subprocess.run([sys.executable, "-c", REFUSED], capture_output=True, text=True, check=True)
    asked, wanted, asked_then, wanted_then = map(int, done.stdout.split())
    assert asked_then == asked and wanted_then == -1
    if wanted:
        pytest.skip("this CPU or kernel has no AMX to refuse")


@pytest.mark.slow
def test_all_of_them_run():
    pytest.importorskip("larq_compute_engine")
    assert len(contenders.in_turn(contenders.contenders(2), rounds=1, times=1)) >= 7
