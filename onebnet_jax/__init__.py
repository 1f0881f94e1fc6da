"""OneBNet in JAX: binarized CNNs with decomposed 1-D convolutions, from training to the Raspberry Pi."""

from pathlib import Path

__version__ = "0.1.0"  # pyproject.toml takes it from here

# Every command can be run by its name alone: `python -m onebnet_jax.convert` finds commands/convert.py.
__path__.append(str(Path(__file__).parent / "commands"))
