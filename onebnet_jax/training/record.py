"""What a stage of training leaves on disk and shows while it runs: checkpoints, metrics, a progress bar."""

import contextlib
import os
import time
from pathlib import Path

import jax
import numpy as np
from tqdm import tqdm

from onebnet_jax.errors import Interrupted, UserError
from onebnet_jax.native import library
from onebnet_jax.runs.checkpoint import BEST, LAST, PENDING, Checkpoints
from onebnet_jax.runs.metrics import Metrics
from onebnet_jax.training import diagnostics
from onebnet_jax.training.steps import TrainState


class Record(contextlib.AbstractContextManager):
    """The record of a stage in its folder; `best` and `result` are evaluations, `result` the latest."""

    def __init__(self, folder: Path, checkpoint_seconds: float, state: TrainState, total: int, batch_size: int):
        """Shows progress to `total` steps from `self.state` on: the newest checkpoint, or what is given if none is."""
        self._folder, self._checkpoint_seconds = folder, checkpoint_seconds
        self._checkpoints = Checkpoints(folder)
        self.best, self.result, self._seconds = {"top1": -1.0}, {}, 0.0  # of the steps of the current epoch
        pending = None
        if (self._checkpoints.latest_step(PENDING) or 0) > (self._checkpoints.latest_step(LAST) or 0):
            with contextlib.suppress(UserError):  # says itself that it cannot be read
                pending = self._checkpoints.restore(PENDING, like=state)
        if restored := pending or self._checkpoints.restore(LAST, like=state):
            step, state, info = restored
            self.best, self.result, self._seconds = (info[name] for name in ("best", "result", "seconds"))
            print(f"resumed from the checkpoint of step {step}", flush=True)
            now = library.in_use()
            if (before := info.get("arithmetic", now)) != now and step < total:
                print(f"Until here {before} computed this run, from here on {now}: the results differ by rounding.")
        self.state, done = state, int(state.step)
        self._saved_step, self._saved_at = done, time.monotonic()
        self._metrics = Metrics(folder, done if pending else done + 1)
        style = dict(desc=folder.name, unit="img", unit_scale=True, mininterval=1.0)
        first = "compiling" if done < total else None
        self._bar = tqdm(total=total * batch_size, initial=done * batch_size, postfix=first, **style)

    def __exit__(self, kind, *_) -> None:
        """Returns when everything is on disk, unless that has failed already."""
        try:
            if kind in (None, Interrupted):
                self._checkpoints.close()
                self._metrics.close()
        finally:
            self._bar.close()

    def advance(self, images: int, seconds: float) -> None:
        self._seconds += seconds
        if self._bar.postfix == "compiling":  # so was the first step, no other
            self._bar.postfix = ""
        self._bar.update(images)

    def trained(self, step: int, values: dict) -> None:
        """Writes down an epoch of training, its time, and the memory held after it, in MiB."""
        pages = int(Path("/proc/self/statm").read_text().split()[1])  # resident
        values = values | {"seconds": self._seconds, "host_mib": pages * os.sysconf("SC_PAGE_SIZE") / 2**20}
        if device := jax.local_devices()[0].memory_stats():
            values["device_mib"] = device["bytes_in_use"] / 2**20
        self._metrics.write(step, "train", values)
        self._seconds = 0.0

    def evaluated(self, step: int, variables: dict, result: dict) -> None:
        """Writes down an evaluation, and keeps the variables if none before were better: of equals the later."""
        self.result = result
        self._metrics.write(step, "test", result)
        chosen = "validation_top1" if "validation_top1" in result else "top1"
        if result[chosen] >= self.best.get(chosen, -1.0):
            self.best = result
            self._checkpoints.save(BEST, step, variables, result)
        words = f"test Top-1 {result['top1']:.2f} % (best {self.best['top1']:.2f} %, chosen on test images)"
        if chosen != "top1":
            words = f"validation Top-1 {result[chosen]:.2f} % (best {self.best[chosen]:.2f} %)"
        self._bar.set_postfix_str(f"epoch {result['epoch']}, {words}")

    def diagnosed(self, step: int, before: int, signs: dict[str, np.ndarray], values: dict) -> None:
        """Writes down the diagnostics of the epoch that began at step `before`; at step 0 there are none yet.

        The signs of the weights stay on disk for the next epoch, and two epochs more: a run may go on from there.
        """
        folder = self._folder / "signs"
        if (path := folder / f"{before}.npz").exists() and step:
            with np.load(path) as kept:
                values |= diagnostics.flipped(dict(kept), signs)
        if values:
            self._metrics.write(step, "diagnostics", values)
        folder.mkdir(exist_ok=True)
        part = folder / "part"
        with part.open("wb") as file:
            np.savez_compressed(file, **signs)
        part.replace(folder / f"{step}.npz")
        for path in folder.glob("*.npz"):
            if int(path.stem) < 2 * before - step:
                path.unlink()

    def due(self, step: int) -> bool:
        """Whether it is time for a checkpoint again."""
        return step > self._saved_step and time.monotonic() - self._saved_at > self._checkpoint_seconds

    def save(self, step: int, state: TrainState, pending: bool) -> None:
        self._saved_step, self._saved_at = step, time.monotonic()
        info = {"best": self.best, "result": self.result, "seconds": self._seconds, "arithmetic": library.in_use()}
        self._checkpoints.save(PENDING if pending else LAST, step, state, info)

    def last_checkpoint(self) -> Path | None:
        self._checkpoints.wait()
        step = self._checkpoints.latest_step(LAST)
        return None if step is None else self._folder / "checkpoints" / LAST / str(step)


class Silent(contextlib.AbstractContextManager):
    """The record of a process that is not the leader: none."""

    best, result = {}, {}

    def __init__(self, state: TrainState):
        self.state = state

    def due(self, *_, **__) -> bool:
        return False

    __exit__ = advance = trained = evaluated = diagnosed = save = last_checkpoint = due
