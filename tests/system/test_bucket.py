"""The whole way of a run in a bucket, against an emulator of Google Cloud Storage, in programs of their own.

It needs two packages that the default environment does not have; CONTRIBUTING.md says how to install them.
"""

import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest
from small_runs import environment, free_port

from onebnet_jax.errors import INTERRUPTED, USER_ERROR, UserError
from onebnet_jax.runs import gcs

pytestmark = pytest.mark.slow
storage = pytest.importorskip(
    "google.cloud.storage", reason="pip install -r requirements-gcs.txt", exc_type=ImportError
)
pytest.importorskip("gcp_storage_emulator", reason="pip install gcp-storage-emulator==2026.7.19")
ADDRESS = "gs://bucket/runs/a"


@pytest.fixture
def emulator(tmp_path, monkeypatch):
    """The address of an emulator that has the bucket, set for this process too."""
    port = free_port()
    start = ["start", "--host=127.0.0.1", f"--port={port}", "--in-memory", "--default-bucket=bucket", "--quiet"]
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{port}")
    with subprocess.Popen([sys.executable, "-m", "gcp_storage_emulator", *start], cwd=tmp_path) as process:
        for _ in range(600):
            try:
                gcs.Objects(ADDRESS)
                break
            except UserError:
                time.sleep(0.1)
        yield os.environ["STORAGE_EMULATOR_HOST"]
        process.terminate()


def program(folder, *words):
    """A command of onebnet on a machine whose caches are in a folder."""
    own = environment(1, XDG_CACHE_HOME=str(folder / "cache"))
    command = [sys.executable, "-m", "onebnet_jax", *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, cwd=folder, env=own, **pipes)


def ended(process, status=0):
    output = process.communicate(timeout=1200)[0]
    assert process.returncode == status, output
    return output


def wait_for(process, what):
    """Waits until a file is in the bucket, as its pushed.json says, while a program runs."""
    while what not in gcs.Objects(ADDRESS).read("pushed.json")[1].decode():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.5)


def test_killed_stopped_and_moved_a_run_goes_on_and_is_used(emulator, tmp_path):
    train = ["train", "--config=quickstart", "--config.train.epochs=5", "--config.checkpoint_seconds=1"]
    train.append(f"--workdir={ADDRESS}")
    killed = program(tmp_path, *train)
    wait_for(killed, "train/checkpoints/last/")
    killed.send_signal(signal.SIGKILL)
    ended(killed, -signal.SIGKILL)
    shutil.rmtree(tmp_path / "cache")

    stopped, output = program(tmp_path, *train), ""
    while "resumed from the checkpoint of step" not in output:
        output += (line := stopped.stdout.readline())
        assert line, output
    time.sleep(5)
    stopped.send_signal(signal.SIGTERM)
    said = ended(stopped, INTERRUPTED).splitlines()[-1]
    assert said.startswith("interrupted: stage train at step ")
    step = said.split()[5]
    assert f"/{step}/" in gcs.Objects(ADDRESS).read("pushed.json")[1].decode()
    shutil.rmtree(tmp_path / "cache")

    output = ended(program(tmp_path, *train))
    assert f"resumed from the checkpoint of step {step}\n" in output and "epoch 5: test Top-1 " in output
    last = output.splitlines()[-2].removeprefix("epoch 5: ")
    assert last in ended(program(tmp_path, "evaluate", f"--workdir={ADDRESS}", "--checkpoint=last"))
    ended(program(tmp_path, "convert", f"--workdir={ADDRESS}", "--output=m.tflite", "--native=m.onb"))
    assert "unexplained" in ended(program(tmp_path, "agree", "m.tflite", "--images=50"))
    objects = {blob.name for blob in storage.Client().bucket("bucket").list_blobs()}
    with_them = {
        f"runs/a/{path.relative_to(place).as_posix()}" for place in _mirrors(tmp_path) for path in _files(place)
    }
    assert objects - {"runs/a/pushed.json"} == {name for name in with_them if not name.endswith("/lock")}


def _mirrors(folder: pathlib.Path):
    return folder.glob("cache/onebnet_jax/*/run")


def _files(folder: pathlib.Path):
    return (path for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("address", "server", "sentence"),
    [
        ("gs://elsewhere/a", None, "There is no bucket elsewhere .*gcloud storage buckets create gs://elsewhere"),
        ("gs://bucket/a", "http://127.0.0.1:1", "gs://bucket/a cannot be reached: .*refused"),
        ("gs://bucket/a", "", "there are no Google credentials on this machine; gcloud auth"),
    ],
)
def test_a_bucket_that_cannot_be_used_ends_a_command_at_once(
    address, server, sentence, emulator, tmp_path, monkeypatch
):
    if server is not None:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", server)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    begun = time.monotonic()
    for words in (["train", "--config=quickstart"], ["evaluate"]):
        output = ended(program(tmp_path, *words, f"--workdir={address}"), USER_ERROR).splitlines()
        assert len(output) < 4 and re.search(sentence, output[-1])  # Google warns of NO_GCE_CHECK
    assert time.monotonic() - begun < 120


def test_what_google_says_ends_in_the_remedy_for_it(emulator):
    from google.api_core import exceptions

    objects = gcs.Objects(ADDRESS)
    for error, remedy in [
        (exceptions.Forbidden("no access"), "may not be used: no access; .*roles/storage.objectUser on gs://bucket"),
        (exceptions.RetryError("timeout", exceptions.ServiceUnavailable("busy")), "cannot be reached: busy; mend"),
    ]:
        with pytest.raises(UserError, match=remedy), objects._told():
            raise error
