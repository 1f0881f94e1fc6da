"""Several processes that train one network: how they find each other, agree, and end when one of them is lost.

All run the same command, each with devices of its own. Process 0 is the leader: it runs the service of JAX by which
all find each other, and it alone writes files and reports. At the start the others wait until it listens (`_find`), and
then each for all of them (`_initialize`). In training each step adds up over all devices, so no process gets ahead of
another; what depends on one process alone, such as a signal that it got, is agreed on first (`agree`). At the end, also
where all stop after a checkpoint, each waits until all have come there (`jax.distributed.shutdown`).

After an error a process must not wait for the others, as Python's usual way out would: they wait for it in the middle
of a step. So it reports its error and leaves by `os._exit`. JAX in the others notices that, or that it was killed, in
HEARTBEAT_SECONDS: some find their step failing, the rest are aborted, as are those that wait for others longer than
CONNECT_SECONDS. As no Python code runs in an aborted process, its `LastWords` say what to do: a little shell beside it.
"""

import contextlib
import importlib.util
import itertools
import os
import socket
import subprocess
import sys
import time

import jax
import numpy as np
from jax.experimental import multihost_utils

from onebnet_jax import errors
from onebnet_jax.errors import UserError
from onebnet_jax.training import signals

CONNECT_SECONDS = 300  # how long the first process is waited for, and then all of them
HEARTBEAT_SECONDS = 60  # a process that is silent for so long is taken for lost
LOST = (
    "error: this process broke off, most likely because another process of the run was lost; start all of them again "
    "with the same command, and training goes on from the last checkpoint."
)


class LastWords:
    """A line that a shell writes to standard error when this process ends, however it does: its pipe closes then."""

    SHELL = 'trap "" INT TERM HUP; while read -r line; do words=$line; done; [ -z "$words" ] || echo "$words" >&2'

    def __init__(self, words: str):
        self._shell = subprocess.Popen(["sh", "-c", self.SHELL], stdin=subprocess.PIPE, start_new_session=True)
        self.change(words)

    def change(self, words: str) -> None:
        self._shell.stdin.write(f"{words}\n".encode())
        self._shell.stdin.flush()

    def end(self, spoken: bool) -> None:
        """Ends the shell while this process lives still."""
        self._shell.communicate(b"" if spoken else b"\n")


@contextlib.contextmanager
def joined(coordinator: str | None = None, processes: int | None = None, process: int | None = None):
    """Joins the other processes of a run, if there are any, before JAX looks for its devices.

    The coordinator, HOST:PORT, is where the first process listens; `process` is the number of this one, from 0. Without
    these, JAX asks the environment: Slurm (srun), Open MPI (mpirun), or a TPU slice. A process that loses the others
    ends with status 1, or by SIGABRT where JAX aborts it. Raises UserError if the three cannot be, Unavailable if the
    first process cannot be reached or, in the first itself, the port is taken.
    """
    _check(coordinator, processes, process)
    if coordinator is None and not _in_cluster():
        yield
        return
    with signals.at_once():
        if coordinator is not None:
            _find(coordinator, process)
        words = LastWords(apart(coordinator, processes))
        try:
            _initialize(coordinator, processes, process)
        except BaseException:
            words.end(spoken=False)
            raise
        words.change(LOST)
    try:
        try:
            yield
        except errors.Interrupted:  # as all processes are, at the same step
            jax.distributed.shutdown()
            raise
        jax.distributed.shutdown()
    except BaseException as error:
        # Any exception but these may be what the loss of another process looks like from here.
        foreseen = isinstance(error, (*errors.FORESEEN, KeyboardInterrupt, SystemExit))
        alone = jax.process_count() == 1
        words.end(spoken=not (foreseen or alone))
        if alone:
            raise
        status = errors.report(error)
        sys.stdout.flush()
        os._exit(status)
    words.end(spoken=False)


def apart(coordinator: str | None, processes: int | None) -> str:
    """What is said of a process that ends before it has joined the others."""
    where = f" ({processes} at {coordinator})" if coordinator else ""
    remedy = f"start all of them within {CONNECT_SECONDS} s, the first where the others can reach it."
    return f"error: this process ended before all processes of the run had met{where}; {remedy}"


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
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise UserError(f"--coordinator={coordinator!r} must be HOST:PORT, such as 10.0.0.1:1234.")


def _in_cluster() -> bool:
    """Whether this process was started as one of several, or on a TPU machine, which may be one of several."""
    several = any(os.environ.get(name, "1") != "1" for name in ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE"))
    return several or importlib.util.find_spec("libtpu") is not None


def _find(coordinator: str, process: int) -> None:
    """Returns once the first process listens, or in the first itself, when it can listen and its host has an address.

    Only then can JAX be left to join the others, as the errors that it meets there end the whole process.
    """
    host, _, port = coordinator.rpartition(":")
    host, limit = host.strip("[]"), time.monotonic() + CONNECT_SECONDS
    if process == 0:
        _check_port(int(port))
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


def _check_port(port: int) -> None:
    """Raises Unavailable if this process cannot listen at a port of all its addresses, as JAX does."""
    try:
        with socket.socket(socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections of an earlier run do not count
            probe.bind(("", port))
    except OSError as error:
        fault = f"The first process cannot listen at port {port} ({error.strerror or error})"
        raise errors.Unavailable(f"{fault}; choose another one in the --coordinator of all processes.") from error


def _initialize(coordinator: str | None, processes: int | None, process: int | None) -> None:
    limits = {"initialization_timeout": CONNECT_SECONDS, "heartbeat_timeout_seconds": HEARTBEAT_SECONDS}
    try:
        jax.distributed.initialize(coordinator, processes, process, **limits)
    except (ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        if coordinator is not None or "should be defined" not in reason:  # as a TPU machine on its own says
            raise errors.Unavailable(f"The other processes of the run could not be joined: {reason[:300]}") from error


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
