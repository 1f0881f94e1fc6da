"""launch/background.sh: commands that go on when the connection breaks, and are stopped from another one."""

import contextlib
import fcntl
import os
import signal
import time

import pytest
from launch_project import PATIENCE, Project

# Ends when the test lets it, as a trainer that takes its time for a checkpoint.
SAVES = """
trap 'echo asked' TERM
echo begun
for i in {1..3000}; do
    sleep 0.1
    [[ ! -e "$HOME/saved" ]] || { echo saved; exit 75; }
done
"""


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path)


def end(process):
    """What a process still writes, and its status."""
    return process.communicate(timeout=PATIENCE)[0], process.returncode


def test_outlives_its_connection(project):
    with project.start("background", "bash", "-c", SAVES) as connection:
        assert connection.stdout.readline() == "begun\n"
        os.killpg(connection.pid, signal.SIGKILL)
    with project.start("background", "something", "else") as follower:
        assert follower.stdout.readline() == "begun\n"
        (project.home / "saved").touch()
        assert end(follower) == ("saved\n", 75)


def test_shows_words_and_status_as_they_are(project):
    assert project.run("background", "echo", "a (b)", "") == "a (b) \n"
    project.run("background", "no-such-program", status=127)


def test_every_stop_waits_for_the_end(project):
    with contextlib.ExitStack() as stack:
        connection = stack.enter_context(project.start("background", "bash", "-c", SAVES))
        assert connection.stdout.readline() == "begun\n"
        stops = []
        for _ in range(3):
            stops.append(stack.enter_context(project.start("background", "--stop")))
            assert connection.stdout.readline() == "asked\n"
        (project.home / "saved").touch()
        assert end(connection) == ("saved\n", 75)
        assert [end(stop) for stop in stops] == [("begun\nasked\nasked\nasked\nsaved\n", 75)] * 3


@pytest.mark.slow
def test_status_of_a_command_that_ends_at_once_when_it_is_stopped(project):
    command = "trap 'exit 75' TERM; echo begun; for i in {1..3000}; do sleep 0.1; done"
    for _ in range(5):
        with project.start("background", "bash", "-c", command) as connection:
            assert connection.stdout.readline() == "begun\n"
            project.run("background", "--stop", status=75)
            assert end(connection) == ("", 75)


@pytest.mark.parametrize("words", [["something", "else"], ["--stop"]], ids=" ".join)
def test_a_command_that_has_only_just_begun_is_waited_for(project, words):
    state = project.root / "runs" / "background"
    state.mkdir(parents=True)
    with open(state / "lock", "a") as lock, project.start("exec sleep 600") as command:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with project.start("background", *words) as caller:
            time.sleep(0.5)  # it may still be on its way to the file of the process
            (state / "log").write_text("begun\n")
            (state / "status").write_text("75\n")
            (state / "pid").write_text(f"{command.pid}\n")
            if words == ["--stop"]:
                assert command.wait(timeout=PATIENCE) == -signal.SIGTERM
            else:
                assert caller.stdout.readline() == "begun\n"
                command.kill()
            assert command.wait(timeout=PATIENCE) and end(caller) == ("begun\n" * (words == ["--stop"]), 75)
