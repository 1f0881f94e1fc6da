"""From a trained network to a file that Larq Compute Engine (LCE) runs, and the proof that the two agree.

The way of the data: `fold` turns variables into a `plan` of constants; `keras` builds the Keras model of a plan, `lce`
makes a file of it, `lint` checks the file; `convert` does all this and gives the file with its `card`. `verify` is the
proof, by `agreement` and `parity`. Only keras, lce, agreement and parity import TensorFlow, and nothing here is
imported by what trains. The tests have another witness: tests/helpers/reference.py runs a plan on packed bits.
"""

import os
import sys

# Larq and LCE are written for Keras 2, which TensorFlow hands out only if this is set before it is first imported.
if "tensorflow" not in sys.modules:
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # no hint about it, and Keras adds in a fixed order
