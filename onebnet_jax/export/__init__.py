"""From a trained network to a file that Larq Compute Engine (LCE) runs, and the proof that the two agree.

`convert` goes the way: fold, plan, keras, lce, lint, card; `verify` is the proof, by agreement and parity. Only keras,
lce, agreement and parity import TensorFlow.
"""

import os
import sys

from onebnet_jax import surroundings

# Larq and LCE are written for Keras 2, which TensorFlow hands out only if this is set before it is first imported.
if "tensorflow" not in sys.modules:
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    surroundings.hush_tensorflow()
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # no hint about it, and Keras adds in a fixed order
