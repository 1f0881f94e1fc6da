"""One timing run, and how it is read from a log of LCE's `lce_benchmark_model`, as launch/rpi4_remote.sh prints it.

That is lines "before NAME=VALUE" with the state of the Pi, one line "command=..." with the program's flags, its output,
in which newer versions start each line with "INFO: ", and lines "after NAME=VALUE".
"""

import dataclasses
import re

from onebnet_jax.errors import UserError

# Bits of the Pi firmware's get_throttled; 16 bits further up, each stands for "since the machine was started".
THROTTLING = {0: "under-voltage", 1: "capped clock", 2: "throttling", 3: "temperature limit"}
KERNELS = {"reference": "use_reference_bconv", "indirect": "use_indirect_bgemm"}  # the first whose flag is set

_STATE = re.compile(r"^(before|after) (\w+)=(.*)$", re.MULTILINE)
_COMMAND = re.compile(r"^command=(.*)$", re.MULTILINE)
_FLAG = re.compile(r"--(\w+)=(\S+)")
_NUMBER = r"(\d+(?:\.\d+)?(?:e[+-]?\d+)?)"
_NAMES = ("Inference timings in us: Init", "First inference", r"Warmup \(avg\)", r"Inference \(avg\)")
_TIMINGS = re.compile(", ".join(f"{name}: {_NUMBER}" for name in _NAMES) + "$", re.MULTILINE)
_COUNT = re.compile(r"\bcount=[1-9]\d* .*$", re.MULTILINE)
_FIELD = re.compile(rf"(\w+)={_NUMBER}")
_FILE_SIZE = re.compile(rf"input model file size \(MB\): {_NUMBER}")
_FIGURES = ("median", "mean", "std", "min", "max", "init", "first", "count")
_ENGINE = re.compile(
    r"^\S+, \w+, threads (\d+), ms: " + ", ".join(f"{name} {_NUMBER}" for name in _FIGURES) + "$", re.MULTILINE
)
_MEMORY = re.compile(rf"\(MB\): init={_NUMBER} overall={_NUMBER}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """Repeated inferences of one model by one process, or by one interpreter."""

    model: str  # name of the .tflite file, or of the native engine's .onb file
    threads: int  # of the interpreter
    kernel: str  # of the binary convolution: "default", "indirect" or "reference"; or "engine", the native one
    xnnpack: bool  # whether XNNPACK ran the float operators
    count: int  # inferences behind the four figures that follow; warming up is not among them
    mean_ms: float  # of one inference with batch 1
    std_ms: float
    min_ms: float
    max_ms: float
    init_ms: float  # loading the model
    first_ms: float  # the very first inference
    median_ms: float | None = None  # which a busy machine moves less than the mean; None if the log does not say
    size_mib: float | None = None  # of the file; None if the log does not say
    memory_mb: float | None = None  # what the process grew by, approximately; None if unknown
    before: dict[str, str] = dataclasses.field(default_factory=dict)  # state of the machine, by name; of a Pi only
    after: dict[str, str] = dataclasses.field(default_factory=dict)


def parse(text: str, name: str) -> Run:
    """The run that a log tells of. Raises UserError, with the log's name, if it is no such log or not complete."""
    command = _COMMAND.search(text)
    flags = dict(_FLAG.findall(command[1])) if command else {}
    switched_on = {flag for flag, value in flags.items() if value in ("true", "1")}
    if "graph" not in flags or not flags.get("num_threads", "").isdecimal():
        raise UserError(f"{name} is not a log of launch/rpi4_benchmark.sh: it does not say which command was run.")
    timings, counts = _TIMINGS.search(text), _COUNT.findall(text)
    # A log that ends inside a number would still look like one, so the mean must be there twice.
    fields = {key: float(value) for key, value in _FIELD.findall(counts[-1])} if counts else {}
    mean = fields.get("avg", fields.get("curr"))  # equal times are printed once, as curr
    if timings is None or mean != float(timings[4]):
        *_, last = _STATE.sub("", text).strip().splitlines()
        raise UserError(f"{name} holds no complete result: measure again or remove it; it ends: {last.strip()}")
    microseconds = {"mean": mean, "std": fields.get("std", 0.0), "init": float(timings[1]), "first": float(timings[2])}
    microseconds |= {name: fields.get(name, mean) for name in ("min", "max")}
    size, memory = _FILE_SIZE.search(text), _MEMORY.search(text)
    return Run(
        model=flags["graph"],
        threads=int(flags["num_threads"]),
        kernel=next((kernel for kernel, flag in KERNELS.items() if flag in switched_on), "default"),
        xnnpack="use_xnnpack" in switched_on,
        count=int(fields["count"]),
        **{f"{name}_ms": value / 1e3 for name, value in microseconds.items()},
        size_mib=float(size[1]) * 1e6 / 2**20 if size else None,
        memory_mb=float(memory[2]) if memory else None,
        **_states(text),
    )


def parse_engine(text: str, name: str) -> list[Run]:
    """The runs of a log of `onebnet-run MODEL.onb --bench --threads=4`: three with one thread and three with four.

    Raises UserError, with the log's name, if it is no such log or not complete.
    """
    command, lines = _COMMAND.search(text), _ENGINE.findall(text)
    model = re.search(r"\S+\.onb", command[1]) if command else None
    if not model or len(lines) != 6:
        raise UserError(f"{name} is not a whole log of the native engine: measure again or remove it.")
    facts = dict(model=model[0], kernel="engine", xnnpack=False, **_states(text))
    return [
        Run(
            threads=int(threads),
            count=int(count),
            **{f"{figure}_ms": float(value) for figure, value in zip(_FIGURES, values)},
            **facts,
        )
        for threads, *values, count in lines
    ]


def _states(text: str) -> dict[str, dict[str, str]]:
    """The state of the Pi before and after a command."""
    states = {"before": {}, "after": {}}
    for when, key, value in _STATE.findall(text):
        states[when][key] = value
    return states


def throttling(runs: list[Run]) -> list[str] | None:
    """What slowed the Pi down while the runs lasted: any of `THROTTLING`. None if its firmware was not heard."""
    try:
        states = [[int(state["throttled"], 16) for state in (run.before, run.after)] for run in runs]
    except (KeyError, ValueError):
        return None
    during = 0
    for before, after in states:
        during |= before | after | (after & ~before) >> 16
    return [meaning for bit, meaning in THROTTLING.items() if during >> bit & 1]
