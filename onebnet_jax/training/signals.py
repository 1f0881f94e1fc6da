"""Being asked to stop: by Ctrl-C, by a scheduler that takes the machine away, or by kill."""

import contextlib
import os
import signal
import stat
import sys
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def stopping() -> Iterator[Callable[[], bool]]:
    """Yields a function that says whether SIGINT or SIGTERM came; a second SIGINT raises KeyboardInterrupt."""
    asked = []

    def ask(number, frame):
        if asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        asked.append(number)
        _outlive_readers()
        words = f"\n{signal.Signals(number).name}: stopping after a checkpoint (Ctrl-C: at once)\n"
        with contextlib.suppress(OSError):  # a full disk, a terminal that is gone
            os.write(sys.stderr.fileno(), words.encode())  # not by print: the signal may have come in the middle of it

    with _handled_by(ask, signal.SIGINT, signal.SIGTERM):
        yield lambda: bool(asked)


def at_once() -> contextlib.AbstractContextManager:
    """Within, Ctrl-C ends the process at once; Python's own way would wait for JAX, which may wait for long."""
    return _handled_by(signal.SIG_DFL, signal.SIGINT)


@contextlib.contextmanager
def _handled_by(handler, *numbers: int) -> Iterator[None]:
    before = {n: signal.signal(n, handler) for n in numbers if signal.getsignal(n) != signal.SIG_IGN}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


def _outlive_readers() -> None:
    """Holds the other end of pipes open too, so that none breaks when Ctrl-C also ends `tee` in `... | tee log`."""
    for number in (1, 2):
        with contextlib.suppress(OSError):
            if stat.S_ISFIFO(os.fstat(number).st_mode):
                os.open(f"/proc/self/fd/{number}", os.O_RDONLY | os.O_NONBLOCK)
