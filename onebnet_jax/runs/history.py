"""What runs were asked to do and what they measured, side by side."""

import dataclasses
import itertools
import os
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from onebnet_jax.errors import UserError
from onebnet_jax.runs import bucket, metrics
from onebnet_jax.runs import workdir as workdir_lib
from onebnet_jax.runs.config import flat, load_json
from onebnet_jax.runs.schema import STAGES
from onebnet_jax.tables import Table


@dataclasses.dataclass(frozen=True)
class History:
    """What a run was asked to do, and what it measured."""

    folder: Path | str  # its work directory; a str of one in a bucket
    config: ConfigDict
    lines: dict[str, list[dict]]  # stage -> the lines of its metrics.jsonl; none of a stage that has not begun
    code: str = "none"  # what tells its config.py from another, see `workdir.short`

    @property
    def name(self) -> str:
        return Path(self.folder).name

    def curve(self, split: str) -> list[tuple[int, float]]:
        """(epoch, Top-1 in percent) on the "train" or "test" images, the epochs counted through all stages."""
        points, before = [], 0
        for stage, lines in self.lines.items():
            points += [(before + line["epoch"], line["top1"]) for line in lines if line["split"] == split]
            before += self.config[stage].epochs
        return points

    @property
    def stage_ends(self) -> list[int]:
        """The epochs, counted through all stages, after which another stage begins."""
        return list(itertools.accumulate(self.config[stage].epochs for stage in self.config.stages[:-1]))


def read(workdirs: Sequence[Path | str], built: bool = False) -> list[History]:
    """The runs in folders; those without are named on stderr and left out, with a UserError if all are such.

    built: whether their networks are to be built, see `config.from_json`.
    """
    runs, others = [], []
    for workdir in workdirs:
        try:
            with bucket.copied(workdir, r"config\.(json|py)|[^/]+/metrics\.jsonl") as folder:
                config = load_json(folder / "config.json", built)
                code = workdir_lib.short(workdir_lib.code_of(folder))
                lines = {stage: metrics.read(folder / stage / "metrics.jsonl") for stage in config.stages}
            if not any(lines.values()):
                raise UserError(f"{workdir} has no measurements: train it, or copy its metrics.jsonl files too.")
            runs.append(History(workdir, config, lines, code))
        except UserError as error:
            others.append(error)
    if not runs:
        raise others[0]
    print(*(f"left out: {error}\n" for error in others), sep="", end="", file=sys.stderr, flush=True)
    return runs


def table(runs: Sequence[History], over_seeds: bool = False) -> Table:
    """A header and a row for each run: the fields in which the configs differ, epochs, Top-1 and training time.

    Where their config.py differ, these have a column of their own: the beginnings of their SHA-256.

    over_seeds: runs that differ in their seed alone share a row, of means and (sample) standard deviations. Raises
    UserError where two of them have the same seed, as they are no two samples.
    """
    fields = [_used_fields(run.config) | {"config.py": run.code} for run in runs]
    names = {name: None for used in fields for name in used}  # in order
    differing = [name for name in names if len({repr(used[name]) for used in fields if name in used}) > 1]
    differing = [name for name in differing if name != "seed" or not over_seeds]
    groups = {}  # of runs that share a row, with the fields of the first
    for index, (run, used) in enumerate(zip(runs, fields)):
        alike = repr({name: used[name] for name in used if name != "seed"}) if over_seeds else index
        group = groups.setdefault(alike, (used, []))[1]
        if twin := [other.folder for other in group if other.config.seed == run.config.seed]:
            remedy = "name one of them, or train the other with another --config.seed"
            raise UserError(f"{twin[0]} and {run.folder} have the same seed, {run.config.seed}; {remedy}.")
        group.append(run)
    rows = [["run", *differing, *["seeds"] * over_seeds, "epochs", "Top-1 last", "Top-1 best", "train Top-1", "hours"]]
    for used, group in groups.values():
        name = group[0].name if len(group) == 1 else os.path.commonprefix([run.name for run in group]) + "*"
        cells = [str(used.get(field, "")) for field in differing]
        rows.append([name, *cells, *[str(len(group))] * over_seeds, *_outcomes(group)])
    return rows


def _used_fields(config: ConfigDict) -> dict[str, Any]:
    """The fields of a config that have a part in its run, by their full names."""
    return flat({name: value for name, value in config.items() if name not in STAGES or name in config.stages})


def _outcomes(runs: Sequence[History]) -> list[str]:
    """Epochs of all stages trained so far, the last stage's Top-1 in percent, and the hours of all training steps.

    Of several runs the fewest epochs, and the mean and standard deviation of all else.
    """
    outcomes = [_outcome(run) for run in runs]
    epochs, total = min(epochs for epochs, *_ in outcomes), sum(runs[0].config[s].epochs for s in runs[0].config.stages)
    cells = [f"{epochs} of {total}"]
    for values in list(zip(*outcomes))[1:]:
        known = [value for value in values if value is not None]
        spread = f" ± {statistics.stdev(known):.2f}" if len(known) > 1 else ""
        cells.append(f"{statistics.mean(known):.2f}{spread}" if known else "-")
    return cells


def _outcome(run: History) -> tuple[int, float | None, float | None, float | None, float]:
    lines = run.lines.values()
    epochs = sum(max((line["epoch"] for line in stage), default=0) for stage in lines)
    seconds = sum(line.get("seconds", 0.0) for stage in lines for line in stage)
    last = run.lines[run.config.stages[-1]]
    test, train = ([line for line in last if line["split"] == split] for split in ("test", "train"))
    best = sorted(test, key=lambda line: line.get("validation_top1", line["top1"]))  # of equal ones the later, as kept
    scores = (lines[-1]["top1"] if lines else None for lines in (test, best, train))
    return epochs, *scores, seconds / 3600
