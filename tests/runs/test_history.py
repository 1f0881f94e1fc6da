"""Runs side by side: what differs in their configs, and what they measured."""

import hashlib
import json
from pathlib import Path

import pytest
from workdirs import IN_STAGES, measured

from onebnet_jax.errors import UserError
from onebnet_jax.runs import history, metrics


def test_runs_stand_side_by_side_with_what_differs(tmp_path):
    one = measured(tmp_path / "one", train=[(1800, 60.0, 71.0), (1800, 65.0, 70.0), (1800, 66.0, None)])
    unused = ["--config.step1.epochs=3", "--config.model.estimator=clip"]
    two = measured(tmp_path / "two", unused, train=[(3600, 50.0, 55.125)])
    assert history.table(history.read([one, two])) == [
        ["run", "model.estimator", "epochs", "Top-1 last", "Top-1 best", "train Top-1", "hours"],
        ["one", "poly", "3 of 6", "70.00", "71.00", "66.00", "1.50"],
        ["two", "clip", "1 of 6", "55.12", "55.12", "50.00", "1.00"],
    ]


def test_best_is_what_the_validation_images_chose(tmp_path):
    run = measured(tmp_path / "run", train=[(1, 50.0, 70.0), (1, 50.0, 65.0), (1, 50.0, 60.0)])
    lines, validated = metrics.read(run / "train" / "metrics.jsonl"), iter((40.0, 45.0, 45.0))
    lines = [x | {"validation_top1": next(validated)} if x["split"] == "test" else x for x in lines]
    (run / "train" / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    (_, row) = history.table(history.read([run]))
    assert row[2:4] == ["60.00", "60.00"]  # the later of two equals, as `record` keeps it


def test_runs_that_differ_in_their_seed_share_a_row(tmp_path):
    """The sample's deviation: of 70 and 72 it is the root of 2."""
    scores = {"clip_0": (0, "clip", 70.0), "poly_0": (0, "poly", 60.0), "clip_1": (1, "clip", 72.0)}
    for name, (seed, estimator, top1) in scores.items():
        fields = [f"--config.seed={seed}", f"--config.model.estimator={estimator}"]
        measured(tmp_path / name, fields, train=[(3600, 50.0, top1)] * (1 + seed))
    assert history.table(history.read([tmp_path / name for name in scores]), over_seeds=True)[1:] == [
        ["clip_*", "clip", "2", "1 of 6", "71.00 ± 1.41", "71.00 ± 1.41", "50.00 ± 0.00", "1.50 ± 0.71"],
        ["poly_0", "poly", "1", "1 of 6", "60.00", "60.00", "50.00", "1.00"],
    ]


def test_runs_of_the_same_seed_are_no_two_samples(tmp_path):
    runs = [measured(tmp_path / name, train=[(1, 50.0, 60.0)]) for name in ("one", "two")]
    with pytest.raises(UserError, match="/one and .*/two have the same seed, 0; "):
        history.table(history.read(runs), over_seeds=True)
    assert len(history.table(history.read(runs))) == 3


def test_runs_of_other_code_never_share_a_row(tmp_path):
    """Two functions may have had the same name, one after the other."""
    runs = [measured(tmp_path / f"own_{seed}", [f"--config.seed={seed}"], train=[(1, 50.0, 60.0)]) for seed in range(3)]
    for run, code in zip(runs, (b"# one", b"# two", b"# two")):
        (run / "config.py").write_bytes(code)
    header, *rows = history.table(history.read(runs), over_seeds=True)
    assert header[:3] == ["run", "config.py", "seeds"]
    one, two = (hashlib.sha256(code).hexdigest()[:8] for code in (b"# one", b"# two"))
    assert [row[:3] for row in rows] == [["own_0", one, "1"], ["own_*", two, "2"]]


def test_a_run_with_an_estimator_of_ones_own_is_compared_but_not_built(tmp_path, capsys):
    """The command knows nothing of the code that added it; a stage that is not there would be a path elsewhere."""
    for name, changed in {
        "own": ('"poly"', '"steeper"'),
        "wrong": ('"stages": ["train"]', '"stages": ["../own"]'),
    }.items():
        config = measured(tmp_path / name, train=[(3600, 50.0, 70.0)]) / "config.json"
        before, after = changed
        assert before in config.read_text()
        config.write_text(config.read_text().replace(before, after))
    runs = [tmp_path / "own", measured(tmp_path / "poly", train=[(3600, 50.0, 60.0)]), tmp_path / "wrong"]
    assert [row[:2] for row in history.table(history.read(runs))[1:]] == [["own", "steeper"], ["poly", "poly"]]
    assert "wrong" in capsys.readouterr().err
    assert [run.name for run in history.read(runs, built=True)] == ["poly"]
    assert "if code of your own adds it, say --import=FILE.py" in capsys.readouterr().err
    (tmp_path / "own" / "config.py").touch()
    history.read(runs, built=True)
    assert f"--import={tmp_path}/own/config.py" in capsys.readouterr().err


def test_a_run_in_stages_counts_whole_and_is_judged_by_its_last(tmp_path):
    """Fields of stages that one of the runs has not are no difference; what is not known yet is a dash."""
    whole = measured(tmp_path / "a", IN_STAGES, step1=[(3600, 80.0, 90.0)] * 2, step2=[(3600, 70.0, 60.0)])
    first = measured(tmp_path / "b", IN_STAGES, step1=[(3600, 80.0, 90.0)])
    unscored = measured(tmp_path / "c", IN_STAGES, step1=[(3600, 80.0, 90.0)] * 2, step2=[(3600, 70.0, None)])
    other = measured(tmp_path / "d", train=[(1800, 60.0, 71.0)])
    header, *rows = history.table(history.read([whole, first, unscored, other]))
    assert header[1:-5] == ["stages"]
    assert [row[2:] for row in rows] == [
        ["3 of 4", "60.00", "60.00", "70.00", "3.00"],
        ["1 of 4", "-", "-", "-", "1.00"],
        ["3 of 4", "-", "-", "70.00", "3.00"],
        ["1 of 6", "71.00", "71.00", "60.00", "0.50"],
    ]
    (run,) = history.read([whole])
    assert run.curve("train") == [(1, 80.0), (2, 80.0), (3, 70.0)] and run.curve("test")[-1] == (3, 60.0)


def test_what_is_no_run_is_named_and_left_out(tmp_path, capsys):
    """As `runs/*` may hold: logs, an archive, a teacher made of weights, a config of another version, a run's start."""
    (tmp_path / "a logs").mkdir()
    (tmp_path / "b.tar.gz").write_bytes(b"")
    measured(tmp_path / "c teacher", ["--config.model.depth=34", "--config.model.ds_1d=()"])
    (measured(tmp_path / "d other") / "config.json").write_text("{}")
    measured(tmp_path / "e begun", train=[])
    measured(tmp_path / "f run", train=[(1800, 60.0, 71.0)])
    *others, run = sorted(tmp_path.iterdir())
    assert [found.name for found in history.read([*others, run])] == ["f run"]
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 5 and all(str(path) in line for line, path in zip(lines, others))
    with pytest.raises(UserError, match="a logs is not the work directory of a run"):
        history.read(others)


def test_the_kept_results_are_runs():
    runs = history.read([Path("results/fashionmnist_ds32_64_e20"), Path("results/fashionmnist_fp32_e20")])
    rows = {row[0]: row[-5:-1] for row in history.table(runs)}
    assert rows["fashionmnist_ds32_64_e20"][:3] == ["20 of 20", "92.31", "92.31"]
    assert rows["fashionmnist_fp32_e20"][:3] == ["20 of 20", "92.02", "92.08"]
