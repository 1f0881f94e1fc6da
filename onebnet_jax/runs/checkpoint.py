"""Checkpoints of a run, by Orbax: the last states, to go on from, and the best variables, to use."""

import contextlib
import hashlib
import json
import logging
import os
import re
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from onebnet_jax.errors import UserError

METADATA, DIGEST = "metadata", "digest"
LAST, PENDING, BEST = "last", "pending", "best"
logging.getLogger("orbax").setLevel(logging.ERROR)


class Checkpoints:
    """The checkpoints under the folder of a stage: `last/STEP` (two are kept), `best/STEP`, `pending/STEP` (one each).

    `pending` is for a run that is stopped between the last step of an epoch and its evaluation, after which the same
    step is saved again, as `last`.

    Saving is asynchronous, a checkpoint takes its name only once it is complete, and an older one goes only then. Of
    several processes the leader alone uses this class; the state is the same in all of them.
    """

    def __init__(self, folder: Path):
        self._folder = folder.absolute() / "checkpoints"
        self._managers = {name: self._open(name, keep) for name, keep in ((LAST, 2), (PENDING, 1), (BEST, 1))}

    def _open(self, name: str, keep: int) -> ocp.CheckpointManager:
        folder = self._folder / name
        folder.mkdir(parents=True, exist_ok=True)
        alone = ocp.options.MultiprocessingOptions(active_processes={jax.process_index()}, primary_host=0)
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep,
            cleanup_tmp_directories=True,
            create=False,
            enable_async_checkpointing=True,
            multiprocessing_options=alone,
        )
        return ocp.CheckpointManager(folder, options=options)

    def save(self, name: str, step: int, tree: Any, metadata: dict) -> None:
        """Saves a tree of arrays and a small JSON dictionary. A step that is there already is left as it is.

        Raises UserError if this checkpoint, or the one before that was still being written, cannot be written.
        """
        manager = self._managers[name]
        if step in manager.all_steps():
            return
        tree = jax.tree.map(np.asarray, jax.device_get(tree))
        info = ocp.args.JsonSave({METADATA: metadata, DIGEST: digest(tree, metadata)})
        with self._told():
            manager.save(step, args=ocp.args.Composite(tree=ocp.args.StandardSave(tree), info=info))

    def restore(self, name: str, like: Any = None) -> tuple[int, Any, dict] | None:
        """(step, tree, metadata) of the newest checkpoint that is whole, or None where there is none.

        With `like`, a tree of arrays or shapes, the tree read has its structure, shapes and types. Checkpoints that
        cannot be read are named and moved to `checkpoints/broken`, once an older one was read.

        Raises UserError if there are checkpoints, but none that can be read.
        """
        restored, broken = _restore(self._managers[name], like)
        for step in broken:
            (self._folder / "broken").mkdir(exist_ok=True)
            target = self._folder / "broken" / f"{name}-{step}-{time.time_ns()}"
            (self._folder / name / str(step)).rename(target)
            print(f"moved to {target}", file=sys.stderr)
        if broken:
            self._managers[name].reload()
        return restored

    def latest_step(self, name: str) -> int | None:
        """The step of the newest complete checkpoint."""
        return self._managers[name].latest_step()

    def wait(self) -> None:
        """Returns when all that was saved is on disk. Raises UserError if it cannot be written."""
        with self._told():
            for manager in self._managers.values():
                manager.wait_until_finished()

    def close(self) -> None:
        """Waits, and lets go of the threads that write."""
        self.wait()
        for manager in self._managers.values():
            manager.close()

    @contextlib.contextmanager
    def _told(self):
        """Failures to write, which Orbax has several exceptions for, in one sentence."""
        try:
            yield
        except Exception as error:
            raise UserError(
                f"No checkpoint could be written to {self._folder} ({summary(error)}); make room there or allow "
                "writing, and give the same command again: it goes on from the last checkpoint that is complete."
            ) from error


def digest(tree: Any, metadata: dict | None = None) -> str:
    """A checksum of the arrays of a tree, whatever holds them, and of a JSON dictionary."""
    leaves = (np.asarray(leaf) for leaf in jax.tree.leaves(tree))
    parts = sorted(hashlib.blake2b(f"{x.dtype}{x.shape}".encode() + x.tobytes()).hexdigest() for x in leaves)
    if metadata is not None:
        parts.append(json.dumps(metadata, sort_keys=True))
    return hashlib.blake2b("".join(parts).encode(), digest_size=16).hexdigest()


def summary(error: Exception) -> str:
    """What went wrong, without where in the library."""
    code = re.search(r"os_error_code='(\d+)'", str(error))  # as TensorStore says it, after much else
    if code:
        return os.strerror(int(code[1]))
    return textwrap.shorten(next(iter(str(error).splitlines()), "") or type(error).__name__, 200)


def _restore(manager: ocp.CheckpointManager, like: Any = None) -> tuple[tuple[int, Any, dict] | None, list[int]]:
    """The newest checkpoint that is whole, see `Checkpoints.restore`, and the newer steps that are not."""
    broken, first = [], None
    for step in sorted(manager.all_steps(), reverse=True):
        try:
            return _restore_step(manager, step, like), broken
        except Exception as error:  # Orbax, TensorStore and JSON have many for files that are not whole
            path = manager.directory / str(step)
            print(f"The checkpoint {path} cannot be read: {summary(error)}", file=sys.stderr, flush=True)
            broken.append(step)
            first = first or error
    if broken:
        raise UserError(
            f"None of the checkpoints in {manager.directory} can be read, the newest because: {summary(first)}; "
            "bring one back from elsewhere, or choose another --workdir to start anew."
        ) from first
    return None, []


def _restore_step(manager: ocp.CheckpointManager, step: int, like: Any) -> tuple[int, Any, dict]:
    if like is not None:
        like = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), like)
    args = ocp.args.Composite(tree=ocp.args.StandardRestore(like), info=ocp.args.JsonRestore())
    restored = manager.restore(step, args=args)
    tree, info = jax.tree.map(np.asarray, restored["tree"]), restored["info"]
    if like is not None:  # Orbax compares structures only
        for (path, wanted), found in zip(jax.tree_util.tree_leaves_with_path(like), jax.tree.leaves(tree)):
            if (wanted.shape, wanted.dtype) != (found.shape, found.dtype):
                raise ValueError(
                    f"{jax.tree_util.keystr(path)} is {found.dtype}{found.shape} in the checkpoint of step {step}, "
                    f"where {wanted.dtype}{wanted.shape} is needed."
                )
    return step, tree, _checked(info, tree)


def _checked(info: dict, tree: Any) -> dict:
    """The metadata that came with a tree; raises ValueError if either is not what was saved."""
    if METADATA not in info or info.get(DIGEST) != digest(tree, info[METADATA]):
        raise ValueError("what it holds is not what was saved, by its checksum.")
    return info[METADATA]


def read(stage_folder: Path, name: str) -> tuple[int, Any, dict] | None:
    """(step, tree, metadata) of a stage's newest checkpoint that is whole, or None where it has none.

    Changes nothing on disk. Raises UserError if there are checkpoints, but none that can be read.
    """
    folder = stage_folder.absolute() / "checkpoints" / name
    if not folder.is_dir():
        return None
    manager = ocp.CheckpointManager(folder, options=ocp.CheckpointManagerOptions(create=False))
    restored, _ = _restore(manager)
    manager.close()
    return restored
