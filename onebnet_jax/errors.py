"""The exceptions that end a command with one sentence, and the exit statuses."""

import sys
import traceback
from collections.abc import Callable

USER_ERROR = 2  # mend what the sentence names
INTERRUPTED = 75  # give the same command again to go on; sysexits.h calls it EX_TEMPFAIL


class UserError(ValueError):
    """Bad input, missing data, an unusable folder: one clear sentence that names the thing and the remedy."""


class Interrupted(Exception):
    """Training was asked to stop, and has left a checkpoint."""


def report(error: BaseException) -> int:
    """Prints what ends a command, and returns its exit status."""
    if isinstance(error, UserError):
        print(f"error: {error}", file=sys.stderr, flush=True)
        return USER_ERROR
    if isinstance(error, Interrupted):
        print(f"interrupted: {error}", file=sys.stderr, flush=True)
        return INTERRUPTED
    traceback.print_exception(error)
    return 1


def cli(main: Callable[[list[str]], None]) -> None:
    """Runs a command on the program's arguments; what it says for a UserError or an interruption is `report`'s."""
    try:
        main(sys.argv[1:])
    except (UserError, Interrupted) as error:
        sys.exit(report(error))
