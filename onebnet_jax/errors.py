"""The one exception for what the user can mend, and how commands end with it."""

import sys
from collections.abc import Callable


class UserError(ValueError):
    """Bad input, missing data, an unusable folder: one clear sentence that names the thing and the remedy."""


def cli(main: Callable[[list[str]], None]) -> None:
    """Runs a command on the program's arguments; a UserError ends it with its sentence and exit status 2."""
    try:
        main(sys.argv[1:])
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
