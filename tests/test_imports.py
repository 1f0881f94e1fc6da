"""Training must run where neither TensorFlow nor Larq is installed."""

import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[1]

# Reports each attempt at an import, also where the package is missing or the attempt is caught.
PROGRAM = """
import sys

class Watch:
    def find_spec(self, name, path=None, target=None):
        if name in ("tensorflow", "keras", "tf_keras", "larq", "larq_compute_engine"):
            print(name)

sys.meta_path.insert(0, Watch())
from onebnet_jax import data, main, steps, train
from onebnet_jax import config

data.load("fashion_mnist_mini")
config.load("configs/quickstart.py")
"""


def imports(program):
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=env, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout.split()


def test_training_never_tries_to_import_tensorflow_keras_or_larq():
    assert imports(PROGRAM) == []
