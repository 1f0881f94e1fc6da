"""Training whose work directory is gs://BUCKET/DIR: all else works on a folder here, and this keeps the two the same.

It lies in the cache of this machine, and beside it, in state.json, what the bucket holds of it. A machine that has
none, or whose folder the bucket has gone on from without it, takes all from the bucket.

A push gives the bucket's pushed.json (see `bucket`) a new `push`, and replaces only the one that it knows: of two runs
the later goes on, and the earlier finds out at its next push, and stops.
"""

import contextlib
import datetime
import fcntl
import json
import os
import re
import shutil
import socket
import sys
import threading
import time
import urllib.parse
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from onebnet_jax import surroundings
from onebnet_jax.errors import Interrupted, Unavailable, UserError
from onebnet_jax.runs import bucket
from onebnet_jax.runs.gcs import Overtaken

PASSING = re.compile(r"lock|.*\.tmp|.*/part|.*\.orbax-checkpoint-tmp.*")  # files on their way to their names
CHECKPOINTS = re.compile(r"[^/]+/checkpoints/.*")
EVERY_SECONDS = 10.0  # how often a training looks for what is new in its folder
PATIENCE_SECONDS = 120.0  # how long the last push is tried for

Listing = dict[str, list[int]]  # of the files of a folder: size, and time of the last change in ns


class Mirror:
    """The folder on this machine of a training whose work directory is in a bucket."""

    def __init__(self, address: str):
        """Brings the folder up to date, and takes the bucket's for this run. Raises UserError, Unavailable."""
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "onebnet_jax"
        place = cache / urllib.parse.quote(address.removeprefix("gs://").strip("/"), safe="")
        self.address, self.folder, self.overtaken = address, place / "run", False
        self._state, self._ended, self._fault = place / "state.json", threading.Event(), ""
        self._objects = bucket.Objects(address)
        try:
            place.mkdir(parents=True, exist_ok=True)
            self._lock = (place / "lock").open("a")
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            words = f"{address} is in use by another process on this machine"
            raise Unavailable(f"{words}; wait for it, or choose another --workdir.") from None
        except OSError as error:
            remedy = "set XDG_CACHE_HOME to another folder"
            raise UserError(f"{place} cannot be used: {error.strerror}; {remedy}.") from error
        self._synchronize()
        print(f"copy on this machine: {self.folder}", flush=True)
        try:
            self.push(claim=True)
        except Overtaken as error:
            raise Unavailable(f"Another run has just begun in {address}; choose another --workdir.") from error
        self._thread = threading.Thread(target=self._keep_pushing, daemon=True)
        self._thread.start()

    def _synchronize(self) -> None:
        """Makes the folder what the bucket holds, unless it is what comes after that."""
        there = bucket.pushed(self._objects)[1]
        known = json.loads(self._state.read_text()) if self._state.exists() else {"pushes": [], "listing": {}}
        listing = _listing(self.folder)
        if listing and there["push"] and there["push"] in known["pushes"]:  # nobody has gone on from there
            self._listing = known["listing"]
            if listing != self._listing:
                print(f"note: {self.folder} holds what never reached {self.address}: it goes there now", flush=True)
        else:
            if listing:
                note = f"note: {self.address} has changed since this machine wrote there, and counts"
                if listing != known["listing"] or not there["push"]:
                    aside = self.folder.with_name(f"run-{time.time_ns()}")
                    self.folder.rename(aside)
                    note += f"; what this machine had is in {aside}"
                print(note, file=sys.stderr)
            shutil.rmtree(self.folder, ignore_errors=True)
            self._state.unlink(missing_ok=True)
            self.folder.mkdir()
            there = bucket.pull(self._objects, self.folder, ".*")
            self._listing = _listing(self.folder)
        # With what is left there of pushes that were broken off, or of checkpoints that were to be removed.
        self._there = {name for name in self._objects.names() if name in there["files"] or CHECKPOINTS.fullmatch(name)}
        self._pushes = [there["push"]]  # one of these is the bucket's, unless another run has written there

    def push(self, claim: bool = False) -> None:
        """Brings what is new to the bucket, and removes what is no more; at a claim even where nothing is.

        Raises UserError, and Overtaken where another run has written there.
        """
        listing = _listing(self.folder)
        if listing == self._listing and not claim:
            return
        generation, there = bucket.pushed(self._objects)
        if there["push"] not in self._pushes:
            raise Overtaken
        while True:  # a checkpoint may be removed while it is looked at
            changed = [name for name in listing if listing[name] != self._listing.get(name)]
            self._there.update(changed)
            with contextlib.suppress(FileNotFoundError):
                self._objects.put(changed, self.folder)
                if listing.keys() <= _listing(self.folder).keys():
                    break
            listing = _listing(self.folder)
        push, now = uuid.uuid4().hex, datetime.datetime.now(datetime.UTC)
        by = f"process {os.getpid()} on {socket.gethostname()}, {now:%Y-%m-%d %H:%M:%S} UTC"
        self._pushes.append(push)
        self._remember()  # if this is killed now, or the answer lost, nobody knows whether it has come there
        content = json.dumps({"push": push, "by": by, "files": sorted(listing)}, indent=1).encode()
        try:
            self._objects.write(bucket.PUSHED, content, generation)
        except Overtaken:
            if bucket.pushed(self._objects)[1]["push"] != push:  # else it was this very push, tried again
                raise
        self._pushes, self._listing = [push], listing
        self._remember()
        self._objects.delete(self._there - listing.keys())
        self._there = set(listing)

    def _remember(self) -> None:
        partial = self._state.with_suffix(".tmp")
        partial.write_text(json.dumps({"pushes": self._pushes, "listing": self._listing}))
        partial.replace(self._state)

    def _try(self) -> bool:
        """Whether a push came through; says when that changes."""
        try:
            self.push()
        except Overtaken:
            self.overtaken = True
        except (UserError, OSError) as error:
            if not self._fault:
                print(f"\nnote: {error} Until then what is new is in {self.folder} alone.", file=sys.stderr, flush=True)
            self._fault = str(error).rstrip(".")
            return False
        if self._fault and not self.overtaken:
            print(f"\nnote: {self.address} has all again", file=sys.stderr, flush=True)
        self._fault = ""
        return True

    def _keep_pushing(self) -> None:
        while not self.overtaken and not self._ended.wait(EVERY_SECONDS):
            self._try()

    def close(self) -> str:
        """Brings all that is left to the bucket; returns a sentence where that cannot be done, without a full stop."""
        self._ended.set()
        self._thread.join()
        limit = time.monotonic() + PATIENCE_SECONDS
        while not self.overtaken and not self._try() and time.monotonic() < limit:
            time.sleep(1)
        self._lock.close()
        if not self.overtaken:
            remedy = f"what {self.address} lacks is in {self.folder}: the same command on this machine brings it there"
            return self._fault and f"{self._fault}; {remedy}"
        by = "another run"
        with contextlib.suppress(Exception):  # it only makes the sentence clearer
            by = json.loads(self._objects.read(bucket.PUSHED)[1])["by"]
        lost = f"{self.address} was taken over by {by}, which goes on there; what this one had is in {self.folder}"
        return f"{lost}. Start one only, or choose another --workdir"


