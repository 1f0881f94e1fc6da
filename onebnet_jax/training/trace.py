"""A trace of where the time of some steps goes."""

import collections
import gzip
import importlib
import json
import re
import sys
from pathlib import Path

import jax

from onebnet_jax.errors import quietly


def start(folder) -> None:
    """Begins a trace, which `stop` writes; on a CPU it names each of XLA's operations and kernels."""
    options = jax.profiler.ProfileOptions()
    options.host_tracer_level, options.python_tracer_level = 3, 0
    with quietly():  # it imports TensorFlow where that is installed
        jax.profiler.start_trace(str(folder), create_perfetto_trace=True, profiler_options=options)
    _mend_tensorflow()


def stop() -> None:
    """Ends the trace and writes it."""
    jax.profiler.stop_trace()
    _mend_tensorflow()


def _mend_tensorflow() -> None:
    """JAX's profiler puts a truth value where TensorFlow has a function, whose next call, as by tf.data, would fail."""
    module = sys.modules.get("tensorflow.python.profiler.trace")
    if module is not None and not callable(module.enabled):
        importlib.reload(module)


class Trace:
    """Steps first to last - 1 of a stage, traced into FOLDER/profile, which TensorBoard and ui.perfetto.dev open."""

    def __init__(self, folder: Path, steps: tuple[int, int] | None):
        self._folder = folder / "profile"
        self._edges = steps or ()
        self._on = False

    def limit(self, step: int, length: int) -> int:
        """How many of the next `length` steps to take in one call, which begins and ends at the edges of the trace."""
        return min([length, *(edge - step for edge in self._edges if edge > step)])

    def at(self, step: int) -> None:
        """Begins or ends the trace where it is time to."""
        if self._edges and self._edges[0] <= step < self._edges[1] and not self._on:
            start(self._folder)
            self._on = True
        elif self._on and step >= self._edges[1]:
            self.close()

    def close(self) -> None:
        if self._on:
            self._on = False
            stop()
            print(f"trace of steps from {self._edges[0]} on: {self._folder}", flush=True)


def spent(folder: str | Path, compiled: str) -> dict[str, float]:
    """Seconds of a trace of a CPU by what they were spent on, the most first: our kernels, and kinds of XLA's work.

    compiled is the text of the program that ran, which has the kernels' names.
    """
    kernels = dict(re.findall(r'%?(\S+) = .*custom_call_target="onebnet_(\w+)"', compiled))
    (file,) = Path(folder).rglob("perfetto_trace.json.gz")
    events = json.loads(gzip.decompress(file.read_bytes()))["traceEvents"]
    names = {(e["pid"], e["tid"]): e["args"]["name"] for e in events if e.get("name") == "thread_name"}
    seconds = collections.Counter()
    for event in events:
        if event.get("ph") != "X" or "XLAEigen" not in names[event["pid"], event["tid"]]:
            continue
        name = event["name"]
        if name.startswith(("ThunkExecutor", "call", "while")):  # what they hold is there too
            continue
        xla = "convolutions and matrix products" if name.startswith(("conv", "dot")) else "everything else"
        seconds[f"kernel {kernels[name]}" if name in kernels else f"XLA: {xla}"] += event["dur"] / 1e6
    return dict(seconds.most_common())
