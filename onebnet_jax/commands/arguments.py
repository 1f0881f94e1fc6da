"""What the commands' argument parsers share. Imports nothing heavy: `--help` answers at once."""

import argparse
import os
from pathlib import Path

from onebnet_jax import surroundings


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
