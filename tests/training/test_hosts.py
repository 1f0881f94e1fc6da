"""Two real processes on loopback against one: the same run, and what happens when one of them is lost or stopped."""

import re
import signal
import socket
import subprocess
import sys
import threading
import time

import jax
import numpy as np
import pytest
from small_runs import PROGRAM, ROOT, environment, final, free_port, lines

from onebnet_jax.errors import Unavailable, UserError
from onebnet_jax.training import hosts

FIELDS = {"train.batch_size": 500, "train.epochs": 2, "data.crop_padding": 2, "data.flip": True}


def start(*arguments, patience="", **fields):
    """Starts the command on two fake devices; `patience` is code that changes how long it waits for others."""
    fields = [f"--config.{name}={value}" for name, value in fields.items()]
    program = f"from onebnet_jax.training import hosts; {patience}\n{PROGRAM}"
    config = [] if "--mode=eval" in arguments else ["--config=configs/quickstart.py"]
    command = [sys.executable, "-c", program, *config, *arguments, *fields]
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return subprocess.Popen(command, cwd=ROOT, env=environment(devices=2), **pipes)


def start_two(*arguments, **options):
    """Starts the first and the second of two processes."""
    flags = [f"--coordinator=127.0.0.1:{free_port()}", "--processes=2"]
    return [start(*flags, f"--process={index}", *arguments, **options) for index in range(2)]


def ends(*processes):
    """[(exit status, standard output, standard error)]"""
    texts = [process.communicate(timeout=300) for process in processes]
    return [(process.returncode, *text) for process, text in zip(processes, texts)]


def wait_for_checkpoint(workdir, step):
    last = workdir / "train" / "checkpoints" / "last"
    limit = time.monotonic() + 300
    while not (last.is_dir() and any(path.name.isdigit() and int(path.name) >= step for path in last.iterdir())):
        assert time.monotonic() < limit
        time.sleep(0.02)


