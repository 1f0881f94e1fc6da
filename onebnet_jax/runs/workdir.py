"""The work directory of a run: its config.json, what made it, one folder a stage, and a lock while it is in use.

What made it: config.py is a copy of the config file, unless that is one of the package's; versions.jsonl has a line for
each start of the run with other versions, or another config.py, than the start before.
"""

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import shutil
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

from ml_collections import ConfigDict

import onebnet_jax
from onebnet_jax import surroundings
from onebnet_jax.data.folder import among
from onebnet_jax.errors import Unavailable, UserError, local
from onebnet_jax.runs import config as config_lib

# What decides the names and shapes of the parameters, or what a step is, as each stage's batch_size does too.
_SHAPE = ("family", "depth", "conv_1d", "ds_1d", "width_multiplier", "stem")
FIXED_FIELDS = ("data.name", "data.classes", "data.validation", "stages", *(f"model.{name}" for name in _SHAPE))
# When to save and when to give up, which makes no difference to what a run gives.
FREE_FIELDS = ("checkpoint_seconds", "data.max_unreadable")
PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy")


@dataclasses.dataclass(frozen=True)
class Workdir:
    """A folder for the run of a config, which may have begun there already."""

    folder: Path  # it need not exist
    config: ConfigDict
    change_config: bool = False  # whether a run that is there may go on with other fields than it has had so far
    code: bytes | None = None  # of its config file, see `config.own_code`
    title: str = ""  # what it is called, where that is not `folder`

    def check(self) -> dict[str, str]:
        """In which fields the run that is there, if any, is to go on differently, and how, in words; so its config.py.

        Raises UserError if it cannot, or is to without `change_config`, and where it would lie among the images that it
        learns from. Changes nothing on disk.
        """
        local("The work directory", self.folder)
        path, asked = self.folder / "config.json", config_lib.flat(self.config)
        with _told(self.folder):
            if (self.folder / "weights.json").exists():
                raise UserError(f"{self.folder} holds weights from elsewhere, not a run; choose another --workdir.")
            saved = config_lib.flat(config_lib.load_json(path, built=False)) if path.exists() else asked
            kept, recorded = code_of(self.folder), (self.folder / "versions.jsonl").exists()
        photos = asked["data.dir"] if asked["data.name"] == "folder" else ""
        if photos and any(among(photos, self.folder / stage) for stage in self.config.stages):
            fault = f"The work directory {self.title or self.folder} lies among the images of {photos}"
            raise UserError(f"{fault}, where it would be taken for a kind of them; choose another --workdir.")
        names = sorted(name for name in asked if asked[name] != saved[name] and not _same_place(name, asked, saved))
        differing = {name: f"{name} ({saved[name]!r} there, {asked[name]!r} now)" for name in names}
        if kept != self.code and path.exists() and (kept or recorded):  # earlier versions of this kept none
            differing["config.py"] = f"config.py (sha256 {short(kept)} there, {short(self.code)} now)"
        changed = {name: text for name, text in differing.items() if name not in FREE_FIELDS}
        batch_sizes = [f"{stage}.batch_size" for stage in self.config.stages]
        fixed = [name for name in changed if name in (*FIXED_FIELDS, *batch_sizes)]
        if changed and (fixed or not self.change_config):
            remedy = f"as no run goes on with another {', '.join(fixed)}" if fixed else "or allow it by --change-config"
            fault = f"{self.folder} holds a run of another config: {', '.join(changed.values())}"
            raise UserError(f"{fault}; choose another --workdir, or set these as they were, {remedy}.")
        return differing

    def check_photos(self, now: dict | None) -> None:
        """Raises UserError for other photos than those that the run has learned from, without `change_config`.

        now: those of the folder of images now, by `photos.fingerprint`; None where there is no such folder.
        """
        kept, begun = read_photos(self.folder), (self.folder / "config.json").exists()
        if self.change_config or not begun or now in (None, *kept[-1:]):
            return
        began = f"began with {kept[-1]['number']} photos" if kept else "has no record of the photos that it began with"
        others = ", some of other names or sizes" if kept and kept[-1]["number"] == now["number"] else ""
        fault = f"{self.folder} {began}, and {self.config.data.dir} now holds {now['number']}{others}"
        remedy = "choose another --workdir to train on these, or let this run go on with them by --change-config"
        raise UserError(f"{fault}; {remedy}.")

    def write_photos(self, now: dict | None) -> None:
        """Writes photos.json after `check_photos`: a list of what the run has learned from, the newest last."""
        self.check_photos(now)
        path, begun = self.folder / "photos.json", (self.folder / "config.json").exists()
        kept = read_photos(self.folder) if begun else []
        if now not in (None, *kept[-1:]):
            _write(path, (json.dumps([*kept, now], indent=2) + "\n").encode())

    def write_config(self) -> None:
        """Writes config.json, and what makes the run, after a `check`.

        Those of a run which goes on with another are kept as config.N.json and config.N.py.
        """
        differing, path, code = self.check(), self.folder / "config.json", self.folder / "config.py"
        if differing.keys() - set(FREE_FIELDS):
            number = sum(1 for _ in self.folder.glob("config.*.json"))
            for kept in filter(Path.exists, (path, code)):
                shutil.copy2(kept, kept.with_suffix(f".{number}{kept.suffix}"))
        if self.code is None:
            code.unlink(missing_ok=True)
        elif code_of(self.folder) != self.code:
            _write(code, self.code)
        if differing or not path.exists():
            _write(path, (self.config.to_json(indent=2) + "\n").encode())
        versions = {"onebnet_jax": onebnet_jax.__version__, "commit": surroundings.commit()}
        versions |= {name: surroundings.version(name) for name in PACKAGES} | {"config.py": _sha256(self.code)}
        record = self.folder / "versions.jsonl"
        lines = record.read_text().splitlines() if record.exists() else []
        if lines[-1:] != [line := json.dumps(versions)]:
            _write(record, "".join(f"{each}\n" for each in [*lines, line]).encode())

    @contextlib.contextmanager
    def opened(self) -> Iterator[None]:
        """Holds the work directory for a run; creates it where there is none.

        Raises Unavailable if another run holds it, UserError if it cannot be used, then or later.
        """
        with _told(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            with (self.folder / "lock").open("a+") as file:  # the system lets go of it however this process ends
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    file.seek(0)
                    used = f"{self.folder} is in use by {file.read().strip() or 'another process'}"
                    raise Unavailable(f"{used}; wait for it, or choose another --workdir.") from None
                except OSError as error:  # as on gcsfuse, or Lustre mounted without -o flock
                    lacks = f"the file system of {self.folder} has no locks ({error.strerror})"
                    print(f"note: {lacks}, so nothing keeps a second run out of it: start one only.", file=sys.stderr)
                file.truncate(0)
                file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
                file.flush()
                yield

    def last_step(self, stage: str, kind: str = "*") -> int:
        """The newest step of a stage that there is a checkpoint of, of any kind or of one; 0 where there is none."""
        names = (path.name for path in (self.folder / stage / "checkpoints").glob(f"{kind}/*"))
        return max((int(name) for name in names if name.isdecimal()), default=0)


def code_of(folder: Path) -> bytes | None:
    """The config.py that a run has kept in its folder, or None."""
    path = folder / "config.py"
    return path.read_bytes() if path.exists() else None


def _same_place(name: str, *configs: dict) -> bool:
    """Whether a field names the same folder in both, as DIR and DIR/ do."""
    places = [config[name] for config in configs]
    if name not in ("data.dir", "teacher", "init") or not all(places) or any(map(surroundings.in_bucket, places)):
        return False
    return len({os.path.realpath(os.path.expanduser(place)) for place in places}) == 1


def _sha256(code: bytes | None) -> str | None:
    return None if code is None else hashlib.sha256(code).hexdigest()


def short(code: bytes | None) -> str:
    """What tells one config.py from another, to read: the beginning of its SHA-256, or "none"."""
    return (_sha256(code) or "none")[:8]


def _write(path: Path, content: bytes) -> None:
    partial = path.with_suffix(".tmp")
    partial.write_bytes(content)
    partial.replace(path)


def read_photos(folder: Path) -> list[dict]:
    """What `Workdir.check_photos` has kept in a work directory; [] where that is nothing. Raises UserError."""
    path = folder / "photos.json"
    try:
        records = json.loads(path.read_bytes()) if path.exists() else []
        return [{"number": int(record["number"]), "sha256": str(record["sha256"])} for record in records]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path} is not what a training wrote ({error}); bring it back, or remove it.") from error


@contextlib.contextmanager
def _told(workdir: Path) -> Iterator[None]:
    """What the system says about the work directory, in one sentence."""
    try:
        yield
    except BrokenPipeError:  # of the output: nobody reads it any more
        raise
    except OSError as error:
        said, place = error.strerror or error, str(error.filename or "")
        fault = f"The work directory {workdir} cannot be used: {said}"
        remedy = "mend that, or choose another: the same command goes on from the last complete checkpoint"
        if place.startswith("/") and not Path(place).is_relative_to(workdir.absolute()):  # it is not to blame
            fault = f"{place}{surroundings.named_by(place)} cannot be used: {said}"
            remedy = "mend that: the same command goes on from the last complete checkpoint"
        raise UserError(f"{fault}; {remedy}.") from error
