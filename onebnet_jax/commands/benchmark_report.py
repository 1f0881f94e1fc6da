"""Timing runs as tables, beside what the paper measured on a Raspberry Pi 4. Pure functions of runs and cards."""

import dataclasses
import itertools
import math
import operator
import re
from collections.abc import Mapping, Sequence

from onebnet_jax.commands.benchmark_log import Run, throttling
from onebnet_jax.networks.structure import Structure
from onebnet_jax.paper import latency
from onebnet_jax.paper import numbers as paper
from onebnet_jax.tables import Table

FP32 = "FP32 ResNet18"
TABLE1 = {row.label: row for row in paper.TABLE1}
PAPER_MS = {  # threads -> table -> network -> ms
    1: {
        "Table 1": {name: row.latency_ms for name, row in TABLE1.items()},
        "Table 3": {name: row.latency_ms for name, row in paper.TABLE3.items()},
    },
    4: {"Table 8": paper.TABLE8},
}
# What makes two networks take the same time; the paper does not say how it pads binarized maps.
SHAPE_FIELDS = ("depth", "block", "conv_1d", "ds_1d", "width_multiplier", "num_classes", "stem")
SETTINGS = ("model", "threads", "kernel", "xnnpack")
FILE_NAME = re.compile(r"imagenet[_-](typeIII|typeII|typeI|reactnet|fp32)(?![a-z0-9])", re.IGNORECASE)
FILE_NAMES = {"typei": "TypeI", "typeii": "TypeII", "typeiii": "TypeIII", "reactnet": "ReActNet18", "fp32": FP32}


@dataclasses.dataclass(frozen=True)
class Result:
    """The repetitions of one measurement.

    Attributes:
      runs: of the same model, threads, kernel and XNNPACK.
      network: the paper's name of the network, or "".
      graph: "folded", "naive", or "" if there is no card.
    """

    runs: tuple[Run, ...]
    network: str
    graph: str

    @property
    def count(self) -> int:
        """Inferences in all."""
        return sum(run.count for run in self.runs)

    @property
    def mean_ms(self) -> float:
        """Over all inferences."""
        return sum(run.count * run.mean_ms for run in self.runs) / self.count

    @property
    def std_ms(self) -> float:
        """Over all inferences, the spread between the repetitions included."""
        squares = (run.count * (run.std_ms**2 + (run.mean_ms - self.mean_ms) ** 2) for run in self.runs)
        return math.sqrt(sum(squares) / self.count)

    @property
    def paper_ms(self) -> dict[str, float]:
        """The paper's latencies of this network with as many threads, on a Raspberry Pi 4 with XNNPACK: table -> ms."""
        tables = PAPER_MS.get(self.runs[0].threads, {})
        return {table: figures[self.network] for table, figures in tables.items() if self.network in figures}


def results(runs: Sequence[Run], cards: Mapping[str, dict]) -> list[Result]:
    """Runs grouped into measurements, in the order of model, threads and kernel.

    Args:
      runs: in any order.
      cards: by the models' file names; a model may have none.
    """

    key = operator.attrgetter(*SETTINGS)
    groups = itertools.groupby(sorted(runs, key=key), key)
    return [_result(tuple(group), cards.get(model)) for (model, *_), group in groups]


def _result(runs: tuple[Run, ...], card: dict | None) -> Result:
    graph = {True: "folded", False: "naive", None: ""}[card.get("folded") if card else None]
    return Result(runs, network(runs[0].model, card), graph)


def network(model: str, card: dict | None) -> str:
    """Which of the paper's ImageNet networks a model is: a key of `TABLE1`, "FP32 ResNet18", or "" for any other.

    Without a card, the file's name has to say it in the way of configs/: imagenet_typeII.tflite.
    """
    if card is None:
        found = FILE_NAME.search(model)
        return FILE_NAMES[found[1].lower()] if found else ""
    structure, binarization = card.get("structure", {}), card.get("binarization", {})
    if card.get("input", {}).get("shape") != [1, *latency.IMAGENET_INPUT]:
        return ""
    if structure.get("block") != "resnet" and not (binarization.get("activations") and binarization.get("weights")):
        return ""
    known = {_shape(dataclasses.asdict(latency.table1_structure(row))): name for name, row in TABLE1.items()}
    fp32 = Structure(depth=18, block="resnet", num_classes=1000, stem="imagenet")
    known[_shape(dataclasses.asdict(fp32))] = FP32
    return known.get(_shape(structure), "")


def _shape(structure: dict) -> tuple:
    values = (structure.get(field) for field in SHAPE_FIELDS)
    return tuple(tuple(sorted(value)) if isinstance(value, list | tuple) else value for value in values)


