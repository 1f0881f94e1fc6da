"""The table of runs side by side."""

import json

import pytest

from onebnet_jax import compare
from onebnet_jax import config as config_lib
from onebnet_jax.errors import UserError


def make_run(workdir, overrides, **stages):
    """A work directory as training leaves it; stages: name -> [(seconds, train Top-1, test Top-1 or None)] by epoch."""
    config = config_lib.override(config_lib.load("configs/quickstart.py"), overrides)
    for name, epochs in stages.items():
        (workdir / name).mkdir(parents=True)
        lines = []
        for epoch, (seconds, train, test) in enumerate(epochs, start=1):
            lines.append({"step": epoch, "split": "train", "epoch": epoch, "top1": train, "seconds": seconds})
            if test is not None:
                lines.append({"step": epoch, "split": "test", "epoch": epoch, "top1": test})
        (workdir / name / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    workdir.mkdir(exist_ok=True)
    (workdir / "config.json").write_text(config.to_json())
    return workdir


def test_runs_stand_side_by_side_with_what_differs(tmp_path):
    one = make_run(tmp_path / "one", [], train=[(1800, 60.0, 71.0), (1800, 65.0, 70.0), (1800, 66.0, None)])
    unused = ["--config.step1.epochs=3", "--config.model.estimator=clip"]
    two = make_run(tmp_path / "two", unused, train=[(3600, 50.0, 55.125)])
    assert compare.table([one, two]) == [
        ["run", "model.estimator", "epochs", "Top-1 last", "Top-1 best", "train Top-1", "hours"],
        ["one", "poly", "3 of 6", "70.00", "71.00", "66.00", "1.50"],
        ["two", "clip", "1 of 6", "55.12", "55.12", "50.00", "1.00"],
    ]


def test_a_run_in_stages_counts_whole_and_is_judged_by_its_last(tmp_path):
    overrides = ["--config.stages=('step1', 'step2')", "--config.step1.epochs=2", "--config.step2.epochs=2"]
    run = make_run(tmp_path / "run", overrides, step1=[(3600, 80.0, 90.0)] * 2, step2=[(3600, 70.0, 60.0)])
    assert compare.table([run])[1] == ["run", "3 of 4", "60.00", "60.00", "70.00", "3.00"]


def test_what_is_not_known_yet_is_a_dash(tmp_path):
    overrides = ["--config.stages=('step1', 'step2')", "--config.step1.epochs=2", "--config.step2.epochs=2"]
    first = make_run(tmp_path / "first", overrides, step1=[(3600, 80.0, 90.0)])
    second = make_run(tmp_path / "second", overrides, step1=[(3600, 80.0, 90.0)] * 2, step2=[(3600, 70.0, None)])
    assert compare.table([first, second])[1:] == [
        ["first", "1 of 4", "-", "-", "-", "1.00"],
        ["second", "3 of 4", "-", "-", "70.00", "3.00"],
    ]


def test_what_is_no_run_is_named_and_left_out(tmp_path, monkeypatch, capsys):
    """As `runs/*` may hold: logs, an archive, a teacher made of weights, a config of another version, a run's start."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a logs").mkdir()
    (tmp_path / "b.tar.gz").write_bytes(b"")
    make_run(tmp_path / "c teacher", ["--config.model.depth=34", "--config.model.ds_1d=()"])
    (make_run(tmp_path / "d other", []) / "config.json").write_text("{}")
    make_run(tmp_path / "e begun", [], train=[])
    make_run(tmp_path / "f run", [], train=[(1800, 60.0, 71.0)])
    others = [f"~/{path.name}" for path in sorted(tmp_path.iterdir())]
    compare.main(others)
    printed = capsys.readouterr()
    assert printed.out.splitlines()[2:] == ["f run  1 of 6       71.00       71.00        60.00   0.50"]
    lines = printed.err.splitlines()
    assert len(lines) == 5 and all(
        line.startswith("left out: ") and name in line for line, name in zip(lines, sorted("abcde"))
    )
    with pytest.raises(UserError, match="a logs is not the work directory of a run"):
        compare.main(others[:-1])


def test_a_line_cut_short_by_a_kill_is_left_out(tmp_path):
    run = make_run(tmp_path / "run", [], train=[(1800, 60.0, 71.0), (1800, 65.0, 70.0)])
    path = run / "train" / "metrics.jsonl"
    path.write_text(path.read_text()[:-9])
    assert compare.table([run])[1] == ["run", "2 of 6", "71.00", "71.00", "65.00", "1.00"]


def test_the_kept_results_are_runs(capsys):
    compare.main(["results/fashionmnist_ds32_64", "--markdown"])
    assert capsys.readouterr().out.splitlines()[-1].startswith("| fashionmnist_ds32_64 | 20 of 20 |")
