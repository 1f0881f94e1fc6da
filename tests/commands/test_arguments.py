"""What the commands have in common: help at once, and a home folder wherever it is written."""

import json
import subprocess
import sys

import pytest

from onebnet_jax.commands import arguments

PROGRAM = """
import contextlib, importlib, io, json, sys
helped = {}
for name in sys.argv[1:]:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        importlib.import_module(f"onebnet_jax.commands.{name}").main(["--help"])
    helped[name] = printed.getvalue()
print(json.dumps([helped, sorted(name for name in sys.modules if "." not in name)]))
"""
COMMANDS = ("agree", "benchmark", "compare", "convert", "cost", "table1", "teacher")


def test_help_imports_nothing_that_takes_time():
    done = subprocess.run([sys.executable, "-c", PROGRAM, *COMMANDS], capture_output=True, text=True, check=True)
    helped, modules = json.loads(done.stdout)
    for name, text in helped.items():
        assert f"usage: onebnet {name} " in text and f"\n  onebnet {name} " in text  # the examples
    heavy = {
        "jax",
        "numpy",
        "flax",
        "optax",
        "orbax",
        "ml_collections",
        "absl",
        "tensorflow",
        "larq",
        "tqdm",
        "matplotlib",
    }
    assert heavy.isdisjoint(modules)


@pytest.mark.parametrize("text", ["~/runs/a", "runs/a"])
def test_the_home_folder_is_found(text, monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    assert str(arguments.path(text)) == text.replace("~", "/home/someone")
