"""Figures, by matplotlib, which only they need."""

import os
from pathlib import Path
from typing import Any

from onebnet_jax import surroundings
from onebnet_jax.errors import UserError


def axes(xlabel: str, ylabel: str) -> Any:
    """The axes of a new figure. Raises UserError where matplotlib is missing or cannot be used."""
    os.environ.pop("MPLBACKEND", None)  # a notebook's, which may not be here; a figure that is only saved needs none
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        fault = surroundings.import_fault(error, "pip install matplotlib")
        raise UserError(f"--plot needs matplotlib: {fault}.") from error
    return Figure(figsize=(9, 5), layout="constrained").add_subplot(xlabel=xlabel, ylabel=ylabel)


def save(axes: Any, path: Path) -> None:
    """Writes the figure, its legend beside it, in the format of the suffix. Raises UserError where that fails."""
    axes.figure.legend(loc="outside right upper", fontsize="small")
    try:
        axes.figure.savefig(path, dpi=150)
    except (OSError, ValueError) as error:
        raise UserError(f"--plot={path} cannot be written: {error}.") from None
