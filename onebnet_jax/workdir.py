"""The work directory of a run: its config.json, and one folder a stage."""

from pathlib import Path

from ml_collections import ConfigDict

from onebnet_jax import config as config_lib
from onebnet_jax.errors import UserError


def prepare(config: ConfigDict, workdir: Path) -> None:
    """Creates the work directory with its config.json, or checks that it belongs to this config."""
    path = workdir / "config.json"
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        if path.exists():
            check_same(config, workdir)
        else:
            partial = path.with_suffix(".tmp")
            partial.write_text(config.to_json(indent=2) + "\n")
            partial.replace(path)
    except OSError as error:
        raise UserError(f"The work directory {workdir} cannot be used: {error.strerror}; choose another.") from error


def check_same(config: ConfigDict, workdir: Path) -> None:
    """Raises UserError that names the fields in which a work directory's config differs from the one asked for."""
    saved, asked = (config_lib.flat(c) for c in (config_lib.load_json(workdir / "config.json"), config))
    differing = [
        f"{name} ({saved.get(name)!r} there, {asked.get(name)!r} now)"
        for name in sorted(saved.keys() | asked.keys())
        if saved.get(name) != asked.get(name)
    ]
    if differing:
        raise UserError(
            f"{workdir} holds a run of another config: {', '.join(differing)}; choose another --workdir, or set these "
            "fields as they were."
        )
