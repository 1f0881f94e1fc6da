"""Figures, by matplotlib, which only they need."""

from pathlib import Path
from typing import Any

from onebnet_jax.errors import UserError


def require() -> None:
    """Raises UserError where matplotlib is missing."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise UserError("A figure needs matplotlib: install it with `pip install matplotlib`.") from None


def save(figure: Any, path: Path) -> None:
    """Writes a figure in the format of the suffix. Raises UserError where that fails."""
    if not path.suffix:
        raise UserError(f"{path} cannot be written: its name must end with a format, such as .png, .svg or .pdf.")
    try:
        figure.savefig(path, dpi=150)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be written: {error}.") from None
