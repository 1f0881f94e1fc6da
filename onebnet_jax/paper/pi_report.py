"""Timing runs as tables, beside what the paper measured on a Raspberry Pi 4. Pure functions of runs and cards."""

import dataclasses
import itertools
import math
import operator
from collections.abc import Mapping, Sequence

from onebnet_jax.errors import UserError
from onebnet_jax.networks import families
from onebnet_jax.networks.structure import Structure
from onebnet_jax.paper import latency, numbers
from onebnet_jax.paper.pi_log import Run, throttling
from onebnet_jax.tables import Table

PAPER_MS = {  # threads -> table -> network -> ms
    1: {
        "Table 1": {row.label: row.latency_ms for row in numbers.TABLE1},
        "Table 3": {name: row.latency_ms for name, row in numbers.TABLE3.items()},
    },
    4: {"Table 8": numbers.TABLE8},
}
SETTINGS = ("model", "threads", "kernel", "xnnpack")


@dataclasses.dataclass(frozen=True)
class Result:
    """The repetitions of one measurement."""

    runs: tuple[Run, ...]  # of the same model, threads, kernel and XNNPACK
    network: str  # the paper's name of the network, or ""
    graph: str  # "folded", "naive", or "" if there is no card

    @property
    def count(self) -> int:
        return sum(run.count for run in self.runs)

    @property
    def mean_ms(self) -> float:
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
    """Runs grouped into measurements, in the order of model, threads and kernel; cards by the models' file names."""
    key, graphs = operator.attrgetter(*SETTINGS), {True: "folded", False: "naive", None: ""}
    measured = []
    for (model, *_), group in itertools.groupby(sorted(runs, key=key), key):
        card = cards.get(model)
        measured.append(Result(tuple(group), network(card), graphs[(card or {}).get("folded")]))
    return measured


def network(card: dict | None) -> str:
    """The paper's name of the network that a file holds, by its card, whatever padding and stem activation; or ""."""
    if card is None or card.get("input", {}).get("shape") != [1, *latency.IMAGENET_INPUT]:
        return ""
    binarization = card.get("binarization", {})
    binarized = binarization.get("activations") and binarization.get("weights")
    try:
        recipe = {name: tuple(v) if isinstance(v, list) else v for name, v in card["structure"].items()}
        structure = families.build(**recipe)
    except (KeyError, TypeError, AttributeError, UserError):
        return ""
    known = {name: latency.imagenet(family) for name, family in numbers.FAMILIES.items()}
    known |= {row.label: latency.table1_structure(row) for row in numbers.TABLE1}
    names = [name for name, other in known.items() if _shape(other) == _shape(structure)]
    return names[0] if names and (binarized or not structure.binary) else ""


def _shape(structure: Structure) -> tuple:
    """What decides how long a network takes; the paper says neither padding nor stem activation."""
    plain = [dataclasses.replace(unit, pad_value=0, symmetric=False) for unit in structure.units]
    return dataclasses.replace(plain[0], activation="none"), *plain[1:], structure.num_classes


def latency_table(measured: Sequence[Result], compare: bool) -> Table:
    """One row for each measurement; with the paper's figures to compare, for runs on a Raspberry Pi."""
    tables = [table for tables in PAPER_MS.values() for table in tables] if compare else []
    header = ["model", "graph", "threads", "kernel", "XNNPACK", "runs", "mean (ms)", "std (ms)", "each repetition (ms)"]
    rows = [header + ["network"] * compare + [f"{table} (ms)" for table in tables]]
    for result in measured:
        run, means = result.runs[0], [run.mean_ms for run in result.runs]
        row = [run.model, result.graph or "-", str(run.threads), run.kernel, "on" if run.xnnpack else "off"]
        row += [str(result.count), f"{result.mean_ms:.2f}", f"{result.std_ms:.2f}"]
        row += [f"{min(means):.2f} to {max(means):.2f}", *[result.network or "-"] * compare]
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


def device_lines(runs: Sequence[Run]) -> list[str]:
    """The Pi in words, by runs in their order: what it is, how fast and how warm, what makes the figures doubtful."""
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
    if (slowed := throttling(list(runs))) is None:
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
