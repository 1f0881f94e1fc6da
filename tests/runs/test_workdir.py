"""Work directories: which run may go on in one, and that one run at a time holds it."""

import errno
import json
import os
import subprocess
import sys

import pytest

from onebnet_jax.errors import Unavailable, UserError
from onebnet_jax.runs import config
from onebnet_jax.runs.workdir import Workdir


def workdir(folder, *fields, path="configs/quickstart.py", change_config=False):
    return Workdir(folder, config.load(path, [f"--config.{field}" for field in fields]), change_config)


def snapshot(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_config_is_written_once(tmp_path):
    assert workdir(tmp_path / "run").check() == {} and not (tmp_path / "run").exists()
    with workdir(tmp_path / "run").opened():
        workdir(tmp_path / "run").write_config()
    before = snapshot(tmp_path)
    assert workdir(tmp_path / "run").check() == {}
    workdir(tmp_path / "run").write_config()
    assert snapshot(tmp_path) == before
    assert config.load_json(tmp_path / "run" / "config.json") == config.load("configs/quickstart.py")


def test_another_config_goes_on_only_where_that_is_asked_for(tmp_path):
    workdir(tmp_path).write_config()
    before, longer = snapshot(tmp_path), ("train.epochs=9", "train.optimizer=lion")
    with pytest.raises(UserError, match=r"train.epochs \(6 there, 9 now\), train.optimizer .*--change-config"):
        workdir(tmp_path, *longer).write_config()
    assert snapshot(tmp_path) == before
    assert workdir(tmp_path, *longer, change_config=True).check().keys() == {"train.epochs", "train.optimizer"}
    for number, epochs in enumerate((9, 12)):
        workdir(tmp_path, f"train.epochs={epochs}", change_config=True).write_config()
        old = json.loads((tmp_path / f"config.{number}.json").read_text())
        assert old["train"]["epochs"] == (6, 9)[number]
    assert config.load_json(tmp_path / "config.json").train.epochs == 12 and len(list(tmp_path.iterdir())) == 3


def test_when_to_save_is_no_other_config(tmp_path):
    workdir(tmp_path).write_config()
    workdir(tmp_path, "checkpoint_seconds=1").write_config()
    assert config.load_json(tmp_path / "config.json").checkpoint_seconds == 1 and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    "fields",
    [
        ["model.width_multiplier=0.5"],
        ["model.depth=8"],
        ["model.family=birealnet", "model.ds_1d=()"],
        ["data.name=fashion_mnist"],
        ["train.batch_size=32"],
        ["stages=('step1',)"],
    ],
)
def test_what_a_step_and_its_parameters_are_never_changes(fields, tmp_path):
    workdir(tmp_path).write_config()
    before = snapshot(tmp_path)
    for change_config in (False, True):
        with pytest.raises(UserError, match=fields[0].partition("=")[0]) as error:
            workdir(tmp_path, *fields, change_config=change_config).write_config()
        assert "--change-config" not in str(error.value)
    assert snapshot(tmp_path) == before


def test_weights_from_elsewhere_are_never_trained_on(tmp_path):
    (tmp_path / "weights.json").write_text("{}")
    with pytest.raises(UserError, match=f"{tmp_path} holds weights from elsewhere"):
        workdir(tmp_path).check()


HOLD = """
import sys
from onebnet_jax.runs import config
from onebnet_jax.runs.workdir import Workdir
import pathlib
with Workdir(pathlib.Path(sys.argv[1]), config.load("configs/quickstart.py")).opened():
    print("held", flush=True)
    sys.stdin.read()
"""


def test_one_run_at_a_time_holds_it(tmp_path):
    """However that one ends: the system lets go of its lock."""
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], **pipes) as holder:
        assert holder.stdout.readline() == "held\n"
        with (
            pytest.raises(Unavailable, match=f"{tmp_path} is in use by process {holder.pid} on "),
            workdir(tmp_path).opened(),
        ):
            pass
        holder.kill()
        holder.wait()
    with workdir(tmp_path).opened():
        assert f"process {os.getpid()} on" in (tmp_path / "lock").read_text()


@pytest.mark.parametrize("folder", ["file", "file/run"])
def test_a_folder_that_cannot_be_used_is_named(folder, tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(UserError, match=f"work directory {tmp_path}/{folder} cannot be used"),
        workdir(tmp_path / folder).opened(),
    ):
        pass


def test_a_full_disk_while_a_run_holds_it_is_told_in_one_sentence(tmp_path):
    with pytest.raises(UserError, match=f"{tmp_path} cannot be used: No space left"), workdir(tmp_path).opened():
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(BrokenPipeError), workdir(tmp_path).opened():  # of the output
        raise BrokenPipeError


def test_the_last_step(tmp_path):
    assert workdir(tmp_path).last_step("train") == 0
    for name in ("last/7", "last/12", "best/9", "last/15.orbax-checkpoint-tmp"):
        (tmp_path / "train" / "checkpoints" / name).mkdir(parents=True)
    assert [workdir(tmp_path).last_step("train", *kind) for kind in ([], ["last"], ["best"], ["pending"])] == [
        12,
        12,
        9,
        0,
    ]
