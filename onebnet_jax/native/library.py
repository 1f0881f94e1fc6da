"""The library with the kernels: loaded, made known to XLA, and called, or a sentence that says why it is not there."""

import ctypes
import functools
import os

import jax
import numpy as np

from onebnet_jax.errors import UserError
from onebnet_jax.native import build

TARGETS = (
    "forward",
    "float_forward",
    "gradients",
    "statistics",
    "tail_forward",
    "tail_backward",
    "tail_gradient",
)
VARIABLE = "ONEBNET_NATIVE"  # 0 for no kernels, the name of an instruction set to hold to that one; unset for the best


@functools.cache
def _library():
    """(library, None) with its functions made known to XLA, or (None, a sentence)."""
    try:
        library = ctypes.CDLL(str(build.library(build.headers())))
    except (build.BuildError, OSError) as error:
        return None, f"Training on this CPU would be faster with the kernels of onebnet_jax/native, but {error}."
    library.onebnet_instruction_set.restype = ctypes.c_char_p
    for name in TARGETS:
        capsule = jax.ffi.pycapsule(getattr(library, f"onebnet_{name}"))
        jax.ffi.register_ffi_target(f"onebnet_{name}", capsule, platform="cpu")
    return library, None


def wanted() -> str:
    """Name of the instruction set to hold to, "0" for none of the kernels, "" for the best. Raises UserError."""
    value = os.environ.get(VARIABLE, "")
    if value not in ("", "0", *build.SETS):
        known = f"0 (no kernels) or one of {', '.join(build.SETS)}"
        raise UserError(f"{VARIABLE}={value!r} will not do; it must be {known}; unset it for the best of these.")
    return value


def instruction_sets() -> list[str]:
    """Those that this CPU has and the library was built for, the fastest first; [] without a library."""
    library, _ = _library()
    return [name for name in build.SETS if library and library.onebnet_instruction_set(name.encode())]


def reason() -> str | None:
    """Why the kernels are not used, in a sentence that says what would make training faster; None if they are."""
    asked = wanted()
    if asked == "0":
        return f"{VARIABLE}=0 switches the faster kernels for CPUs off."
    library, why = _library()
    if library is None:
        return why
    if asked and asked not in instruction_sets():
        there = ", ".join(instruction_sets())
        return f"{VARIABLE}={asked} asks for an instruction set that this CPU lacks; it has {there}."
    if not asked and instruction_sets() == ["plain"]:
        return "Training would be faster on a CPU with AVX2 or AVX-512, for which onebnet_jax/native has kernels."
    return None


def in_use() -> str:
    """What computes binarized networks in float32 here: the kernels of an instruction set, or XLA for a platform.

    Results of two of them differ by rounding.
    """
    if jax.default_backend() != "cpu" or not available():
        return f"XLA for {jax.default_backend()}"
    return f"kernels for {wanted() or instruction_sets()[0]}"


def available() -> bool:
    """Whether the kernels are built and made for this CPU. The first call builds them, in half a minute."""
    return reason() is None


def call(name: str, results, *arguments, **attributes):
    """One of the TARGETS; whole numbers among the attributes become 64-bit ones, as the library wants them."""
    _library()  # makes the functions known
    attributes = {k: np.int64(v) if isinstance(v, int) else v for k, v in attributes.items()}
    return jax.ffi.ffi_call(f"onebnet_{name}", results)(*arguments, **attributes, set=wanted())
