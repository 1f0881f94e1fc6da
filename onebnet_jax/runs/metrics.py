"""What a stage of training leaves to be read: metrics.jsonl and TensorBoard events."""

import contextlib
import json
import sys
import time
from pathlib import Path

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import scalar


class Metrics:
    """Appends measurements to metrics.jsonl and to TensorBoard events in the folder of a stage.

    A run that goes on takes back what an interrupted run had written of the steps from `first_step` on.
    """

    def __init__(self, stage: Path, first_step: int):
        self._path = stage / "metrics.jsonl"
        if self._path.exists():
            kept = (json.dumps(line) + "\n" for line in read(self._path) if line["step"] < first_step)
            replacement = self._path.with_suffix(".tmp")
            replacement.write_text("".join(kept))
            replacement.replace(self._path)
        self._file = self._path.open("a")
        folder = stage / "tensorboard"
        folder.mkdir(exist_ok=True)
        # Not a SummaryWriter, whose thread would fail unseen on a full disk.
        self._events = EventsWriter(str(folder / "events"), f".{time.time_ns()}")
        restart = SessionLog(status=SessionLog.START)  # TensorBoard then drops what it read from this step on
        self._events.write_event(Event(wall_time=time.time(), step=first_step, session_log=restart))

    def write(self, step: int, split: str, values: dict[str, float]) -> None:
        """One line of JSON, {"step", "split", **values}, and one TensorBoard scalar "split/name" per value."""
        self._file.write(json.dumps({"step": step, "split": split, **values}) + "\n")
        self._file.flush()
        for name, value in values.items():
            summary = scalar(f"{split}/{name}", value)
            self._events.write_event(Event(wall_time=time.time(), step=step, summary=summary))
        self._events.flush()

    def close(self) -> None:
        self._file.close()
        self._events.close()


def read(path: Path) -> list[dict]:
    """The lines of a metrics.jsonl file, if it is there, without a last one that was cut short when the run was killed.

    Others that cannot be read are said on standard error.
    """
    texts = path.read_text(errors="replace").splitlines() if path.exists() else []
    lines, lost = [], []
    for number, text in enumerate(texts, start=1):
        line = None
        with contextlib.suppress(json.JSONDecodeError):
            line = json.loads(text)
        if isinstance(line, dict) and "step" in line:
            lines.append(line)
        elif number < len(texts):
            lost.append(number)
    if lost:
        print(f"left out: {len(lost)} lines of {path} that cannot be read, first line {lost[0]}", file=sys.stderr)
    return lines
