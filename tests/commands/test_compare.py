"""The command compare: its table and its plot."""

import pytest
from workdirs import measured

from onebnet_jax.commands import compare, figures
from onebnet_jax.errors import UserError


def test_the_table(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    measured(tmp_path / "run", train=[(1800, 60.0, 71.0)])
    (tmp_path / "logs").mkdir()
    compare.main(["~/run", "~/logs", "--markdown"])
    printed = capsys.readouterr()
    assert [cell.strip() for cell in printed.out.splitlines()[-1].split("|")][1:3] == ["run", "1 of 6"]
    assert "logs" in printed.err


def test_the_plot(tmp_path, monkeypatch):
    """Each run has a line of test and one of training images in one colour; one that was not evaluated yet, too."""
    drawn, save = [], figures.save
    monkeypatch.setattr(
        figures, "save", lambda drawing, path: (drawn.extend(drawing.axes[0].get_lines()), save(drawing, path))
    )
    one = measured(tmp_path / "one", train=[(1800, 60.0, 71.0), (1800, 65.0, 70.0)])
    two = measured(tmp_path / "two", train=[(1800, 50.0, None)])
    compare.main([str(one), str(two), f"--plot={tmp_path / 'curves.png'}"])
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert [line.get_xydata().tolist() for line in drawn] == [[[1, 71], [2, 70]], [[1, 60], [2, 65]], [], [[1, 50]]]
    assert [line.get_label() for line in drawn[::2]] == ["one", "two"]
    assert drawn[0].get_color() == drawn[1].get_color() != drawn[2].get_color()
    for file in ("nowhere/curves.png", "curves.nonsense"):
        with pytest.raises(UserError, match=f"{file} cannot be written"):
            compare.main([str(one), f"--plot={tmp_path}/{file}"])
