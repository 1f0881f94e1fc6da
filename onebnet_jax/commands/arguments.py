"""What the commands' argument parsers share. Imports nothing heavy: `--help` answers at once."""

import argparse
import os
import runpy
from pathlib import Path

from onebnet_jax import surroundings
from onebnet_jax.errors import own_line


def parser(command: str, description: str, examples: str = "") -> argparse.ArgumentParser:
    """A parser for `onebnet COMMAND`, with examples at the end of its help."""
    options = dict(allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter)
    return argparse.ArgumentParser(f"onebnet {command}", description=description, epilog=examples, **options)


def path(text: str) -> Path:
    """A path as users write it: `~` is the home folder also where the shell leaves it alone, as in --workdir=~/runs.

    Refuses addresses such as gs://BUCKET/DIR.
    """
    if fault := surroundings.remote(text):
        raise argparse.ArgumentTypeError(f"{fault}.")
    return Path(os.path.expanduser(text))


def run(text: str) -> Path | str:
    """The work directory of a run: a path, or gs://BUCKET/DIR, which stays as it is written."""
    return text if surroundings.in_bucket(text) else path(text)


def imports(parser: argparse.ArgumentParser) -> None:
    """Gives a parser --import=FILE.py, which runs a user's file at once: what it adds is known when a run is read."""
    text = "first run a Python file of yours that adds an estimator or the like, such as RUN/config.py"
    parser.add_argument("--import", action="append", type=_imported, metavar="FILE.py", dest="imported", help=text)


def _imported(text: str) -> Path:
    file = path(text)
    try:
        runpy.run_path(str(file))
    except Exception as error:  # whatever such a file may raise
        fault = f"{file} cannot be run: {surroundings.of_kind(error)}"
        raise argparse.ArgumentTypeError(f"{fault}{own_line(error)}") from error
    return file
