"""Executes docs/whole_way.ipynb from scratch and keeps what it shows: python -m launch.notebook

pip install nbclient ipykernel
"""

import os
import pathlib
import re
import sys
import tempfile

import nbformat
from nbclient import NotebookClient

ROOT = pathlib.Path(__file__).parents[1]
NOTEBOOK = ROOT / "docs" / "whole_way.ipynb"
TIMEOUT = 1800  # seconds for one cell


def execute() -> nbformat.NotebookNode:
    """The notebook with new outputs, executed in an empty folder that goes afterwards.

    Raises nbclient's CellExecutionError where a cell fails.
    """
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "MPLBACKEND": "module://matplotlib_inline.backend_inline"}
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(notebook, timeout=TIMEOUT, resources={"metadata": {"path": folder}}).execute(env=env)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # times of this machine
        for output in cell.get("outputs", []):
            if "text" in output:
                output.text = shown(output.text)
    return notebook


def shown(text: str) -> str:
    """What a terminal shows of an output: of a line that was written over, the last state."""
    return re.sub(r"[^\n]*\r(?!\n)", "", text)


if __name__ == "__main__":
    nbformat.write(execute(), NOTEBOOK)
    print(NOTEBOOK.relative_to(ROOT), file=sys.stderr)