def latency_table(measured: Sequence[Result], compare: bool) -> Table:
    """One row for each measurement.

    Args:
      measured: what to show.
      compare: adds the paper's figures; only for runs on a Raspberry Pi.
    """
    tables = [table for tables in PAPER_MS.values() for table in tables] if compare else []
    header = ["model", "graph", "threads", "kernel", "XNNPACK", "runs", "mean (ms)", "std (ms)", "each repetition (ms)"]
    rows = [header + ["network"] * compare + [f"{table} (ms)" for table in tables]]
    for result in measured:
        run, means = result.runs[0], [run.mean_ms for run in result.runs]
        row = [run.model, result.graph or "-", str(run.threads), run.kernel, "on" if run.xnnpack else "off"]
        row += [str(result.count), f"{result.mean_ms:.2f}", f"{result.std_ms:.2f}"]
        row.append(f"{min(means):.2f} to {max(means):.2f}")
        row += [result.network or "-"] * compare
        rows.append(row + [f"{result.paper_ms[table]:.1f}" if table in result.paper_ms else "-" for table in tables])
    return rows


def storage_table(measured: Sequence[Result]) -> Table:
    """One row for each model: the size of its file beside Table 3's storage."""
    rows = [["model", "network", "file (MiB)", "Table 3 (MiB)"]]
    for model, group in itertools.groupby(measured, lambda result: result.runs[0].model):
        first = next(group)
        size, row = first.runs[0].size_mib, paper.TABLE3.get(first.network)
        cells = [first.network or "-", "-" if size is None else f"{size:.2f}", f"{row.storage_mib:.2f}" if row else "-"]
        rows.append([model, *cells])
    return rows


def comparison_note(measured: Sequence[Result]) -> str:
    """What a reader of the paper's columns must know."""
    note = "Tables 1, 3 and 8 are the paper's, measured on a Raspberry Pi 4 by the same protocol (A.4)."
    if any(result.paper_ms and result.graph == "folded" for result in measured):
        note += "\nA folded graph has fewer operators than the paper describes; convert --no-fold makes the naive one."
    return note


def device_lines(runs: Sequence[Run]) -> list[str]:
    """The Pi in words: what it is, how fast and how warm it was, and what makes the figures doubtful.

    Args:
      runs: with the state of the machine before and after each, in the order in which they were run.
    """
    first, last = runs[0].before, runs[-1].after

    def say(name, state=first):
        return state.get(name, "unknown")

    temperatures = [state.get("temperature_c") for run in runs for state in (run.before, run.after)]
    lines = [
        f"{say('device')}; {say('os')}; kernel {say('kernel')}; {say('libc')}",
        f"clock up to {say('clock_limit_mhz')} MHz, governor {say('governor')}; "
        f"{_span([run.after.get('clock_mhz') for run in runs])} MHz right after a run",
        f"{say('temperature_c')} °C before the first run, {say('temperature_c', last)} °C after the last; "
        f"{_span(temperatures)} °C in all",
    ]
    slowed = throttling(list(runs))
    if slowed is None:
        lines.append("WARNING: whether the Pi was throttled is unknown; vcgencmd or the kernel's get_throttled tells.")
    elif slowed:
        lines.append(f"WARNING: the Pi was slowed down during the runs: {', '.join(slowed)}.")
    else:
        lines.append("not throttled during the runs")
    if "Raspberry Pi 4" not in first.get("device", ""):
        lines.append("WARNING: this is not a Raspberry Pi 4, on which the paper measured.")
    return lines


def _span(values: Sequence[str | None]) -> str:
    """Lowest and highest of the values that are numbers."""
    numbers = sorted(float(value) for value in values if value and value.replace(".", "", 1).isdecimal())
    if not numbers:
        return "unknown"
    return f"{numbers[0]:g} to {numbers[-1]:g}" if numbers[0] < numbers[-1] else f"{numbers[0]:g}"


def as_json(measured: Sequence[Result], compare: bool) -> list[dict]:
    """The measurements as JSON values, every repetition included; with the paper's figures as in `latency_table`."""
    return [
        {
            **{
                field: getattr(result.runs[0], field) for field in ("model", "threads", "kernel", "xnnpack", "size_mib")
            },
            "network": result.network,
            "graph": result.graph,
            "inferences": result.count,
            "mean_ms": result.mean_ms,
            "std_ms": result.std_ms,
            **({"paper_ms": result.paper_ms} if compare else {}),
            "repetitions": [dataclasses.asdict(run) for run in result.runs],
        }
        for result in measured
    ]
