"""What a run leaves to be read: config.json, metrics.jsonl and TensorBoard events."""

import json
import os
from pathlib import Path

from tensorboardX import SummaryWriter


class Metrics:
    """Appends measurements to metrics.jsonl and to TensorBoard events in the work directory.

    A run that goes on takes back what an interrupted run had written of the steps from `first_step` on.
    """

    def __init__(self, workdir: Path, first_step: int):
        self._path = workdir / "metrics.jsonl"
        if self._path.exists():
            kept = [line for line in self._path.read_text().splitlines() if _step_of(line) < first_step]
            replacement = self._path.with_suffix(".tmp")
            replacement.write_text("".join(line + "\n" for line in kept))
            os.replace(replacement, self._path)
        self._file = self._path.open("a")
        self._writer = SummaryWriter(str(workdir / "tensorboard"), purge_step=first_step)

    def write(self, step: int, split: str, values: dict[str, float]) -> None:
        """One line of JSON, {"step", "split", **values}, and one TensorBoard scalar "split/name" per value."""
        self._file.write(json.dumps({"step": step, "split": split, **values}) + "\n")
        self._file.flush()
        for name, value in values.items():
            self._writer.add_scalar(f"{split}/{name}", value, step)

    def close(self) -> None:
        self._file.close()
        self._writer.close()


def _step_of(line: str) -> float:
    try:
        return json.loads(line)["step"]
    except (json.JSONDecodeError, KeyError, TypeError):
        return float("inf")  # cut short when the run was killed


def read(path: Path) -> list[dict]:
    """The lines of a metrics.jsonl file."""
    return [json.loads(line) for line in path.read_text().splitlines()]
