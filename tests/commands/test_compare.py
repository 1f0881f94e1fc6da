"""The table of runs side by side."""

import json

import pytest

from onebnet_jax.commands import compare
from onebnet_jax.errors import UserError
from onebnet_jax.runs import config as config_lib


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
    assert history.table(history.read([one, two])) == [
        ["run", "model.estimator", "epochs", "Top-1 last", "Top-1 best", "train Top-1", "hours"],
        ["one", "poly", "3 of 6", "70.00", "71.00", "66.00", "1.50"],
        ["two", "clip", "1 of 6", "55.12", "55.12", "50.00", "1.00"],
    ]


def test_a_run_in_stages_counts_whole_and_is_judged_by_its_last(tmp_path):
    overrides = ["--config.stages=('step1', 'step2')", "--config.step1.epochs=2", "--config.step2.epochs=2"]
    run = make_run(tmp_path / "run", overrides, step1=[(3600, 80.0, 90.0)] * 2, step2=[(3600, 70.0, 60.0)])
    assert history.table(history.read([run]))[1] == ["run", "3 of 4", "60.00", "60.00", "70.00", "3.00"]


def test_the_fields_of_a_stage_that_only_one_run_has_are_no_difference(tmp_path):
    one = make_run(tmp_path / "one", [], train=[(1800, 60.0, 71.0)])
    two = make_run(tmp_path / "two", ["--config.stages=('step1', 'step2')"], step1=[(1800, 60.0, 71.0)])
    assert history.table(history.read([one, two]))[0][1:-5] == ["stages"]


def test_what_is_not_known_yet_is_a_dash(tmp_path):
    overrides = ["--config.stages=('step1', 'step2')", "--config.step1.epochs=2", "--config.step2.epochs=2"]
    first = make_run(tmp_path / "first", overrides, step1=[(3600, 80.0, 90.0)])
    second = make_run(tmp_path / "second", overrides, step1=[(3600, 80.0, 90.0)] * 2, step2=[(3600, 70.0, None)])
    assert history.table(history.read([first, second]))[1:] == [
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
    assert history.table(history.read([run]))[1] == ["run", "2 of 6", "71.00", "71.00", "65.00", "1.00"]


def test_curves_count_epochs_through_all_stages(tmp_path):
    overrides = ["--config.stages=('step1', 'step2')", "--config.step1.epochs=2", "--config.step2.epochs=2"]
    stages = dict(step1=[(1, 80.0, None), (1, 85.0, 90.0)], step2=[(1, 70.0, 60.0), (1, 75.0, 65.0)])
    (run,) = compare.read([make_run(tmp_path / "run", overrides, **stages)])
    assert run.curve("train") == [(1, 80.0), (2, 85.0), (3, 70.0), (4, 75.0)]
    assert run.curve("test") == [(2, 90.0), (3, 60.0), (4, 65.0)]


def test_plot(tmp_path, monkeypatch):
    """Each run has a line of test and one of training images in one colour; one that was not evaluated yet, too."""
    drawn = []
    save = compare.figures.save
    monkeypatch.setattr(compare.figures, "save", lambda axes, path: (drawn.extend(axes.get_lines()), save(axes, path)))
    one = make_run(tmp_path / "one", [], train=[(1800, 60.0, 71.0), (1800, 65.0, 70.0)])
    two = make_run(tmp_path / "two", [], train=[(1800, 50.0, None)])
    compare.main([str(one), str(two), f"--plot={tmp_path / 'curves.png'}"])
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert [line.get_xydata().tolist() for line in drawn] == [[[1, 71], [2, 70]], [[1, 60], [2, 65]], [], [[1, 50]]]
    assert [line.get_label() for line in drawn[::2]] == ["one", "two"]
    assert drawn[0].get_color() == drawn[1].get_color() != drawn[2].get_color()


@pytest.mark.parametrize("file", ["nowhere/curves.png", "curves.nonsense"])
def test_a_plot_that_cannot_be_written(tmp_path, monkeypatch, file):
    run = make_run(tmp_path / "run", [], train=[(1800, 60.0, 71.0)])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=f"--plot={file} cannot be written"):
        compare.main([str(run), f"--plot={file}"])


def test_the_kept_results_are_runs(capsys):
    compare.main(["results/fashionmnist_ds32_64", "--markdown"])
    assert capsys.readouterr().out.splitlines()[-1].startswith("| fashionmnist_ds32_64 | 20 of 20 |")
