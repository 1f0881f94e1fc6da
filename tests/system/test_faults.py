"""Runs that are stopped, and disks that fail: made for real, with real signals and real file systems."""

import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import threading

import jax.numpy as jnp
import pytest
from small_runs import PROGRAM, QUICK, ROOT, assert_same_run, environment, lines, train

from onebnet_jax import errors, main
from onebnet_jax.runs import checkpoint, config
from onebnet_jax.training import feed, hosts, stage

pytestmark = pytest.mark.usefixtures("tiny")
FIELDS = QUICK | {"train.epochs": 3, "checkpoint_seconds": 1e6}


def command(workdir, **fields):
    fields = [f"--config.{name}={value}" for name, value in (FIELDS | fields).items()]
    return [f"--config={ROOT / 'configs' / 'quickstart.py'}", f"--workdir={workdir}", *fields]


@pytest.fixture(scope="module")
def quiet(tiny, tmp_path_factory):
    """The work directory of the run that nothing disturbs."""
    workdir = tmp_path_factory.mktemp("quiet")
    main.main(command(workdir))
    return workdir


@pytest.fixture
def harmless():
    """A signal that comes when the run has ended already does nothing."""
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.slow
def test_a_run_stopped_six_times_at_random_moments_ends_as_the_quiet_run(tmp_path, quiet, harmless, monkeypatch):
    """A signal comes when the processes agree whether to stop, or a few milliseconds later, in whatever follows."""
    chance, agree, left = random.Random(0), hosts.agree, 0

    def agree_and_signal(*values):
        nonlocal left
        left -= 1
        if left == 0:
            signalled = (os.getpid(), chance.choice((signal.SIGTERM, signal.SIGINT)))
            if chance.random() < 0.5:
                os.kill(*signalled)
            else:
                threading.Timer(chance.uniform(0, 5e-3), os.kill, signalled).start()
        return agree(*values)

    monkeypatch.setattr(hosts, "agree", agree_and_signal)
    for _ in range(6):
        left = chance.randint(1, 3)
        with pytest.raises(errors.Interrupted):
            main.main(command(tmp_path))
    main.main(command(tmp_path))
    assert_same_run(tmp_path, quiet)


# The command itself, which sends itself a signal before its third call to the devices, and waits for a line of input.
SIGNALLED = f"""
import os, signal
from onebnet_jax.training import stage
take_steps, calls = stage._Loop.take_steps, []

def signalled(*arguments):
    calls.append(0)
    for action in ACTIONS if len(calls) == 3 else ():
        input("waiting\\n") if action == "wait" else os.kill(os.getpid(), signal.Signals[action])
    return take_steps(*arguments)

stage._Loop.take_steps = signalled
{PROGRAM}
"""


