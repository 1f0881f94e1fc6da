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
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    }
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(notebook, timeout=TIMEOUT, resources={"metadata": {"path": folder}}).execute(env=env)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # when each cell ran
        if "outputs" in cell:
            cell.outputs = shown(cell.outputs)
    return notebook


def shown(outputs: list) -> list:
    """Outputs as a screen shows them in the end, without this machine's folders and TensorFlow's first words."""
    result = []
    for output in outputs:
        if "text" in output and result and result[-1].get("name") == output.name:
            result[-1].text += output.text
        else:
            result.append(output)
    for output in result:
        if "text" in output:
            text = re.sub(r"[^\n]*\r(?!\n)", "", output.text)  # a progress bar that was written over
            text = re.sub(r"^(WARNING: All log messages before absl|I0000 ).*\n", "", text, flags=re.MULTILINE)
            output.text = text.replace(f"{ROOT}/", "")
    return [output for output in result if output.get("text", "shown").strip()]


if __name__ == "__main__":
    nbformat.write(execute(), NOTEBOOK)
    print(NOTEBOOK.relative_to(ROOT), file=sys.stderr)
