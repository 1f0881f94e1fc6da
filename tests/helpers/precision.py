"""64-bit types for a part of a test."""

import jax


def x64(value: bool = True):
    """A context with 64-bit types."""
    if hasattr(jax, "enable_x64"):
        return jax.enable_x64(value)
    from jax.experimental import enable_x64  # until JAX 0.7

    return enable_x64(value)