@pytest.mark.parametrize(
    ("actions", "read_on"),
    [
        pytest.param(("SIGTERM", "wait"), True, id="its output is read", marks=pytest.mark.slow),
        pytest.param(("SIGINT", "wait"), False, id="its output is read until the signal", marks=pytest.mark.slow),
        pytest.param(("wait", "SIGINT"), False, id="its output is read no more"),
    ],
)
def test_a_stopped_process_leaves_a_checkpoint_and_exits_with_75(tmp_path, quiet, actions, read_on):
    """Also in `... 2>&1 | tee log`, where the same Ctrl-C ends tee, just before or just after the run hears of it."""
    process = subprocess.Popen(
        [sys.executable, "-c", f"ACTIONS = {actions}\n{SIGNALLED}", *command(tmp_path)],
        env=environment(devices=4),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    output = list(itertools.takewhile(lambda line: not line.endswith("waiting\n"), process.stdout))
    if not read_on:
        process.stdout.close()
    process.stdin.write("\n")
    process.stdin.close()
    output += process.stdout if read_on else []
    assert process.wait() == errors.INTERRUPTED, output
    if read_on:
        assert output[-1].startswith("interrupted: ") and "at step 5 of 24" in output[-1]
    assert [path.name for path in (tmp_path / "train" / "checkpoints" / "last").iterdir()] == ["5"]
    main.main(command(tmp_path))
    assert_same_run(tmp_path, quiet)


class StopAt:
    """Says to stop from the n-th time on that it is asked."""

    def __init__(self, n):
        self.left = n

    def __call__(self):
        self.left -= 1
        return self.left <= 0


# It asks before each call of an epoch (1 to 5, 9 to 12, 16 to 19), at its end, and before the two of an evaluation.
@pytest.mark.parametrize("asked", [8, *(pytest.param(each, marks=pytest.mark.slow) for each in (2, 6, 14, 22))])
def test_a_run_stopped_between_any_two_calls_ends_as_the_quiet_run(tmp_path, quiet, asked, monkeypatch):
    loaded, left = config.load("configs/quickstart.py", command(tmp_path)[2:]), iter(range(asked - 1))
    with pytest.raises(errors.Interrupted, match="the same command goes on from there"):
        train(loaded, tmp_path, stopping=lambda: next(left, None) is None)
    result = train(loaded, tmp_path)
    assert_same_run(tmp_path, quiet)
    monkeypatch.setattr(feed, "InMemory", Untrainable)
    assert train(loaded, tmp_path) == result  # all is done


class Untrainable(feed.InMemory):
    """Fails when anything is computed on it."""

    def trainer(self, *_):
        return None

    def scorer(self, *_):
        return None


def test_a_second_interrupt_stops_at_once(tmp_path, harmless, monkeypatch):
    def slow(*_):
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("went on")

    monkeypatch.setattr(feed.InMemory, "trainer", lambda *_: slow)
    with pytest.raises(KeyboardInterrupt):
        main.main(command(tmp_path))


def run(*shell, **env):
    """Runs a shell command in a file system name space of its own, where everything may be mounted."""
    isolated = ["unshare", "--user", "--map-root-user", "--mount", "bash", "-euc", *shell]
    return subprocess.run(
        isolated, env=environment(devices=1, **env), capture_output=True, text=True, cwd=ROOT, timeout=300
    )


def can_mount():
    return shutil.which("unshare") is not None and run("mount -t tmpfs none /mnt").returncode == 0


needs_mount = pytest.mark.skipif(not can_mount(), reason="needs unprivileged user name spaces, to mount a full disk")


def the_error(result):
    assert result.returncode in (errors.FAULT, errors.USER_ERROR), result.stderr
    (error,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    return error


@pytest.mark.slow
@needs_mount
def test_a_full_disk_costs_only_what_came_after_the_last_checkpoint(tmp_path):
    """The disk fills up in mid-run; with room made, the same command ends as a run that never met a full disk."""
    script = f"""
    mount -t tmpfs -o size=400k none "$DIR"
    head -c 250k /dev/zero >"$DIR/filler"
    train() {{ "{sys.executable}" -c "$PROGRAM" "$@" --config.checkpoint_seconds=0; }}
    train "$@" && exit 99 || status=$?
    ls "$DIR"/run/train/checkpoints/last >&2
    rm "$DIR/filler"
    mount -o remount,size=100m "$DIR"
    train "$@"
    cp -r "$DIR/run" "$COPY"
    exit $status
    """
    place = tmp_path / "disk"
    place.mkdir()
    result = run(script, "bash", *command(place / "run"), PROGRAM=PROGRAM, DIR=str(place), COPY=str(tmp_path / "copy"))
    error = the_error(result)
    assert "No space left on device" in error and "the same command" in error
    assert "Traceback" not in result.stderr and "Exception ignored" not in result.stderr  # Orbax has hundreds of them
    assert "resumed from the checkpoint of step" in result.stdout  # the second time
    assert [line["epoch"] for line in lines(tmp_path / "copy" / "train") if line["split"] == "test"] == [1, 2, 3]


@needs_mount
@pytest.mark.parametrize("begun", [False, True])
def test_a_disk_that_cannot_be_written_is_refused_before_any_work(tmp_path, begun, quiet):
    place = tmp_path / "disk"
    place.mkdir()
    if begun:
        shutil.copytree(quiet, place / "run")
    script = f"""
    mount --bind "$DIR" "$DIR"
    mount -o remount,bind,ro "$DIR"
    "{sys.executable}" -c "$PROGRAM" "$@"
    """
    result = run(script, "bash", *command(place / "run"), PROGRAM=PROGRAM, DIR=str(place))
    error = the_error(result)
    assert "Read-only file system" in error and str(place / "run") in error
    assert "Traceback" not in result.stderr and "img/s" not in result.stderr


def test_two_runs_in_one_work_directory_are_refused(tmp_path, quiet, monkeypatch):
    """The second is refused while the first trains, and what the first does is not touched."""
    refused, take_steps = [], stage._Loop.take_steps

    def second(*arguments):
        if not refused:
            program = [sys.executable, "-c", PROGRAM, *command(tmp_path)]
            refused.append(subprocess.run(program, env=environment(devices=4), capture_output=True, text=True))
        return take_steps(*arguments)

    monkeypatch.setattr(stage._Loop, "take_steps", second)
    main.main(command(tmp_path))
    assert f"{tmp_path} is in use by process {os.getpid()} on " in the_error(refused[0])
    assert_same_run(tmp_path, quiet)


@pytest.mark.slow
def test_a_lock_left_behind_by_a_killed_run_does_not_hold(tmp_path):
    (tmp_path / "lock").write_text("process 1 on another host\n")
    main.main(command(tmp_path, **{"train.epochs": 1}))


@pytest.mark.slow
def test_a_run_may_go_on_with_another_config_when_told_so(tmp_path, quiet):
    shutil.copytree(quiet, tmp_path / "run")
    longer = command(tmp_path / "run", **{"train.epochs": 4})
    with pytest.raises(errors.UserError, match=r"train.epochs \(3 there, 4 now\).*--change-config"):
        main.main(longer)
    main.main([*longer, "--change-config"])
    assert [line["epoch"] for line in lines(tmp_path / "run" / "train") if line["split"] == "test"] == [1, 2, 3, 4]
    assert '"epochs": 3' in (tmp_path / "run" / "config.0.json").read_text()
    main.main(longer)  # no longer another one


def test_a_run_cannot_go_on_with_another_network(tmp_path, quiet):
    shutil.copytree(quiet, tmp_path / "run")
    before = (tmp_path / "run" / "config.json").read_text()
    with pytest.raises(errors.UserError, match=r"model.depth \(20 there, 8 now\), .* another model.depth"):
        main.main([*command(tmp_path / "run", **{"model.depth": 8, "seed": 1}), "--change-config"])
    assert (tmp_path / "run" / "config.json").read_text() == before


def test_a_checkpoint_of_another_network_than_its_config_names_is_refused(tmp_path):
    loaded = config.load("configs/quickstart.py")
    (tmp_path / "config.json").write_text(loaded.to_json())
    checkpoints = checkpoint.Checkpoints(tmp_path / "train")
    for name in (checkpoint.BEST, checkpoint.LAST):
        checkpoints.save(name, 1, {"params": {"x": jnp.zeros(3)}, "batch_stats": {}}, {})
    checkpoints.close()
    for arguments in (["--mode=eval"], command(tmp_path / "new", **{"train.teacher_weight": 1.0, "teacher": tmp_path})):
        with pytest.raises(errors.UserError, match="has other parameters than its config.json needs, first"):
            main.main([f"--workdir={tmp_path}", *arguments])
    assert not (tmp_path / "new").exists()


def test_a_config_whose_network_is_another_one_cannot_go_on(tmp_path, quiet, monkeypatch):
    shutil.copytree(quiet, tmp_path / "run")
    checkpoints = tmp_path / "run" / "train" / "checkpoints" / "last"
    before = sorted(checkpoints.iterdir())
    first_state = stage.Learner.first_state

    def wider(*arguments):
        state = first_state(*arguments)
        return state.replace(params=state.params | {"more": jnp.zeros(())})

    monkeypatch.setattr(stage.Learner, "first_state", wider)
    with pytest.raises(errors.UserError, match="None of the checkpoints in .* can be read"):
        main.main(command(tmp_path / "run"))
    assert sorted(checkpoints.iterdir()) == before
