"""The model cards of results/: they say what their networks are now, and what they tell to run, runs."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from results import cards


def test_cards_are_up_to_date():
    assert cards.kept()
    for folder in cards.kept():
        assert (folder / "README.md").read_text() == cards.text(folder), "write it again: python -m results.cards"


def test_a_card_has_the_score_of_the_last_epoch():
    """Whichever epoch was kept: a best one, chosen by test images, says too much of itself."""
    for folder in cards.kept():
        last = json.loads((folder / "train" / "metrics.jsonl").read_text().splitlines()[-1])
        assert last["split"] == "test" and f"{last['top1']:.2f} %" in (folder / "README.md").read_text()


def test_every_folder_of_results_has_its_licences():
    rows = re.findall(r"^\| `(\w+)` \|", (cards.HERE / "LICENSES.md").read_text(), re.MULTILINE)
    assert sorted(rows) == sorted({path.relative_to(cards.HERE).parts[0] for path in cards.HERE.glob("**/config.json")})


@pytest.mark.slow
@pytest.mark.parametrize("folder", cards.kept(), ids=lambda folder: folder.name)
def test_a_card_s_python_runs(folder, tmp_path):
    block = re.search("^```python\n(.*?)^```$", (folder / "README.md").read_text(), re.MULTILINE | re.DOTALL)[1]
    if "model.tflite" in block:
        pytest.importorskip("larq_compute_engine")
    Image.fromarray(np.zeros((50, 40, 3), np.uint8)).save(tmp_path / "picture.png")
    (tmp_path / "results").symlink_to(cards.HERE)
    env = {**os.environ, "PYTHONPATH": str(cards.ROOT), "XLA_FLAGS": ""}
    command = [sys.executable, "-c", block]
    result = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip()
