"""Checkpoints of a run, by Orbax: the last states, to go on from, and the best variables, to use."""

import contextlib
import errno
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

LAST, PENDING, BEST = "last", "pending", "best"
REMEDIES = {errno.ENOSPC: "make room there", errno.EDQUOT: "make room there"}
REMEDIES |= dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "allow reading and writing there")
logging.getLogger("orbax").setLevel(logging.ERROR)


class Checkpoints:
    """The checkpoints under the folder of a stage: `last/STEP` (two are kept), `best/STEP`, `pending/STEP` (one each).

    `pending` is of a run stopped between an epoch's last step and its evaluation, after which it is saved as `last`.
    Saving is asynchronous; a checkpoint takes its name, and an older one goes, once it is complete. Of several
    processes the leader alone uses this class; the state is the same in all of them.
    """

    def __init__(self, folder: Path):
        self._folder = folder.absolute() / "checkpoints"
        alone = ocp.options.MultiprocessingOptions(active_processes={jax.process_index()}, primary_host=0)
        options = {"create": False, "cleanup_tmp_directories": True, "multiprocessing_options": alone}
        self._managers = {}
        for name, keep in ((LAST, 2), (PENDING, 1), (BEST, 1)):
            (self._folder / name).mkdir(parents=True, exist_ok=True)
            kept = ocp.CheckpointManagerOptions(max_to_keep=keep, **options)
            self._managers[name] = ocp.CheckpointManager(self._folder / name, options=kept)

    def save(self, name: str, step: int, tree: Any, metadata: dict) -> None:
        """Saves a tree of arrays and a small JSON dictionary. A step that is there already is left as it is.

        Raises UserError if this checkpoint, or the one before that was still being written, cannot be written.
        """
        manager = self._managers[name]
        if step in manager.all_steps():
            return
        tree = jax.tree.map(np.asarray, jax.device_get(tree))
        info = ocp.args.JsonSave({"metadata": metadata, "digest": _digest(tree, metadata)})
        with self._told():
            manager.save(step, args=ocp.args.Composite(tree=ocp.args.StandardSave(tree), info=info))

    def restore(self, name: str, like: Any = None) -> tuple[int, Any, dict] | None:
        """(step, tree, metadata) of the newest checkpoint that is whole, or None where there is none.

        `like`, a tree of arrays or shapes, fixes structure, shapes and types. Checkpoints that cannot be read are named
        and moved to `checkpoints/broken`, once an older one was read; UserError if none of them can be.
        """
        restored, broken = _restore(self._managers[name], like)
        for step in broken:
            target = self._folder / "broken" / f"{name}-{step}-{time.time_ns()}"
            target.parent.mkdir(exist_ok=True)
            (self._folder / name / str(step)).rename(target)
            print(f"moved to {target}", file=sys.stderr)
        if broken:
            self._managers[name].reload()
        return restored

    def latest_step(self, name: str) -> int | None:
        return self._managers[name].latest_step()

    def wait(self) -> None:
        """Returns when all that was saved is on disk. Raises UserError if it cannot be written."""
        with self._told():
            for manager in self._managers.values():
                manager.wait_until_finished()

    def close(self) -> None:
        """The same, and lets go of the threads that write."""
        with self._told():
            for manager in self._managers.values():
                manager.close()

    @contextlib.contextmanager
    def _told(self):
        """Failures to write, which Orbax has several exceptions for, in one sentence."""
        try:
            yield
        except Exception as error:
            fault = f"No checkpoint could be written to {self._folder} ({_summary(error)})"
            remedy = next((words for code, words in REMEDIES.items() if os.strerror(code) in fault), "mend that")
            again = "give the same command again: it goes on from the last complete checkpoint"
            raise UserError(f"{fault}; {remedy}, and {again}.") from error


def _digest(tree: Any, metadata: dict) -> str:
    """A checksum of the arrays of a tree, whatever holds them, and of a JSON dictionary."""
    leaves = jax.tree.leaves(tree)
    parts = sorted(hashlib.blake2b(f"{x.dtype}{x.shape}".encode() + x.tobytes()).hexdigest() for x in leaves)
    parts.append(json.dumps(metadata, sort_keys=True))
    return hashlib.blake2b("".join(parts).encode(), digest_size=16).hexdigest()


def _summary(error: Exception) -> str:
    """What went wrong, without where in the library."""
    if code := re.search(r"os_error_code='(\d+)'", str(error)):  # as TensorStore says it, after much else
        return os.strerror(int(code[1]))
    return textwrap.shorten(next(iter(str(error).splitlines()), "") or type(error).__name__, 200)


def _restore(manager: ocp.CheckpointManager, like: Any = None) -> tuple[tuple[int, Any, dict] | None, list[int]]:
    """The newest checkpoint that is whole, see `Checkpoints.restore`, and the newer steps that are not."""
    broken = {}
    for step in sorted(manager.all_steps(), reverse=True):
        try:
            return (step, *_restore_step(manager, step, like)), list(broken)
        except Exception as error:  # Orbax, TensorStore and JSON have many for files that are not whole
            broken[step] = error
            print(f"The checkpoint {manager.directory / str(step)} cannot be read: {_summary(error)}", file=sys.stderr)
    if not broken:
        return None, []
    newest = next(iter(broken.values()))
    fault = f"None of the checkpoints in {manager.directory} can be read, the newest because: {_summary(newest)}"
    barred = os.strerror(errno.EACCES) in fault
    remedy = (
        REMEDIES[errno.EACCES] if barred else "bring one back from elsewhere, or choose another --workdir to start anew"
    )
    raise UserError(f"{fault}; {remedy}.") from newest


def _restore_step(manager: ocp.CheckpointManager, step: int, like: Any) -> tuple[Any, dict]:
    like = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), like)
    args = ocp.args.Composite(tree=ocp.args.StandardRestore(like), info=ocp.args.JsonRestore())
    restored = manager.restore(step, args=args)
    tree, info = jax.tree.map(np.asarray, restored["tree"]), restored["info"]
    # Orbax compares structures only.
    for (path, wanted), found in zip(jax.tree_util.tree_leaves_with_path(like), jax.tree.leaves(tree)):
        if (wanted.shape, wanted.dtype) != (found.shape, found.dtype):
            name, need = jax.tree_util.keystr(path), f"{wanted.dtype}{wanted.shape}"
            raise ValueError(f"{name} is {found.dtype}{found.shape} in it, where {need} is needed.")
    if info["digest"] != _digest(tree, info["metadata"]):
        raise ValueError("what it holds is not what was saved, by its checksum.")
    return tree, info["metadata"]


def read(stage_folder: Path, name: str) -> tuple[int, Any, dict] | None:
    """The same as `Checkpoints.restore` for the folder of a stage, but changes nothing on disk."""
    folder = stage_folder.absolute() / "checkpoints" / name
    if not folder.is_dir():
        return None
    manager = ocp.CheckpointManager(folder, options=ocp.CheckpointManagerOptions(create=False))
    restored, _ = _restore(manager)
    manager.close()
    return restored
