"""Training must run where neither TensorFlow nor Larq is installed, and leave them alone where they are."""

import subprocess
import sys

import pytest
from small_runs import ROOT, environment

# Lets the packages seem to be installed, so that whoever asks for that, as etils does, goes on to use them; and tells
# of each attempt at an import, also where that is caught.
WATCH = """
import importlib.machinery
import sys

class Watch:
    def find_spec(self, name, path=None, target=None):
        if name in ("tensorflow", "keras", "tf_keras", "larq", "larq_compute_engine"):
            return importlib.machinery.ModuleSpec(name, self)

    def create_module(self, spec):
        print("attempt:", spec.name)
        raise ModuleNotFoundError(spec.name)

    def exec_module(self, module):
        pass

sys.meta_path.insert(0, Watch())
"""


def attempts(program, *arguments):
    """The watched packages that a program tries to import."""
    command = [sys.executable, "-c", WATCH + program, *arguments]
    result = subprocess.run(command, cwd=ROOT, env=environment(devices=1), capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return [line.split()[1] for line in result.stdout.splitlines() if line.startswith("attempt:")]


# A library that would do with or without them.
CAUGHT = """
from contextlib import suppress

with suppress(ImportError):
    import tensorflow.compat.v2
with suppress(ImportError):
    from larq import layers
"""

# Trains an epoch with a small network, and scores what was saved.
RUN = """
import small_runs
from onebnet_jax import main
from onebnet_jax.networks import families

families.FAMILIES = small_runs.TINY
workdir = "--workdir=" + sys.argv[1]
fields = ["--config.train.epochs=1", "--config.train.batch_size=1000"]
main.main(["--config=configs/quickstart.py", workdir, *fields])
main.main(["--mode=eval", workdir])
"""

# Makes the native engine's file, and compares it with the network.
CONVERT = """
import onebnet_jax
from onebnet_jax.commands import agree

trained = onebnet_jax.untrained("quickstart", {"model.depth": 8})
onebnet_jax.convert(trained).save(sys.argv[1])
agree.main([sys.argv[1], "--random-images", "--images=2"])
"""


def test_an_attempt_is_noticed_whether_or_not_the_package_is_there():
    assert attempts(CAUGHT) == ["tensorflow", "larq"]


def test_a_run_never_tries_to_import_tensorflow_keras_or_larq(tmp_path):
    assert attempts(RUN, tmp_path) == []
    assert [path.name for path in (tmp_path / "train" / "checkpoints" / "best").iterdir()] == ["4"]
    assert list((tmp_path / "train" / "tensorboard").glob("events.*"))


@pytest.mark.slow
def test_a_native_file_is_made_and_compared_without_tensorflow_keras_or_larq(tmp_path):
    assert attempts(CONVERT, tmp_path / "model.onb") == []
    assert (tmp_path / "model.onb").read_bytes().startswith(b"OneBNet\n")
