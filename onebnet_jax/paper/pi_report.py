"""Timing runs as tables, beside what the paper measured on a Raspberry Pi 4. Pure functions of runs and cards."""

import collections
import dataclasses
import itertools
import math
import operator
import statistics
from collections.abc import Mapping, Sequence

from onebnet_jax.errors import UserError
from onebnet_jax.networks import families
from onebnet_jax.networks.structure import Structure
from onebnet_jax.paper import latency, numbers
from onebnet_jax.paper.pi_log import Run, throttling
from onebnet_jax.tables import Table

PAPER_MS = {  # table -> (threads, network -> ms)
    "Table 1": (1, {row.label: row.latency_ms for row in numbers.TABLE1}),
    "Table 3": (1, {name: row.latency_ms for name, row in numbers.TABLE3.items()}),
    "Table 8": (4, numbers.TABLE8),
}
SETTINGS = ("model", "threads", "kernel", "xnnpack")


@dataclasses.dataclass(frozen=True)
class Result:
    """The repetitions of one measurement."""

    runs: tuple[Run, ...]  # of the same model, threads, kernel and XNNPACK
    network: str  # the paper's name of the network, or ""
    graph: str  # "folded", "naive", or "" if there is no card
    count: int  # of inferences in all
    mean_ms: float
    std_ms: float  # over all inferences, the spread between the repetitions included
    paper_ms: dict[str, float]  # table -> the paper's figure for this network and as many threads
    top1: float | None  # of the card, in percent


def results(runs: Sequence[Run], cards: Mapping[str, dict]) -> list[Result]:
    """Runs grouped into measurements, in the order of model, threads and kernel; cards by the models' file names."""
    key, graphs = operator.attrgetter(*SETTINGS), {True: "folded", False: "naive", None: ""}
    measured = []
    for (model, threads, *_), group in itertools.groupby(sorted(runs, key=key), key):
        repetitions, card = tuple(group), cards.get(model, {})
        name, count = network(card), sum(run.count for run in repetitions)
        mean = sum(run.count * run.mean_ms for run in repetitions) / count
        squares = sum(run.count * (run.std_ms**2 + (run.mean_ms - mean) ** 2) for run in repetitions)
        paper = {table: ms[name] for table, (of, ms) in PAPER_MS.items() if of == threads and name in ms}
        spread = math.sqrt(squares / count)
        top1 = (card.get("int8") or card.get("metrics") or {}).get("top1")
        measured.append(Result(repetitions, name, graphs[card.get("folded")], count, mean, spread, paper, top1))
    return measured


def network(card: dict) -> str:
    """The paper's name of the network that a file holds, by its card, whatever padding and stem activation; or "".

    The paper has none as int8.
    """
    if "int8" in card or card.get("input", {}).get("shape") != [1, *latency.IMAGENET_INPUT]:
        return ""
    binarization = card.get("binarization", {})
    binarized = binarization.get("activations") and binarization.get("weights")
    try:
        recipe = {name: tuple(v) if isinstance(v, list) else v for name, v in card["structure"].items()}
        structure = families.build(**recipe)
    except (KeyError, TypeError, AttributeError, UserError):
        return ""
    known = {_shape(latency.imagenet(family)): name for name, family in numbers.FAMILIES.items()}
    known |= {_shape(latency.table1_structure(row)): row.label for row in numbers.TABLE1}
    return known.get(_shape(structure), "") if binarized or not structure.binary else ""


def _shape(structure: Structure) -> tuple:
    """What decides how long a network takes; the paper says neither padding nor stem activation."""
    plain = [dataclasses.replace(unit, pad_value=0, symmetric=False) for unit in structure.units]
    return dataclasses.replace(plain[0], activation="none"), *plain[1:], structure.num_classes


