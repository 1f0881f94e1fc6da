"""TensorFlow with Keras 2, Larq and LCE, or one clear sentence about what is missing."""

from onebnet_jax import surroundings
from onebnet_jax.errors import UserError, quietly

try:
    with quietly():
        import larq
        import larq_compute_engine
        import tensorflow as tf
        from tensorflow.lite.python import schema_py_generated as schema
except ImportError as error:
    fault = surroundings.import_fault(error, 'pip install ".[deploy]" in the clone (Python 3.11 or 3.12)')
    raise UserError(f"Converting needs TensorFlow, Larq and Larq Compute Engine: {fault}.") from error

if not tf.keras.Model.__module__.startswith("tf_keras."):
    raise UserError(
        "Larq needs Keras 2, but TensorFlow was imported with another Keras; "
        "set TF_USE_LEGACY_KERAS=1 in the environment, or import onebnet_jax.export before tensorflow."
    )

tf.config.set_visible_devices([], "GPU")  # small work, and JAX may be using it
tf.get_logger().setLevel("ERROR")  # LCE's converter reloads models in ways that TensorFlow warns about

__all__ = ["larq", "larq_compute_engine", "schema", "tf"]