@contextlib.contextmanager
def mirrored(workdir: str | Path, leader: bool = True) -> Iterator[tuple[Path, Callable[[], bool]]]:
    """A folder to train in, and whether another run has taken over: of a work directory in a bucket a mirror.

    The bucket has all at the end, also of a run that fails or is stopped; raises Unavailable where that cannot be, and
    before all else UserError where the bucket cannot be used. leader: whether this process writes.
    """
    if not surroundings.in_bucket(workdir) or not leader:
        yield Path(os.path.expanduser(workdir)), lambda: False
        return
    mirror, error = Mirror(str(workdir)), None
    try:
        yield mirror.folder, lambda: mirror.overtaken
    except BaseException as raised:
        error = raised
    if isinstance(error, KeyboardInterrupt):
        fault = f"stopped at once: what {workdir} lacks is in {mirror.folder}"
    else:
        fault = mirror.close()
    if fault and isinstance(error, None | Interrupted):
        raise Unavailable(f"{fault}.") from error
    if fault:
        print(f"note: {fault}", file=sys.stderr)
    if error is not None:
        raise error


def _listing(folder: Path) -> Listing:
    """The files of a folder that are complete; their names are relative to it."""
    listing = {}
    for root, _, files in os.walk(folder):
        for path in (Path(root, file) for file in files):
            name = path.relative_to(folder).as_posix()
            if not PASSING.fullmatch(name):
                with contextlib.suppress(FileNotFoundError):
                    found = path.stat()
                    listing[name] = [found.st_size, found.st_mtime_ns]
    return listing
