"""Files of others are data: reading any of them runs nothing that it names, and says in one sentence what is wrong.

Elsewhere: data sets in tests/data, .pth and .safetensors files in test_teacher.py, .tflite files in test_benchmark.py.
A config file given by --config is Python and does run.
"""

import contextlib
import os
import pathlib
import pickle
import shutil
import sys

import pytest

from onebnet_jax.data import load as data
from onebnet_jax.errors import UserError
from onebnet_jax.export import card
from onebnet_jax.runs import config as config_lib
from onebnet_jax.runs import trained
from onebnet_jax.runs.checkpoint import BEST, LAST, Checkpoints

QUICKSTART = pathlib.Path(__file__).parents[2] / "configs" / "quickstart.py"
RAN = []  # what the hook below has seen, while it is switched on
WATCHED = ("pickle.find_class", "os.system", "os.exec", "os.posix_spawn", "subprocess.Popen")
watching = False


def _hook(event, arguments):
    if watching and event in WATCHED:
        RAN.append((event, *map(str, arguments)))


sys.addaudithook(_hook)  # for good, as Python has no way to remove one


@contextlib.contextmanager
def nothing_runs():
    """Fails if what happens within unpickles an object or starts a program."""
    global watching
    RAN.clear()
    watching = True
    try:
        yield
    finally:
        watching = False
    assert RAN == []


class Payload:
    """Makes a folder when unpickled."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


@pytest.fixture
def payload(tmp_path):
    """(a pickle, the folder that it would make)."""
    folder = tmp_path / "it ran"
    content = pickle.dumps(Payload(folder), protocol=2)
    with pytest.raises(AssertionError), nothing_runs():
        pickle.loads(content)
    assert folder.exists()  # so both the payload and the watch work
    folder.rmdir()
    return content, folder


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """A work directory with a checkpoint of random variables."""
    folder = tmp_path_factory.mktemp("run")
    config = config_lib.load(str(QUICKSTART))
    (folder / "config.json").write_text(config.to_json())
    checkpoints = Checkpoints(folder / "train")
    tree = trained.untrained(config).variables
    for name in (BEST, LAST):
        checkpoints.save(name, 1, tree, {"top1": 1.0})
    checkpoints.close()
    return folder


def test_reading_a_run_and_the_data_unpickles_nothing(run_folder):
    with nothing_runs():
        run = trained.load(run_folder)
        assert data.open("fashion_mnist_mini").info.num_classes == 10
    assert run.origin["step"] == 1 and run.variables["params"]["head"]["kernel"].shape == (64, 10)


@pytest.mark.parametrize("pattern", ["config.json", "**/_CHECKPOINT_METADATA", "**/metadata", "**/_METADATA", "**/d/*"])
def test_pickles_in_place_of_the_files_of_a_run_are_not_read(pattern, run_folder, payload, tmp_path):
    content, proof = payload
    copied = pathlib.Path(shutil.copytree(run_folder, tmp_path / "run"))
    paths = [path for path in copied.glob(pattern) if path.is_file()]
    assert paths
    for path in paths:
        path.write_bytes(content)
    with nothing_runs():
        try:
            trained.load(copied)
        except UserError as error:
            assert len(str(error).splitlines()) == 1
        else:
            assert pattern == "**/_CHECKPOINT_METADATA"  # times of writing, without which all can be read
    assert not proof.exists()


def test_a_pickle_in_place_of_a_card_is_not_read(payload, tmp_path):
    (tmp_path / "m.tflite").write_bytes(b"TFL3TFL3")
    (tmp_path / "m.json").write_bytes(payload[0])
    with pytest.raises(UserError, match="m.json is not the card"), nothing_runs():
        card.read(tmp_path / "m.tflite")
    assert not payload[1].exists()
