"""A trace of where the time of some steps goes."""

from pathlib import Path

import jax


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
            options = jax.profiler.ProfileOptions()
            options.host_tracer_level = 3  # on a CPU, each of XLA's operations and each kernel by its name
            options.python_tracer_level = 0
            jax.profiler.start_trace(str(self._folder), create_perfetto_trace=True, profiler_options=options)
            self._on = True
        elif self._on and step >= self._edges[1]:
            self.close()

    def close(self) -> None:
        if self._on:
            self._on = False
            jax.profiler.stop_trace()
            print(f"trace of steps from {self._edges[0]} on: {self._folder}", flush=True)
