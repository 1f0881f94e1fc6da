"""What commands print: tables, coloured on a terminal alone, and nothing that libraries write unasked."""

import io
import os

import pytest

from onebnet_jax.errors import quietly
from onebnet_jax.tables import show

ROWS = [["name", "ms", "note"], ["a [b]", "12.5", "slow"], ["c", "3", ""]]


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(("columns", "coloured"), [("80", True), ("18", False)])
def test_a_table_is_coloured_on_a_terminal_that_it_fits(monkeypatch, columns, coloured):
    out = Terminal()
    monkeypatch.setattr("sys.stdout", out)
    for name, value in {"COLUMNS": columns, "TERM": "xterm-256color", "NO_COLOR": ""}.items():
        monkeypatch.setenv(name, value)
    show("A title", ROWS)
    assert ("\x1b[" in out.getvalue()) == coloured
    assert all(cell in out.getvalue() for row in ROWS for cell in row)


def test_a_table_is_text_in_a_pipe_and_markdown_on_request(capsys):
    show("A title", ROWS, ROWS)
    table = "name     ms  note\n-----  ----  ----\na [b]  12.5  slow\nc         3\n"
    assert capsys.readouterr().out == f"A title\n\n{table}\n{table}"
    show(ROWS, markdown=True)
    assert capsys.readouterr().out.splitlines()[1:3] == ["| ----- | ---: | ---- |", "| a [b] | 12.5 | slow |"]


def test_what_a_library_writes_is_shown_only_where_it_fails(capfd):
    with quietly():
        os.write(2, b"no driver\n")
    os.write(2, b"ours\n")
    assert capfd.readouterr().err == "ours\n"
    with pytest.raises(ImportError), quietly():
        os.write(2, b"no driver\n")
        raise ImportError
    assert capfd.readouterr().err == "no driver\n"
