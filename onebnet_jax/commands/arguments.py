"""Types of command-line arguments, for argparse."""

import os
from pathlib import Path


def path(text: str) -> Path:
    """A path as users write it: `~` is the home folder also where the shell leaves it alone, as in --workdir=~/runs."""
    return Path(os.path.expanduser(text))
