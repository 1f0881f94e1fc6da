"""The work directory of a run: its config.json, one folder a stage, and a lock while it is in use."""

import contextlib
import fcntl
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

from ml_collections import ConfigDict

from onebnet_jax import config as config_lib
from onebnet_jax.errors import Unavailable, UserError

# What decides the names and shapes of the parameters, which a run cannot change.
SHAPE_FIELDS = ("depth", "block", "conv_1d", "ds_1d", "width_multiplier", "stem")
NETWORK_FIELDS = ("data.name", *(f"model.{name}" for name in SHAPE_FIELDS))


@contextlib.contextmanager
def opened(config: ConfigDict, workdir: Path, change_config: bool = False) -> Iterator[None]:
    """Holds the work directory for a run of a config; creates it with its config.json where there is none.

    With `change_config` a run of another config goes on with this one; its config.json is kept under another name.

    Raises Unavailable if another run holds it, UserError if it belongs to another config or cannot be written, then or
    later.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        with locked(workdir):
            prepare(config, workdir, change_config)
            yield
    except OSError as error:
        raise UserError(
            f"The work directory {workdir} cannot be used: {error.strerror or error}; mend that, or choose another. "
            "Complete checkpoints in it are as they were, and the same command goes on from the last."
        ) from error


@contextlib.contextmanager
def locked(workdir: Path) -> Iterator[None]:
    """Holds the file `lock` of a work directory, which the system lets go of however this process ends."""
    with (workdir / "lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "another process"
            raise Unavailable(
                f"{workdir} is in use by {holder}; wait for it, stop it, or choose another --workdir."
            ) from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        yield


def prepare(config: ConfigDict, workdir: Path, change_config: bool) -> None:
    """Writes config.json, or checks that there is the same one already."""
    if (workdir / "weights.json").exists():
        raise UserError(
            f"{workdir} holds weights from elsewhere, which are used and never trained on; choose another --workdir."
        )
    path = workdir / "config.json"
    if path.exists():
        differing = differences(config_lib.load_json(path), config)
        if differing and not change_config:
            raise UserError(
                f"{workdir} holds a run of another config: {', '.join(differing.values())}; choose another --workdir, "
                "set these fields as they were, or let that run go on with this config by --change-config."
            )
        if not differing:
            return
        network = [text for name, text in differing.items() if name in NETWORK_FIELDS]
        if network:
            raise UserError(f"{workdir} holds another network: {', '.join(network)}; choose another --workdir.")
        number = sum(1 for _ in workdir.glob("config.*.json"))
        shutil.copy2(path, workdir / f"config.{number}.json")
    partial = path.with_suffix(".tmp")
    partial.write_text(config.to_json(indent=2) + "\n")
    partial.replace(path)


def differences(saved: ConfigDict, asked: ConfigDict) -> dict[str, str]:
    """The fields in which a saved config differs from the one asked for, and how, in words."""
    saved, asked = config_lib.flat(saved), config_lib.flat(asked)
    return {
        name: f"{name} ({saved.get(name)!r} there, {asked.get(name)!r} now)"
        for name in sorted(saved.keys() | asked.keys())
        if saved.get(name) != asked.get(name)
    }