def latency_table(measured: Sequence[Result], compare: bool) -> Table:
    """One row for each measurement; with the paper's figures to compare, for runs on a Raspberry Pi."""
    tables = list(PAPER_MS) if compare else []
    header = ["model", "graph", "threads", "kernel", "XNNPACK", "runs", "median (ms)", "mean (ms)", "std (ms)"]
    header = [
        *header,
        "mean of each repetition (ms)",
        *["network"] * compare,
        *["file (MiB)", "Top-1 (%)"] * (not compare),
    ]
    rows = [header + [f"{table} (ms)" for table in tables]]
    for result in measured:
        run, means = result.runs[0], [run.mean_ms for run in result.runs]
        row = [run.model, result.graph or "-", str(run.threads), run.kernel, "on" if run.xnnpack else "off"]
        medians = [run.median_ms for run in result.runs if run.median_ms is not None]
        row += [str(result.count), f"{statistics.median(medians):.3f}" if medians else "-"]
        row += [f"{result.mean_ms:.2f}", f"{result.std_ms:.2f}"]
        row += [f"{min(means):.2f} to {max(means):.2f}", *[result.network or "-"] * compare]
        row += [] if compare else [f"{run.size_mib:.2f}", "-" if result.top1 is None else f"{result.top1:.2f}"]
        rows.append(row + [f"{result.paper_ms[table]:.1f}" if table in result.paper_ms else "-" for table in tables])
    return rows


def storage_table(measured: Sequence[Result]) -> Table:
    """One row for each model: the size of its file beside Table 3's storage."""
    rows = [["model", "network", "file (MiB)", "Table 3 (MiB)"]]
    for model, group in itertools.groupby(measured, lambda result: result.runs[0].model):
        first = next(group)
        sizes = first.runs[0].size_mib, getattr(numbers.TABLE3.get(first.network), "storage_mib", None)
        rows.append([model, first.network or "-", *("-" if size is None else f"{size:.2f}" for size in sizes)])
    return rows


def comparison_note(measured: Sequence[Result]) -> str:
    """What a reader of the paper's columns must know."""
    note = "Tables 1, 3 and 8 are the paper's, measured on a Raspberry Pi 4 by the same protocol (A.4)."
    if any(result.paper_ms and result.graph == "folded" for result in measured):
        note += "\nA folded graph has fewer operators than the paper describes; convert --no-fold makes the naive one."
    return note


def device_lines(runs: list[Run]) -> list[str]:
    """The Pi in words, by runs in their order: what it is, how fast and how warm, what makes the figures doubtful."""
    first, last = (collections.defaultdict(lambda: "unknown", state) for state in (runs[0].before, runs[-1].after))
    clocks = _span([run.after.get("clock_mhz") for run in runs])
    temperatures = _span([state.get("temperature_c") for run in runs for state in (run.before, run.after)])
    lines = [
        f"{first['device']}; {first['os']}; kernel {first['kernel']}; {first['libc']}",
        f"clock up to {first['clock_limit_mhz']} MHz, governor {first['governor']}; {clocks} MHz right after a run",
        f"{first['temperature_c']} °C before the first run, {last['temperature_c']} °C after the last; "
        f"{temperatures} °C in all",
    ]
    if (slowed := throttling(runs)) is None:
        lines.append("WARNING: whether the Pi was throttled is unknown; vcgencmd or the kernel's get_throttled tells.")
    elif slowed:
        lines.append(f"WARNING: the Pi was slowed down during the runs: {', '.join(slowed)}.")
    else:
        lines.append("not throttled during the runs")
    if "Raspberry Pi 4" not in first["device"]:
        lines.append("WARNING: this is not a Raspberry Pi 4, on which the paper measured.")
    return lines


def _span(values: Sequence[str | None]) -> str:
    """Lowest and highest of the values that are numbers."""
    found = sorted({float(value) for value in values if value and value.replace(".", "", 1).isdecimal()})
    return " to ".join(f"{value:g}" for value in (found if len(found) < 3 else (found[0], found[-1]))) or "unknown"


def as_json(measured: Sequence[Result], compare: bool) -> list[dict]:
    """The measurements as JSON values, every repetition included; with the paper's figures as in `latency_table`."""
    entries = []
    for result in measured:
        entry = {field: getattr(result.runs[0], field) for field in (*SETTINGS, "size_mib")}
        names = ("network", "graph", "mean_ms", "std_ms", *["paper_ms"] * compare)
        entry |= {"inferences": result.count} | {name: getattr(result, name) for name in names}
        entries.append(entry | {"repetitions": [dataclasses.asdict(run) for run in result.runs]})
    return entries
