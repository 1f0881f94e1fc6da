"""Work directories: which run may go on in one, and that one run at a time holds it."""

import errno
import fcntl
import hashlib
import json
import os

import jax
import pytest

import onebnet_jax
from onebnet_jax import surroundings
from onebnet_jax.errors import Unavailable, UserError
from onebnet_jax.runs import config
from onebnet_jax.runs.workdir import Workdir, code_of


def workdir(folder, *fields, change_config=False):
    return Workdir(
        folder, config.load("configs/quickstart.py", [f"--config.{field}" for field in fields]), change_config
    )


def epochs(path):
    return json.loads(path.read_text())["train"]["epochs"]


def test_another_config_goes_on_only_where_that_is_asked_for(tmp_path):
    workdir(tmp_path).write_config()
    with pytest.raises(UserError, match=r"train.epochs \(6 there, 9 now\), train.optimizer .*--change-config"):
        workdir(tmp_path, "train.epochs=9", "train.optimizer=lion").check()
    assert workdir(tmp_path, "train.optimizer=lion", change_config=True).check().keys() == {"train.optimizer"}
    workdir(tmp_path, "checkpoint_seconds=1").write_config()  # when to save is no other config
    assert config.load_json(tmp_path / "config.json").checkpoint_seconds == 1
    for number, (before, after) in enumerate([(6, 9), (9, 12)]):
        workdir(tmp_path, f"train.epochs={after}", change_config=True).write_config()
        assert (epochs(tmp_path / f"config.{number}.json"), epochs(tmp_path / "config.json")) == (before, after)
    written = (tmp_path / "config.json").stat().st_mtime_ns
    workdir(tmp_path, "train.epochs=12").write_config()
    assert (tmp_path / "config.json").stat().st_mtime_ns == written
    assert sorted(path.name for path in tmp_path.glob("config*")) == ["config.0.json", "config.1.json", "config.json"]