def assert_close_runs(workdir, other):
    """Equal up to rounding, as another order of summation leaves it."""
    for mine, its in zip(lines(workdir / "train"), lines(other / "train"), strict=True):
        assert (mine.keys(), mine["step"], mine["split"]) == (its.keys(), its["step"], its["split"])
        assert mine["loss"] == pytest.approx(its["loss"], rel=1e-4)
        assert mine["top1"] == pytest.approx(its["top1"], abs=0.21)  # 2 of 1000 test images
    (_, mine, _), (_, its, _) = final(workdir / "train")[0], final(other / "train")[0]
    np.testing.assert_allclose(mine["params"]["head"]["kernel"], its["params"]["head"]["kernel"], atol=1e-4)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The work directory of the run in one process on two devices."""
    workdir = tmp_path_factory.mktemp("alone")
    ((status, _, error),) = ends(start(f"--workdir={workdir}", **FIELDS))
    assert status == 0, error
    return workdir


@pytest.mark.slow
def test_two_processes_give_the_run_of_one(tmp_path, alone):
    (status, out, error), (status_1, out_1, error_1) = ends(*start_two(f"--workdir={tmp_path}", **FIELDS))
    assert (status, status_1) == (0, 0), error + error_1
    assert "4 x cpu in 2 processes" in out and out.splitlines()[-2].startswith("epoch 2: test Top-1")
    reported = [line for line in out_1.splitlines() if not line.startswith("[Gloo]")]  # newer JAX's collectives
    assert reported == [] and "img/s" not in error_1  # one of them reports
    assert_close_runs(tmp_path, alone)
    evaluation = ["--mode=eval", f"--workdir={tmp_path}", "--bn-batches=4"]
    (_, evaluated, error), _, (_, by_one, _) = ends(*start_two(*evaluation), start(*evaluation))
    assert ", BN statistics after 4 batches: test Top-1" in evaluated.splitlines()[-1], error
    losses = [float(text.rpartition(" ")[2]) for text in (evaluated, by_one)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    shown = [[sum(map(int, row.split()[-12:-2])) for row in text.splitlines()[-12:-2]] for text in (evaluated, by_one)]
    assert shown[0] == shown[1] and sum(shown[0]) == 1000  # images of each class, in the table of confusions


@pytest.mark.slow
def test_a_run_goes_on_with_another_number_of_processes(tmp_path, alone):
    fields = FIELDS | {"checkpoint_seconds": 0.0}
    two = start_two(f"--workdir={tmp_path}", **fields)
    wait_for_checkpoint(tmp_path, 3)
    two[1].send_signal(signal.SIGTERM)  # one of them is enough
    assert [status for status, _, _ in ends(*two)] == [75, 75]
    ((status, out, error),) = ends(start(f"--workdir={tmp_path}", **fields))
    assert status == 0, error
    assert "resumed from the checkpoint of step" in out
    assert_close_runs(tmp_path, alone)


@pytest.mark.slow
def test_the_loss_of_a_process_ends_the_other(tmp_path):
    """Two runs at once: one loses its first process, one its second."""
    fields = FIELDS | {"train.epochs": 10**5, "checkpoint_seconds": 0.0}
    patience = "hosts.HEARTBEAT_SECONDS = 10"
    runs = [start_two(f"--workdir={tmp_path / str(lost)}", patience=patience, **fields) for lost in (0, 1)]
    for lost, two in enumerate(runs):
        wait_for_checkpoint(tmp_path / str(lost), 2)
        two[lost].kill()
    for lost, two in enumerate(runs):
        ended = ends(*two)
        assert ended[lost][0] == -signal.SIGKILL
        status, _, error = ended[1 - lost]
        assert status in (1, -signal.SIGABRT)
        assert hosts.LOST in error.splitlines()


@pytest.mark.slow
def test_the_first_process_does_not_wait_for_ever(tmp_path):
    coordinator = f"127.0.0.1:{free_port()}"
    flags = [f"--coordinator={coordinator}", "--processes=2", "--process=0", f"--workdir={tmp_path}"]
    ((status, _, error),) = ends(start(*flags, patience="hosts.CONNECT_SECONDS = 2"))
    assert status in (1, -signal.SIGABRT)
    assert hosts.apart(coordinator, 2).replace("300 s", "2 s") in error.splitlines()
    assert hosts.LOST not in error


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_process_that_waits_for_others_can_be_stopped(tmp_path, number):
    port = free_port()
    flags = [f"--coordinator=127.0.0.1:{port}", "--processes=2", "--process=0", f"--workdir={tmp_path}"]
    process = start(*flags)
    limit = time.monotonic() + 200
    while socket.socket().connect_ex(("127.0.0.1", port)):
        assert time.monotonic() < limit and process.poll() is None
        time.sleep(0.05)
    process.send_signal(number)
    ((status, _, error),) = ends(process)
    assert status == -number
    assert hosts.apart(f"127.0.0.1:{port}", 2) in error.splitlines() and hosts.LOST not in error


def test_a_port_that_is_taken_is_told():
    with socket.create_server(("127.0.0.1", free_port())) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            Unavailable, match=rf"cannot listen at port {port} \(Address already in use\); choose another"
        ):
            join(coordinator=f"127.0.0.1:{port}", processes=2, process=0)


@pytest.mark.parametrize(
    ("host", "process", "words"),
    [
        ("127.0.0.1", 1, "Connection refused"),
        ("[::1]", 1, "Connection refused|Cannot assign|not supported|unreachable"),  # where there is no IPv6
        ("no-such-host.invalid", 0, "Name or service not known|Temporary failure in name resolution"),
        ("no-such-host.invalid", 1, "Name or service not known|Temporary failure in name resolution"),
        (70 * "x", 1, "label"),
    ],
)
def test_a_first_process_that_cannot_be_reached_is_told(host, process, words, monkeypatch):
    monkeypatch.setattr(hosts, "CONNECT_SECONDS", 0)
    coordinator = f"{host}:{free_port()}"
    with pytest.raises(Unavailable) as refused:
        join(coordinator=coordinator, processes=2, process=process)
    assert re.fullmatch(
        rf"The first process cannot be reached at {re.escape(coordinator)} \(.*({words}).*\); start it, .*",
        str(refused.value),
    )


def test_the_first_process_is_waited_for(capsys):
    """The second process comes before the first listens."""
    port = free_port()
    servers = []
    late = threading.Timer(0.5, lambda: servers.append(socket.create_server(("127.0.0.1", port))))
    late.start()
    hosts._find(f"127.0.0.1:{port}", 1)
    servers.pop().close()
    assert "Connection refused); trying for 300 s." in capsys.readouterr().err


def join(**arguments):
    with hosts.joined(**arguments):
        raise AssertionError("joined")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"coordinator": "localhost:1"}, "--processes and --process must be given too"),
        ({"processes": 2, "process": 0}, "--coordinator must be given too"),
        ({"coordinator": "localhost:1", "processes": 2, "process": 2}, "--process=2 must lie between 0 and"),
        ({"coordinator": "localhost:1", "processes": 0, "process": 0}, "--processes=0"),
        ({"coordinator": "localhost", "processes": 2, "process": 0}, "--coordinator='localhost' must be HOST:PORT"),
        ({"coordinator": ":80", "processes": 2, "process": 0}, "--coordinator=':80' must be HOST:PORT"),
        ({"coordinator": "fd00::1:80", "processes": 2, "process": 0}, r"HOST:PORT, .* by IPv6, \[fd00::1\]:1234"),
        ({"coordinator": "here:0", "processes": 2, "process": 0}, "--coordinator='here:0' must be HOST:PORT"),
        ({"coordinator": "here:70000", "processes": 2, "process": 0}, "--coordinator='here:70000' must be HOST:PORT"),
    ],
)
def test_flags_that_cannot_be_are_refused(arguments, words):
    with pytest.raises(UserError, match=words):
        join(**arguments)


def test_without_flags_a_process_is_alone():
    with hosts.joined():
        assert hosts.is_leader() and hosts.agree(3, 4) == (3, 4)


def test_processes_that_the_environment_announces_in_vain_are_said_from_the_start(monkeypatch, capfd):
    """As where a shell of a Slurm job has the variables of a step, and no other task runs this."""

    def fails(*_, **__):
        assert "unset SLURM_STEP_NUM_TASKS" in capfd.readouterr().err
        raise RuntimeError("DEADLINE_EXCEEDED")

    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "2")
    monkeypatch.setattr(jax.distributed, "initialize", fails)
    with pytest.raises(Unavailable, match="DEADLINE_EXCEEDED; .* unset SLURM_STEP_NUM_TASKS"), hosts.joined():
        pass
