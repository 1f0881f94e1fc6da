"""The exceptions that end a command with one sentence, and the exit statuses."""

import collections
import contextlib
import logging
import os
import signal
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterable, Iterator

from onebnet_jax import surroundings

FAULT = 1  # something else broke: another process, a machine; the same command may do better
USER_ERROR = 2  # mend what the sentence names
STOPPED = 128 + signal.SIGINT  # by Ctrl-C, at once
INTERRUPTED = 75  # give the same command again to go on; sysexits.h calls it EX_TEMPFAIL


class UserError(ValueError):
    """Bad input, missing data, an unusable folder: one clear sentence that names the thing and the remedy."""


class Unknown(UserError):
    """A name that is none of those known here; code of a user's own may add it."""


class Unavailable(Exception):
    """Something that is not there or not free at present, where nothing is wrong with the command; one sentence."""


class Interrupted(Exception):
    """Training was asked to stop, and has left a checkpoint."""


class Parts(collections.UserDict):
    """Functions by the names that configs use; a user's own code adds more, but replaces none that the package has.

    The kernels, and files for devices, have those by name: they would go on computing what was replaced.
    """

    def __init__(self, kind: str, **given: Callable):
        self.kind, self.given = kind, frozenset()
        super().__init__(given)
        self.given = frozenset(given)

    def __setitem__(self, name: str, function: Callable) -> None:
        if name in self.given:
            raise UserError(f"The package has its own {self.kind} {name!r}; give yours another name.")
        super().__setitem__(name, function)


def one_of(field: str, value: object, allowed: Iterable) -> None:
    """Raises Unknown if the value of a field of the configs is none of those."""
    if value not in allowed:
        raise Unknown(f"{field}={value!r} will not do; it must be one of {', '.join(map(str, allowed))}.")


def local(name: str, address: object) -> None:
    """Raises UserError for an address such as gs://BUCKET/DIR where a path of this machine is needed."""
    if fault := surroundings.remote(address):
        raise UserError(f"{name}: {fault}.")


def check_numpy() -> None:
    """Raises UserError beside a NumPy of which Larq Compute Engine would read arrays as empty."""
    if fault := surroundings.numpy_fault():
        raise UserError(f"{fault}.")


def own_line(error: BaseException) -> str:
    """ ", in line 6 of mine.py" for the last line of a user's own file that an exception came through, or ""."""
    installed = map(sysconfig.get_path, ("stdlib", "platstdlib", "purelib", "platlib"))
    others = tuple(f"{folder}{os.sep}" for folder in (os.path.dirname(__file__), *installed))
    for place in reversed(surroundings.came_through(error)):
        if os.path.isfile(place.filename) and not os.path.abspath(place.filename).startswith(others):
            return f", in line {place.lineno} of {place.filename}"
    return ""


FORESEEN = (UserError, Unavailable, Interrupted)


def report(error: BaseException) -> int:
    """Prints what ends a command, and returns its exit status."""
    if isinstance(error, KeyboardInterrupt):
        print("interrupted", file=sys.stderr, flush=True)
        return STOPPED
    if not isinstance(error, FORESEEN):
        traceback.print_exception(error)
        return FAULT
    stopped = isinstance(error, Interrupted)
    print(f"{'interrupted' if stopped else 'error'}: {error}", file=sys.stderr, flush=True)
    return INTERRUPTED if stopped else USER_ERROR if isinstance(error, UserError) else FAULT


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Holds back what C++ libraries write to standard error unasked; shown if the block raises.

    TensorFlow's imports write of graphics drivers before they read TF_CPP_MIN_LOG_LEVEL, TensorFlow Lite of delegates.
    """
    try:
        kept = os.dup(2)
    except OSError:  # there is no standard error
        yield
        return
    with open(os.memfd_create("stderr"), "r+b") as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(kept, held.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def _unraisable(found) -> None:
    """Prints what goes wrong where nothing can be raised, but for what a checkpoint on a full disk leaves by dozens."""
    if str(found.exc_value) != "Event loop is closed":
        sys.__unraisablehook__(found)


def _end_output() -> None:
    """Writes what is left of standard output, or gives up what cannot be written: Python would complain at its end."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _open_streams() -> None:
    """Has /dev/null stand for what a shell closed, as by >&-: the next file to be opened would take its place."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)  # a compiler's too
    os.close(number)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "r" if name == "stdin" else "w"))


def cli(main: Callable[[list[str]], None]) -> None:
    """Runs a command on the program's arguments; how it ends for the exceptions here is `report`'s."""
    _open_streams()
    sys.unraisablehook = _unraisable
    # What the threads that write checkpoints meet is raised again where they are waited for, and told in one sentence.
    logging.getLogger("absl").addFilter(lambda record: record.levelno < logging.ERROR or "orbax" not in record.pathname)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    try:
        if fault := surroundings.prepare():
            raise UserError(fault)
        main(sys.argv[1:])
        sys.stdout.flush()
        return
    except BrokenPipeError:  # nobody reads on, as behind `| head`
        status = FAULT
    except (KeyboardInterrupt, *FORESEEN) as error:
        status = report(error)
    except Exception as error:
        fault = surroundings.blame(error)
        if fault is None:
            raise
        status = report(UserError(fault))
    _end_output()
    if status == STOPPED:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)  # so that a shell's loop ends too; the first process of a container goes on
    sys.exit(status)
