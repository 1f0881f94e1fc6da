"""Checkpoints of a run, by Orbax: the last states, to go on from, and the best variables, to use."""

import dataclasses
import logging
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from ml_collections import ConfigDict

from onebnet_jax import config as config_lib
from onebnet_jax.errors import UserError
from onebnet_jax.layers import Binarization
from onebnet_jax.structure import Structure

LAST, BEST = "last", "best"
logging.getLogger("orbax").setLevel(logging.ERROR)


class Checkpoints:
    """The checkpoints under the folder of a stage: `last/STEP` (two are kept) and `best/STEP` (one).

    Saving is asynchronous, and a checkpoint takes its name only once it is complete.
    """

    def __init__(self, folder: Path):
        self._managers = {
            name: ocp.CheckpointManager(
                folder.absolute() / "checkpoints" / name,
                options=ocp.CheckpointManagerOptions(
                    max_to_keep=keep, cleanup_tmp_directories=True, enable_async_checkpointing=True
                ),
            )
            for name, keep in ((LAST, 2), (BEST, 1))
        }

    def save(self, name: str, step: int, tree: Any, metadata: dict) -> None:
        """Saves a tree of arrays and a small JSON dictionary. A step that is there already is left as it is."""
        manager = self._managers[name]
        if step in manager.all_steps():
            return
        tree = jax.tree.map(np.asarray, jax.device_get(tree))
        manager.save(step, args=ocp.args.Composite(tree=ocp.args.StandardSave(tree), info=ocp.args.JsonSave(metadata)))

    def restore(self, name: str, like: Any = None) -> tuple[int, Any, dict] | None:
        """(step, tree, metadata) of the newest checkpoint, or None where there is none.

        With `like`, a tree of arrays or shapes, the tree read has its structure, shapes and types, or it is an error.
        """
        return _restore(self._managers[name], like)

    def latest_step(self, name: str) -> int | None:
        """The step of the newest complete checkpoint."""
        return self._managers[name].latest_step()

    def wait(self) -> None:
        """Returns when all that was saved is on disk."""
        for manager in self._managers.values():
            manager.wait_until_finished()

    def close(self) -> None:
        for manager in self._managers.values():
            manager.close()


def _restore(manager: ocp.CheckpointManager, like: Any = None) -> tuple[int, Any, dict] | None:
    """See `Checkpoints.restore`."""
    step = manager.latest_step()
    if step is None:
        return None
    if like is not None:
        like = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), like)
    args = ocp.args.Composite(tree=ocp.args.StandardRestore(like), info=ocp.args.JsonRestore())
    restored = manager.restore(step, args=args)
    tree = jax.tree.map(np.asarray, restored["tree"])
    if like is not None:  # Orbax compares structures only
        for (path, wanted), found in zip(jax.tree_util.tree_leaves_with_path(like), jax.tree.leaves(tree)):
            if (wanted.shape, wanted.dtype) != (found.shape, found.dtype):
                raise ValueError(
                    f"{jax.tree_util.keystr(path)} is {found.dtype}{found.shape} in the checkpoint of step {step}, "
                    f"where {wanted.dtype}{wanted.shape} is needed."
                )
    return step, tree, restored["info"]


@dataclasses.dataclass(frozen=True)
class Run:
    """A trained network as read from a run's work directory.

    Attributes:
      config: with which it was trained.
      stage: the stage of its training, a field of the config.
      structure, binarization: of the network.
      variables: {"params", "batch_stats"}, NumPy arrays.
      step: steps trained.
      metrics: what was measured when the checkpoint was made: epoch, top1, top5, loss.
    """

    config: ConfigDict
    stage: str
    structure: Structure
    binarization: Binarization
    variables: dict
    step: int
    metrics: dict


def load_run(workdir: str | Path, which: str = BEST) -> Run:
    """Reads a checkpoint of a run's latest stage: "best" by test Top-1, or "last".

    Raises UserError where there is none. Changes nothing on disk, so the run may still be going on.
    """
    workdir = Path(workdir)
    config = config_lib.load_json(workdir / "config.json")
    for stage in reversed(config.stages):
        folder = workdir.absolute() / stage / "checkpoints" / which
        if not folder.is_dir():
            continue
        manager = ocp.CheckpointManager(folder, options=ocp.CheckpointManagerOptions(create=False))
        restored = _restore(manager)
        manager.close()
        if restored is not None:
            step, tree, metrics = restored
            variables = {"params": tree["params"], "batch_stats": tree["batch_stats"]}
            structure, binarization = config_lib.structure(config), config_lib.binarization(config, stage)
            return Run(config, stage, structure, binarization, variables, step, metrics)
    raise UserError(f"{workdir} has no {which!r} checkpoint yet; train first, or choose another.")
