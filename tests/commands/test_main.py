"""The command line, in this process except for one start of the module itself."""

import os
import subprocess
import sys

import pytest
from small_runs import QUICK, ROOT

from onebnet_jax import errors, main
from onebnet_jax.runs import metrics, trained

pytestmark = pytest.mark.usefixtures("tiny")
QUICKSTART = f"--config={ROOT / 'configs' / 'quickstart.py'}"


@pytest.fixture
def command(tmp_path, monkeypatch, capfd):
    """Runs the command in an empty folder: arguments -> (exit status, standard output, standard error)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(ROOT))

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["onebnet_jax.main", *arguments])
        capfd.readouterr()
        try:
            errors.cli(main.main)
            status = 0
        except SystemExit as end:
            status = end.code
        return (status, *capfd.readouterr())

    return run


FIELDS = QUICK | {"train.epochs": 1}
TRAIN_ONE_EPOCH = (QUICKSTART, *(f"--config.{name}={value}" for name, value in FIELDS.items()))


def test_train_then_evaluate_in_a_folder_named_after_the_config(command, tmp_path):
    status, out, _ = command(*TRAIN_ONE_EPOCH)
    assert status == 0
    assert "work directory: runs/quickstart" in out.splitlines()
    workdir = tmp_path / "runs" / "quickstart"
    scores = metrics.read(workdir / "train" / "metrics.jsonl")[-1]
    words = f"test Top-1 {scores['top1']:.2f} %, Top-5 {scores['top5']:.2f} %, loss {scores['loss']:.4f}"
    best = f"best: epoch 1, test Top-1 {scores['top1']:.2f} % (chosen on the test images); "
    assert out.splitlines()[-2] == f"epoch 1: {words}" and out.splitlines()[-1].startswith(best)
    again = command(*TRAIN_ONE_EPOCH)  # finds the work done
    assert again[0] == 0 and again[1].splitlines()[-2:] == out.splitlines()[-2:]
    for arguments, which in (
        ([QUICKSTART], "best"),
        (["--workdir=runs/quickstart", "--stage=train"], "best"),
        ([QUICKSTART, "--checkpoint=last"], "last"),
    ):
        status, out, _ = command("--mode=eval", *arguments)
        assert status == 0 and out.splitlines()[-1] == f"{which} checkpoint, step 8: {words}"


@pytest.mark.parametrize(
    ("arguments", "named"),  # of what a config may hold, one row: tests/runs/test_config.py has the others
    [
        (["--config=nothing.py"], "nothing.py"),
        ([QUICKSTART, "--config.train.zzzz=1"], "'train.zzzz'"),
        ([QUICKSTART, "--config.train.batch_size=6"], "train.batch_size=6 cannot be shared equally by 4 devices"),
        ([QUICKSTART, "--config.train.batch_size=8000"], "train.batch_size=8000"),
        # Before anything is looked for or downloaded.
        ([QUICKSTART, "--config.data.name=cifar10", "--config.train.batch_size=50004"], "more than all 50000 training"),
        ([QUICKSTART, "--config.model.depth=19"], "model.depth=19"),
        ([QUICKSTART, "--config.data.dir=nowhere"], "data.dir"),
        ([QUICKSTART, "--config.data.name=cifar10", "--config.data.dir=nowhere"], "data.dir='nowhere'"),
        ([QUICKSTART, "--config.data.name=cifar10", "--config.data.source=tfds"], "CIFAR-10 was not found"),
        ([QUICKSTART, "--config.train.teacher_weight=1"], "teacher"),
        ([QUICKSTART, "--config.train.teacher_weight=1", "--config.teacher=nowhere"], "nowhere"),
        ([QUICKSTART, "--zzzz=1"], "zzzz"),
        ([QUICKSTART, "--data=screws"], "here perhaps --config.data.dir=screws."),
        ([QUICKSTART, "--epochs=3"], "here perhaps --config.train.epochs=3."),
        ([QUICKSTART, "zzzz"], "'zzzz'"),
        (["--mode=eval", QUICKSTART], "runs/quickstart"),
        (["--mode=eval", "--workdir=nowhere"], "nowhere"),
        (["--mode=eval", "--workdir=nowhere", "--config.data.dir=x"], "nowhere"),
    ],
)
def test_a_bad_command_line_ends_with_one_sentence_before_any_work(command, tmp_path, monkeypatch, arguments, named):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    status, out, err = command(*arguments)
    assert status == 2
    assert err.startswith("error: ") and err.count("\n") == 1 and named in err
    assert out == "" and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments", [[], ["--mode=test", QUICKSTART], ["--config"], ["--mode=eval"], ["--workdir=", QUICKSTART]]
)
def test_what_the_parser_refuses_names_the_option(command, arguments, tmp_path):
    status, out, err = command(*arguments)
    assert status == 2 and out == ""
    last = err.splitlines()[-1]
    assert "error: " in last and "Traceback" not in err
    assert any(option in last for option in ("--mode", "--config", "--workdir"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "option", "remedy"),
    [
        ([QUICKSTART, "--checkpoint=last"], "--checkpoint", "--mode=eval"),
        ([QUICKSTART, "--mode=train", "--checkpoint=best"], "--checkpoint", "--mode=eval"),
        ([QUICKSTART, "--bn-batches=3"], "--bn-batches", "--mode=eval"),
        ([QUICKSTART, "--stage=step1"], "--stage", "--mode=eval"),
        ([QUICKSTART, "--wrong=w.tsv"], "--wrong", "--mode=eval"),
        (["--mode=eval", "--workdir=here", "--change-config"], "--change-config", "training"),
    ],
)
def test_an_option_of_the_other_mode_is_refused(command, arguments, option, remedy, tmp_path):
    status, out, err = command(*arguments)
    assert status == 2 and out == "" and list(tmp_path.iterdir()) == []
    assert f"error: {option} is for " in err.splitlines()[-1] and remedy in err.splitlines()[-1]


def test_an_evaluation_takes_the_config_of_its_run(command, tmp_path):
    status, out, err = command("--mode=eval", QUICKSTART, "--workdir=here")
    assert status == 2 and out == "" and list(tmp_path.iterdir()) == []
    assert "error: --config beside --workdir" in err.splitlines()[-1]


@pytest.mark.slow
def test_an_evaluation_with_new_statistics_says_so(command):
    assert command(*TRAIN_ONE_EPOCH, "--workdir=here")[0] == 0
    status, out, _ = command("--mode=eval", "--workdir=here", "--bn-batches=8")
    assert status == 0
    assert out.splitlines()[-1].startswith("best checkpoint, step 8, BN statistics after 8 batches: test Top-1 ")
    status, _, err = command("--mode=eval", "--workdir=here", "--bn-batches=9")
    assert status == 2 and "--bn-batches=9 is more than the 8" in err.splitlines()[-1]
    status, _, err = command("--mode=eval", "--workdir=here", "--bn-batches=-1")
    assert status == 2 and "error: --bn-batches" in err.splitlines()[-1]


def test_a_work_directory_in_the_home_folder(command, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert command(*TRAIN_ONE_EPOCH, "--workdir=~/run")[0] == 0
    assert [path.name for path in tmp_path.iterdir()] == ["home"]
    assert (tmp_path / "home" / "run" / "train" / "metrics.jsonl").exists()
    assert command("--mode=eval", "--workdir=~/run")[0] == 0
    assert trained.load("~/run").origin["step"] == 8  # as the teacher of a config is read


def test_the_module_starts_from_the_shell(tmp_path):
    command = [sys.executable, "-m", "onebnet_jax.main", QUICKSTART, "--config.model.depht=8"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert result.returncode == 2
    assert result.stderr.startswith("error: There is no field 'model.depht' (did you mean 'model.depth'?)")
    assert result.stderr.count("\n") == 1
