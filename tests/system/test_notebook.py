"""The notebook of the whole way: it runs from scratch, and what is kept of it was shown by a run."""

import json
import pathlib
import re

import pytest

NOTEBOOK = pathlib.Path(__file__).parents[2] / "docs" / "whole_way.ipynb"


def test_the_kept_notebook_was_executed_without_errors():
    cells = [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 5
    assert "error" not in {output["output_type"] for output in outputs}
    assert not re.findall(r"/(?:root|home|tmp|work)/", json.dumps([output.get("text") for output in outputs]))


@pytest.mark.slow
def test_the_notebook_runs_from_scratch():
    for package in ("nbclient", "ipykernel", "larq_compute_engine", "matplotlib"):
        pytest.importorskip(package, reason=f"needs {package} (pip install nbclient ipykernel)")
    from launch import notebook

    cells = notebook.execute().cells  # a cell that fails raises
    assert all(cell.get("execution_count") for cell in cells if cell.cell_type == "code")
