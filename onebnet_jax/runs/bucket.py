"""Runs whose work directory is gs://BUCKET/DIR, to be read; `mirror` trains there.

In the bucket lie the files of the run's folder, under their names, and pushed.json. That is written last, names the
files of the last push that is complete, and is what a reader goes by: so a checkpoint of which only a part has come
there is none yet.
"""

import contextlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from onebnet_jax import surroundings
from onebnet_jax.errors import UserError, local
from onebnet_jax.runs.gcs import Objects

PUSHED = "pushed.json"
OF_RUNS = ("config.json", "weights.json")  # one of which every run has


@contextlib.contextmanager
def copied(workdir: str | Path, wanted: str = ".*", new: bool = False) -> Iterator[Path]:
    """The folder of a run to read; of one in a bucket a temporary copy of the files whose whole names match `wanted`.

    Raises UserError for other addresses, and where the bucket cannot be used or, unless `new`, has no run there.
    """
    if not surroundings.in_bucket(workdir):
        local("The work directory", workdir)
        yield Path(os.path.expanduser(workdir))
        return
    objects = Objects(str(workdir))
    with tempfile.TemporaryDirectory(prefix="onebnet_", ignore_cleanup_errors=True) as folder:
        pull(objects, Path(folder), wanted)
        if not new and not any((Path(folder) / name).exists() for name in OF_RUNS):
            raise UserError(f"{workdir} is not the work directory of a run: it holds no config.json.")
        yield Path(folder)


def pushed(objects: Objects) -> tuple[int, dict]:
    """The generation of pushed.json, and what it holds; 0 and no push where there is none."""
    generation, content = objects.read(PUSHED)
    if not generation:
        return 0, {"push": "", "files": []}
    try:
        found = json.loads(content)
        if not isinstance(found["push"], str) or any(".." in name.split("/") for name in found["files"]):
            raise ValueError("it names files outside")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{PUSHED} there is not what a training wrote ({error}); choose another folder.") from error
    return generation, found


def pull(objects: Objects, folder: Path, wanted: str) -> dict:
    """Copies what the last complete push names; returns what its pushed.json holds."""
    while True:
        generation, found = pushed(objects)
        if not generation:  # a run that was copied there by hand, perhaps
            names = objects.names()
            found["files"] = names if set(names) & set(OF_RUNS) else []
        try:
            objects.get([name for name in found["files"] if re.fullmatch(wanted, name)], folder)
            return found
        except FileNotFoundError as error:
            if pushed(objects)[0] == generation:
                raise UserError(f"What {PUSHED} names is not there: {error}; bring it back, or remove all.") from error
            shutil.rmtree(folder)  # a push has just replaced it
