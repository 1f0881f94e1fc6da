"""Tries what a user's own code adds, once, before it trains."""

import jax
import jax.numpy as jnp
import numpy as np

from onebnet_jax.errors import own_line
from onebnet_jax.surroundings import of_kind


def fault(function, shape, *arguments) -> str:
    """What is wrong with what a function gives, in words; "" for an array of finite numbers of the shape."""
    given = []
    try:
        values = jax.jit(lambda *args: given.append(function(*args)) or given[0])(*arguments)
    except Exception as error:  # whatever such code may raise; what is no array fails after it was given
        if not given:
            return f"fails ({of_kind(error)}{own_line(error)})"
    if not isinstance(result := given[0], jax.Array | np.ndarray):
        return f"gives a {type(result).__name__}, not an array {list(shape)}"
    if result.shape != shape or not (result.dtype == bool or jnp.issubdtype(result.dtype, jnp.floating)):
        return f"gives an array {list(result.shape)} of {result.dtype}, not {list(shape)} of bool or float"
    return "" if np.isfinite(values).all() else "gives what is not finite"
