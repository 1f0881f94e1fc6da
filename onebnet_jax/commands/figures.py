"""Figures, by matplotlib, which only they need."""

import os
from pathlib import Path
from typing import Any

from onebnet_jax import surroundings
from onebnet_jax.errors import UserError


def require() -> None:
    """Raises UserError where matplotlib is missing or cannot be used."""
    os.environ.pop("MPLBACKEND", None)  # a notebook's, which may not be here; a figure that is only saved needs none
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"A figure needs matplotlib: {surroundings.import_fault(error, 'pip install matplotlib')}."
        ) from error


def save(figure: Any, path: Path) -> None:
    """Writes a figure in the format of the suffix. Raises UserError where that fails."""
    if not path.suffix:
        raise UserError(f"{path} cannot be written: its name must end with a format, such as .png, .svg or .pdf.")
    try:
        figure.savefig(path, dpi=150)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be written: {error}.") from None
