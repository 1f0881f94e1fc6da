"""The command contenders: who runs when, and the table."""

import pytest

from onebnet_jax.commands import contenders


def test_they_take_turns():
    calls = []
    runs = {name: lambda name=name: calls.append(name) for name in "ab"}
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


@pytest.mark.slow
def test_all_of_them_run():
    pytest.importorskip("larq_compute_engine")
    assert len(contenders.in_turn(contenders.contenders(1), rounds=1, times=1)) >= 5
