"""Figures, by matplotlib, which only they need."""

from pathlib import Path
from typing import Any

from onebnet_jax.errors import UserError


def axes(xlabel: str, ylabel: str) -> Any:
    """The axes of a new figure. Raises UserError where matplotlib is missing."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise UserError("--plot needs matplotlib: install it with `pip install matplotlib`.") from None
    return Figure(figsize=(9, 5), layout="constrained").add_subplot(xlabel=xlabel, ylabel=ylabel)


def save(axes: Any, path: Path) -> None:
    """Writes the figure, its legend beside it, in the format of the suffix. Raises UserError where that fails."""
    axes.figure.legend(loc="outside right upper", fontsize="small")
    try:
        axes.figure.savefig(path, dpi=150)
    except (OSError, ValueError) as error:
        raise UserError(f"--plot={path} cannot be written: {error}.") from None