def test_the_same_folder_may_be_spelled_otherwise(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    run = tmp_path / "run"
    run.mkdir()
    workdir(run, f"data.dir={tmp_path}/data").write_config()
    for spelled in (f"{tmp_path}/data/", "~/data", f"{tmp_path}/other/../data"):
        assert workdir(run, f"data.dir={spelled}").check() == {}
    with pytest.raises(UserError, match="data.dir .*another"):
        workdir(run, f"data.dir={tmp_path}/another").check()


def test_other_code_of_ones_own_goes_on_only_where_that_is_asked_for(tmp_path):
    """One function under one name, or two: config.json does not tell."""

    def begun(code, **options):
        Workdir(tmp_path, config.load("configs/quickstart.py"), code=code, **options).write_config()
        lines = (tmp_path / "versions.jsonl").read_text().splitlines()
        return [json.loads(line)["config.py"] for line in lines], code_of(tmp_path)

    one, two = (hashlib.sha256(code).hexdigest() for code in (b"# one", b"# two"))
    assert begun(b"# one") == ([one], b"# one") == begun(b"# one")
    for other, now in ((b"# two", two[:8]), (None, "none")):
        with pytest.raises(UserError, match=rf"config.py \(sha256 {one[:8]} there, {now} now\).*--change-config"):
            begun(other)
    assert code_of(tmp_path) == b"# one"
    assert begun(b"# two", change_config=True) == ([one, two], b"# two")
    assert (tmp_path / "config.0.py").read_bytes() == b"# one" and (tmp_path / "config.0.json").exists()
    assert begun(None, change_config=True) == ([one, two, None], None)
    with pytest.raises(UserError, match=rf"config.py \(sha256 none there, {one[:8]} now\)"):
        begun(b"# one")


@pytest.mark.parametrize("left", ["config.json", "config.py"], ids=["an earlier version", "a start that was killed"])
def test_a_run_that_had_no_code_so_far_begins_to_keep_it(left, tmp_path):
    loaded = config.load("configs/quickstart.py")
    (tmp_path / left).write_text(loaded.to_json())
    Workdir(tmp_path, loaded, code=b"# own").write_config()
    assert code_of(tmp_path) == b"# own" and not (tmp_path / "config.0.json").exists()


def test_what_made_a_run_is_written_down_where_it_changes(tmp_path, monkeypatch):
    def commits():
        workdir(tmp_path).write_config()
        return [json.loads(line)["commit"] for line in (tmp_path / "versions.jsonl").read_text().splitlines()]

    (commit,) = commits()
    assert commit == surroundings.commit() and commits() == [commit]
    monkeypatch.setattr(surroundings, "commit", lambda: "later")
    assert commits() == [commit, "later"]
    line = json.loads((tmp_path / "versions.jsonl").read_text().splitlines()[-1])
    assert (line["jax"], line["onebnet_jax"]) == (jax.__version__, onebnet_jax.__version__)


@pytest.mark.parametrize(
    "field",
    [
        *("model.width_multiplier=0.5", "model.depth=8", "model.stem=imagenet", "model.ds_1d=()"),
        *("data.name=fashion_mnist", "train.batch_size=32", "stages=('step1',)"),
    ],
)
def test_what_a_step_and_its_parameters_are_never_changes(field, tmp_path):
    workdir(tmp_path).write_config()
    for change_config in (False, True):
        with pytest.raises(UserError, match=field.partition("=")[0]) as error:
            workdir(tmp_path, field, change_config=change_config).write_config()
        assert "--change-config" not in str(error.value)
    assert config.load_json(tmp_path / "config.json") == workdir(tmp_path).config


def test_a_file_elsewhere_is_not_blamed_on_the_work_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_DUMP_IR_TO", "/proc/nowhere")
    for place, said in (("/proc/nowhere/x", r"^/proc/nowhere/x \(JAX_DUMP_IR_TO\) cannot"), ("run/x", "^The work")):
        path = place if place.startswith("/") else str(tmp_path / place)
        with pytest.raises(UserError, match=said), workdir(tmp_path / "run").opened():
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", path)


def test_weights_from_elsewhere_are_never_trained_on(tmp_path):
    (tmp_path / "weights.json").write_text("{}")
    with pytest.raises(UserError, match=f"{tmp_path} holds weights from elsewhere"):
        workdir(tmp_path).check()


def test_one_run_at_a_time_holds_it(tmp_path):
    in_use = pytest.raises(Unavailable, match=f"run is in use by process {os.getpid()} on ")
    with workdir(tmp_path / "run").opened(), in_use:
        workdir(tmp_path / "run").opened().__enter__()
    with workdir(tmp_path / "run").opened():
        pass


@pytest.mark.parametrize("folder", ["file", "file/run"])
def test_a_folder_that_cannot_be_used_is_named(folder, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=f"work directory {tmp_path}/{folder} cannot be used"):
        workdir(tmp_path / folder).opened().__enter__()


def test_what_the_system_says_while_a_run_holds_it_is_told(tmp_path):
    with pytest.raises(UserError, match=f"{tmp_path} cannot be used: No space left"), workdir(tmp_path).opened():
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(BrokenPipeError), workdir(tmp_path).opened():  # of the output
        raise BrokenPipeError


def test_the_last_step(tmp_path):
    assert workdir(tmp_path).last_step("train") == 0
    for name in ("last/7", "last/12", "best/9", "last/15.orbax-checkpoint-tmp"):
        (tmp_path / "train" / "checkpoints" / name).mkdir(parents=True)
    steps = [workdir(tmp_path).last_step("train", *kind) for kind in ([], ["last"], ["best"], ["pending"])]
    assert steps == [12, 12, 9, 0]


def test_a_file_system_without_locks_is_said(tmp_path, monkeypatch, capsys):
    def refuse(*_):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with workdir(tmp_path).opened():
        assert (tmp_path / "lock").exists()
    assert "has no locks (Function not implemented)" in capsys.readouterr().err
