"""metrics.jsonl and the TensorBoard events, over an interrupted run."""

import struct

import pytest
from tensorboardX.proto.event_pb2 import Event, SessionLog

from onebnet_jax.runs.metrics import Metrics, read


def shown_by_tensorboard(workdir):
    """{(tag, step): value} as TensorBoard shows it: a session that starts at a step hides what was there from it on."""
    shown = {}
    for path in sorted((workdir / "tensorboard").iterdir()):
        content, at = path.read_bytes(), 0
        while at < len(content):  # TFRecord: length, its checksum, record, its checksum
            (length,) = struct.unpack_from("<Q", content, at)
            event = Event.FromString(content[at + 12 : at + 12 + length])
            at += 16 + length
            if event.session_log.status == SessionLog.START:
                shown = {key: value for key, value in shown.items() if key[1] < event.step}
            for value in event.summary.value:
                shown[value.tag, event.step] = value.simple_value
    return shown


def test_lines_and_events_hold_what_was_written(tmp_path):
    metrics = Metrics(tmp_path, 0)
    metrics.write(4, "train", {"loss": 1.5, "top1": 25.0})
    metrics.write(4, "test", {"loss": 2.0})
    assert len(read(tmp_path / "metrics.jsonl")) == 2  # on disk as soon as it is written
    metrics.close()
    assert read(tmp_path / "metrics.jsonl") == [
        {"step": 4, "split": "train", "loss": 1.5, "top1": 25.0},
        {"step": 4, "split": "test", "loss": 2.0},
    ]
    assert shown_by_tensorboard(tmp_path) == {("train/loss", 4): 1.5, ("train/top1", 4): 25.0, ("test/loss", 4): 2.0}


@pytest.mark.parametrize("resumed_at", [0, 4, 7, 8])
def test_a_run_that_goes_on_takes_back_what_lies_beyond(tmp_path, resumed_at):
    metrics = Metrics(tmp_path, 0)
    for step in (4, 8, 12):
        metrics.write(step, "train", {"loss": float(step)})
    metrics.close()
    for path in (tmp_path / "tensorboard").iterdir():
        path.rename(path.with_name("events.out.tfevents.1"))  # files are named by the second, and sorted by name
    metrics = Metrics(tmp_path, resumed_at + 1)
    metrics.write(16, "train", {"loss": 0.5})
    metrics.close()
    kept = [step for step in (4, 8, 12) if step <= resumed_at]
    assert [line["step"] for line in read(tmp_path / "metrics.jsonl")] == [*kept, 16]
    assert {step for _, step in shown_by_tensorboard(tmp_path)} == {*kept, 16}


@pytest.mark.parametrize("remains", ['{"step": 8, "spl', '{"step"', "{", "3", '"', '{"split": "train"}', "null"])
def test_a_line_cut_short_by_a_kill_is_dropped(tmp_path, remains):
    whole = '{"step": 4, "split": "train", "loss": 1.0}\n'
    (tmp_path / "metrics.jsonl").write_text(whole + remains)
    assert read(tmp_path / "metrics.jsonl") == [{"step": 4, "split": "train", "loss": 1.0}]
    Metrics(tmp_path, 5).close()
    assert (tmp_path / "metrics.jsonl").read_text() == whole


def test_a_line_without_its_newline_is_kept_whole(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 4, "split": "train", "loss": 1.0}')
    metrics = Metrics(tmp_path, 5)
    metrics.write(8, "train", {"loss": 2.0})
    metrics.close()
    assert [line["step"] for line in read(tmp_path / "metrics.jsonl")] == [4, 8]


def test_a_damaged_line_in_the_middle_is_said(tmp_path, capsys):
    (tmp_path / "metrics.jsonl").write_text('{"step": 4}\n{"st\x00\n3\n{"step": 8}\n{"ste')
    assert [line["step"] for line in read(tmp_path / "metrics.jsonl")] == [4, 8]
    assert "2 lines of" in (said := capsys.readouterr().err) and "first line 2" in said
