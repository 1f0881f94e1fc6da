"""The processes that train one network: how several find each other, agree and end, and how one is asked to stop.

Process 0, the leader, runs the service of JAX by which all find each other, and it alone writes files and reports. What
depends on one process alone, such as a signal, is agreed on first. At the end each waits until all have come there.

After an error a process must not wait for the others, as Python's usual way out would: they wait for it in the middle
of a step. So it leaves by `os._exit`. JAX in the others notices that, or that it was killed, in HEARTBEAT_SECONDS: some
find their step failing, the rest are aborted, without any Python code that could say why; their `_last_words` do.
"""

import contextlib
import importlib.util
import itertools
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import jax
import numpy as np
from jax.experimental import multihost_utils

from onebnet_jax import errors, surroundings
from onebnet_jax.errors import UserError
from onebnet_jax.native import library

CONNECT_SECONDS = 300  # how long the first process is waited for, and then all of them
HEARTBEAT_SECONDS = 60  # a process that is silent for so long is taken for lost
LOST = (
    "error: this process broke off, most likely because another process of the run was lost; start all of them again "
    "with the same command, and training goes on from the last checkpoint."
)


@contextlib.contextmanager
def joined(coordinator: str | None = None, processes: int | None = None, process: int | None = None):
    """Joins the other processes of a run, if there are any, before JAX looks for its devices.

    The coordinator, HOST:PORT, is where the first process listens; `process` is the number of this one, from 0. Without
    these, JAX asks the environment: Slurm (srun), Open MPI (mpirun), or a TPU slice. A process that loses the others
    ends with status 1, or by SIGABRT where JAX aborts it. Raises UserError if the three cannot be, and Unavailable.
    """
    _check(coordinator, processes, process)
    announced = [name for name in ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE") if os.environ.get(name, "1") != "1"]
    on_tpu = importlib.util.find_spec("libtpu") is not None  # this machine may be one of several
    if coordinator is None and not announced and not on_tpu:
        yield
        return
    with handled_by(signal.SIG_DFL, signal.SIGINT):  # Python's own way would wait for JAX, which may for long
        if coordinator is not None:
            _find(coordinator, process)
        say, remedy = _last_words(), ""
        if coordinator is None and announced:
            told = f"{announced[0]}={os.environ[announced[0]]} announces"
            remedy = f"where this is the only process, unset {announced[0]}"
            print(
                f"waiting up to {CONNECT_SECONDS} s for the processes that {told}; {remedy}",
                file=sys.stderr,
                flush=True,
            )
        say(apart(coordinator, processes, remedy))
        limits = {"initialization_timeout": CONNECT_SECONDS, "heartbeat_timeout_seconds": HEARTBEAT_SECONDS}
        try:
            jax.distributed.initialize(coordinator, processes, process, **limits)
        except (ValueError, RuntimeError) as error:
            if coordinator is not None or "should be defined" not in str(error):  # as a TPU machine on its own says
                fault = f"The other processes of the run could not be joined: {surroundings.in_short(error)}"
                raise errors.Unavailable(f"{fault}{remedy and '; '}{remedy}.") from error
        finally:
            say("")
    say(LOST)
    try:
        try:
            yield
        except errors.Interrupted:  # as all processes are, at the same step
            jax.distributed.shutdown()
            raise
        jax.distributed.shutdown()
    except BaseException as error:
        say("")
        if jax.process_count() == 1:
            raise
        # Any exception but these may be what the loss of another process looks like from here.
        if not isinstance(error, (*errors.FORESEEN, KeyboardInterrupt, SystemExit)):
            print(LOST, file=sys.stderr)
        status = errors.report(error)
        sys.stdout.flush()
        os._exit(status)
    say("")


def _last_words() -> Callable[[str], None]:
    """Returns say(words): a shell writes the last of them to standard error when this process ends, however it does."""
    script = 'trap "" INT TERM HUP; while read -r line; do words=$line; done; [ -z "$words" ] || echo "$words" >&2'
    shell = subprocess.Popen(["sh", "-c", script], stdin=subprocess.PIPE, start_new_session=True)

    def say(words: str) -> None:
        shell.stdin.write(f"{words}\n".encode())
        shell.stdin.flush()

    return say


def apart(coordinator: str | None, processes: int | None, other: str = "") -> str:
    """What is said of a process that ends before it has joined the others; other: a remedy besides."""
    where = f" ({processes} at {coordinator})" if coordinator else ""
    remedy = f"start all of them within {CONNECT_SECONDS} s, the first where the others can reach it."
    return (
        f"error: this process ended before all processes of the run had met{where}; {other}{other and ', or '}{remedy}"
    )


def _check(coordinator: str | None, processes: int | None, process: int | None) -> None:
    given = {"--coordinator": coordinator, "--processes": processes, "--process": process}
    missing = [name for name, value in given.items() if value is None]
    if len(missing) == 3:
        return
    if missing:
        raise UserError(f"{' and '.join(missing)} must be given too: {', '.join(given)} go together.")
    if processes < 1 or not 0 <= process < processes:
        raise UserError(f"--process={process} must lie between 0 and --processes={processes} less one.")
    host, _, port = coordinator.rpartition(":")
    named = host and (":" not in host or (host[0], host[-1]) == ("[", "]"))
    if not named or not port.isdecimal() or not 0 < int(port) < 2**16:
        examples = "such as 10.0.0.1:1234 or, by IPv6, [fd00::1]:1234"
        raise UserError(f"--coordinator={coordinator!r} must be HOST:PORT, {examples}.")


def _find(coordinator: str, process: int) -> None:
    """Returns once the first process listens, or in the first itself, when it can listen and its host has an address.

    Only then can JAX be left to join the others, as the errors that it meets there end the whole process.
    """
    host, _, port = coordinator.rpartition(":")
    host, limit = host.strip("[]"), time.monotonic() + CONNECT_SECONDS
    if process == 0:
        try:
            with socket.socket(socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET) as probe:
                probe.setsockopt(
                    socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
                )  # connections of an earlier run do not count
                probe.bind(("", int(port)))  # of all addresses, as JAX does
        except OSError as error:
            fault = f"The first process cannot listen at port {port} ({error.strerror or error})"
            raise errors.Unavailable(f"{fault}; choose another one in the --coordinator of all processes.") from error
    for attempt in itertools.count():
        try:
            if process == 0:
                socket.getaddrinfo(host, port)
            else:
                socket.create_connection((host, port), timeout=10).close()
            return
        except (OSError, UnicodeError) as error:  # also where a name is not known yet, as of a Kubernetes pod
            cause = getattr(error, "strerror", None) or error
            reason = f"The first process cannot be reached at {coordinator} ({cause})"
        if time.monotonic() > limit:
            raise errors.Unavailable(f"{reason}; start it, and give all processes its --coordinator=HOST:PORT.")
        if attempt == 0:
            print(f"{reason}; trying for {CONNECT_SECONDS} s.", file=sys.stderr, flush=True)
        time.sleep(1)


def check_devices() -> None:
    """Raises UserError where JAX does not use the device asked for first, or is set to compute with other numbers.

    And for a misspelt name of the kernels to use.
    """
    surroundings.spare_ynnpack()
    config = jax.config
    library.wanted()
    asked = config.jax_platforms or getattr(config, "jax_platform_name", "") or ""
    first = asked.split(",")[0]
    try:
        used = jax.default_backend()
        jax.random.key(0)  # what else hinders shows at the first array
    except (AssertionError, RuntimeError, OSError) as error:
        raise UserError(surroundings.blame(error) or str(error)) from error
    if first not in ("", used) and not (first in ("cuda", "rocm") and used == "gpu"):
        raise UserError(surroundings.platform_fault(f"JAX_PLATFORMS={asked}", f"it would use the {used.upper()}"))
    for name, ours in surroundings.NUMERIC.items():
        if (found := getattr(config, name.lower(), ours)) != ours:
            raise UserError(f"JAX is set to {name.lower()}={found!r}; set {ours!r}, on which all here is built.")


def is_leader() -> bool:
    """Whether this is the process that writes and reports."""
    return jax.process_index() == 0


def agree(*values: int) -> tuple[int, ...]:
    """The largest that any process has, of each value. All processes have to call this."""
    if jax.process_count() == 1:
        return values
    return tuple(multihost_utils.process_allgather(np.array(values, np.int32)).max(0).tolist())


def from_leader(tree):
    """The leader's arrays, of a tree whose shapes are the same in all processes. All of them have to call this."""
    if jax.process_count() == 1:
        return tree
    return jax.tree.map(np.asarray, multihost_utils.broadcast_one_to_all(tree))


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

    with handled_by(ask, signal.SIGINT, signal.SIGTERM):
        yield lambda: bool(asked)


@contextlib.contextmanager
def handled_by(handler, *numbers: int) -> Iterator[None]:
    """Within, a handler has these signals, but for those that were ignored before."""
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
