"""Cards: what is read is what was written, and nothing else is overwritten or taken for a card."""

import errno
import hashlib
import json
import os
import stat
from pathlib import Path

import pytest

from onebnet_jax.errors import UserError
from onebnet_jax.export import card
from onebnet_jax.runs import config, trained


def make(content=b"content", **origin):
    network = trained.untrained(config.load("configs/quickstart.py", ["--config.model.depth=8"]))
    return card.make(network, content, {"ADD": 1}, fold=True, raw_input=False) | ({"source": origin} if origin else {})


def test_a_card_and_its_file_belong_together(tmp_path):
    model, made = tmp_path / "m.tflite", make()
    card.write(model, b"content", made)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.json", "m.tflite"]
    assert card.read(model) == (b"content", json.loads(json.dumps(made)))
    assert made["sha256"] == hashlib.sha256(b"content").hexdigest() and made["input"]["shape"] == [1, 28, 28, 1]
    model.write_bytes(b"another")
    with pytest.raises(UserError, match="is not the file that .*m.json describes"):
        card.read(model)
    card.path_of(model).unlink()
    with pytest.raises(UserError, match="m.json: No such file"):
        card.read(model)


def test_a_link_stays_one_and_a_pipe_is_written_to(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "file")
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    try:
        card.save({tmp_path / "link": b"content", tmp_path / "pipe": b"content"})
        assert os.read(reader, 99) == b"content" and stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    finally:
        os.close(reader)
    assert (tmp_path / "link").is_symlink() and (tmp_path / "file").read_bytes() == b"content"
    assert len([*tmp_path.iterdir()]) == 3


@pytest.mark.parametrize(
    "content", ["{}", "[]", "[" * 100_000, "\x00", '{"sha256": "", "source": {"untrained": true}}']
)
def test_what_is_no_card_is_refused(content, tmp_path):
    (tmp_path / "m.tflite").write_bytes(b"content")
    (tmp_path / "m.json").write_text(content)
    with pytest.raises(UserError, match="m.json is not the card"):
        card.read(tmp_path / "m.tflite")


def test_a_model_and_its_run_can_be_moved_together(tmp_path, monkeypatch):
    model = tmp_path / "run" / "m.tflite"
    model.parent.mkdir()
    made = make(workdir=str(model.parent), stage="train", checkpoint="best", step=7)
    card.write(model, b"content", made)
    assert str(tmp_path) not in card.path_of(model).read_text()
    (tmp_path / "run").rename(tmp_path / "moved")
    monkeypatch.chdir(tmp_path)
    assert card.read(Path("moved/m.tflite"))[1]["source"]["workdir"] == "moved"
    card.write(
        model := Path("m.tflite"), b"content", make(workdir="gs://bucket/run", stage="train", checkpoint="best", step=7)
    )
    assert card.read(model)[1]["source"]["workdir"] == "gs://bucket/run"


@pytest.mark.parametrize("written", [1, 2])
def test_a_full_disk_leaves_the_old_model_and_card(written, tmp_path, monkeypatch):
    write_bytes, calls = Path.write_bytes, []

    def full(self, content):
        calls.append(self)
        if len(calls) == written:
            raise OSError(errno.ENOSPC, "No space left on device")
        write_bytes(self, content)

    model = tmp_path / "m.tflite"
    card.write(model, b"old", {"sha256": "old"})
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UserError, match="No space left on device"):
        card.write(model, b"new", {"sha256": "new"})
    assert len(calls) == written and sorted(path.name for path in tmp_path.iterdir()) == ["m.json", "m.tflite"]
    assert model.read_bytes() == b"old" and json.loads(card.path_of(model).read_text()) == {"sha256": "old"}


@pytest.mark.parametrize("content", ['{"seed": 1}', "[]", "sha256", "[" * 100_000, None])
def test_only_a_card_is_overwritten_by_a_card(content, tmp_path):
    """A run has its config.json where the card of RUN/config.tflite belongs."""
    place = tmp_path / "config.json"
    place.mkdir() if content is None else place.write_text(content)
    with pytest.raises(UserError, match="config.json is (a folder|there)"):
        card.write(tmp_path / "config.tflite", b"new", {"sha256": "new"})
    assert list(tmp_path.iterdir()) == [place]
    assert content is None or place.read_text() == content
