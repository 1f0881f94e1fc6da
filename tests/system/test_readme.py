"""The Python in README and in the pages of docs/ runs as it stands there."""

import os
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks():
    """Each block of Python, by its page. What takes long is run by default on README alone."""
    for page in PAGES:
        found = re.findall(r"^```python\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
        for number, block in enumerate(found, start=1):
            long = page != PAGES[0] and re.search(r"\b(train|convert)\(", block)
            yield pytest.param(block, id=f"{page.name}-{number}", marks=[pytest.mark.slow] if long else [])


@pytest.mark.parametrize("block", [*blocks()])
def test_a_block_of_python_runs(block, tmp_path):
    if "convert(" in block:
        pytest.importorskip("larq_compute_engine")
    env = {**os.environ, "PYTHONPATH": str(ROOT), "XLA_FLAGS": ""}
    command = [sys.executable, "-c", block]
    result = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout


def test_the_readme_has_python_and_is_short():
    text = PAGES[0].read_text()
    assert "```python\n" in text and len(text.split()) < 900
