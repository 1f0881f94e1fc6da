"""Times converted models: onebnet benchmark model.tflite model.onb

On this machine, a .tflite file through LCE's Python interpreter and an .onb file by the native engine; size and Top-1,
which the files' cards know, stand beside the times. With --logs,
reads what launch/rpi4_benchmark.sh measured on a Raspberry Pi and prints it beside the paper's Tables 1, 3 and 8, for
which it needs neither TensorFlow nor JAX.
"""

import argparse
import hashlib
import os
import platform
import re
import sys
import time
from pathlib import Path

import numpy as np

from onebnet_jax.commands import arguments
from onebnet_jax.errors import UserError, check_numpy, cli
from onebnet_jax.export import card
from onebnet_jax.native.runtime import Engine
from onebnet_jax.paper import pi_log, pi_report
from onebnet_jax.surroundings import in_short
from onebnet_jax.tables import Table, show

DEFAULTS = {"threads": 1, "kernel": "default", "xnnpack": True, "runs": 50, "repetitions": 3}  # of measuring here
ENGINE = "engine"  # the kernel of the native engine, see `pi_log.Run`
EXAMPLES = """examples:
  onebnet benchmark model.onb model.tflite --json=here.json
  onebnet benchmark model.tflite --threads=4 --kernel=indirect
  onebnet benchmark --logs=rpi4/20250101-120000 --markdown
"""


def main(argv: list[str]) -> None:
    parser = arguments.parser("benchmark", __doc__, EXAMPLES)
    parser.add_argument("models", nargs="*", type=arguments.path, metavar="MODEL", help=".tflite or .onb")
    parser.add_argument("--logs", type=arguments.path, metavar="DIR", help="of launch/rpi4_benchmark.sh, read instead")
    parser.add_argument("--threads", type=int, help="within an image (default 1)")
    kernels = ("default", *pi_log.KERNELS)
    parser.add_argument("--kernel", choices=kernels, help="of LCE's binary convolution (default: default)")
    parser.add_argument(
        "--xnnpack", action=argparse.BooleanOptionalAction, help="for LCE's float operators (default: on)"
    )
    parser.add_argument("--runs", type=int, help="inferences in a repetition (default 50, as in A.4)")
    parser.add_argument("--repetitions", type=int, help="each with the model loaded anew (default 3, as in A.4)")
    parser.add_argument("--json", type=arguments.path, metavar="FILE.json", help="default: DIR/benchmark.json")
    parser.add_argument("--markdown", action="store_true", help="print Markdown tables")
    args = parser.parse_intermixed_args(argv)
    if bool(args.models) == (args.logs is not None):
        parser.error("give one or more models, or --logs DIR")
    given = {name: value for name, value in vars(args).items() if name in DEFAULTS and value is not None}
    if args.logs and given:
        parser.error(f"--{[*given][0]} has no place beside --logs, which hold what was measured")
    of_lce = [name for name in ("kernel", "xnnpack") if name in given]
    if of_lce and all(path.suffix == ".onb" for path in args.models):
        parser.error(f"--{of_lce[0]} is LCE's; the native engine has no such choice")

    if args.json:
        card.check_writable(args.json, ".json", "results")
    report, sections = _from_logs(args.logs) if args.logs else _on_this_machine(args.models, **DEFAULTS | given)
    show(*sections, markdown=args.markdown)
    if output := args.json or args.logs and args.logs / "benchmark.json":
        card.save({output: report})


def read_logs(folder: Path) -> tuple[list[pi_report.Result], list[str], dict[str, str]]:
    """What a Raspberry Pi measured: the results, the Pi in words, and the SHA-256 of the files by their names."""
    try:
        texts, engine = (
            {str(path): path.read_text(errors="replace") for path in sorted(folder.glob(pattern))}
            for pattern in ("*.log", "*.engine.*.txt")
        )
    except OSError as error:
        raise UserError(f"The logs in {folder} cannot be read: {error.strerror}.") from error
    if not texts:
        raise UserError(f"There is no .log file in {folder}; launch/rpi4_benchmark.sh writes them.")
    runs = [pi_log.parse(text, name) for name, text in texts.items()]
    runs += [run for name, text in engine.items() for run in pi_log.parse_engine(text, name)]
    runs.sort(key=lambda run: run.before.get("time", ""))
    sums, cards = folder / "SHA256SUMS", {}
    lines = re.findall(r"^([0-9a-f]{64}) [ *](.+)$", sums.read_text() if sums.is_file() else "", re.MULTILINE)
    digests = {name: digest for digest, name in lines}
    for path in (folder / f"{model}.json" for model in {run.model for run in runs if run.kernel != "engine"}):
        facts = card.load(path) if path.exists() else {}
        if facts and facts["sha256"] == digests.get(path.stem):
            cards[path.stem] = facts
            cards[Path(path.stem).with_suffix(".onb").name] = facts | {"folded": None}  # the same network
        elif facts:
            print(f"warning: {path} describes another file: not used", file=sys.stderr)
    return pi_report.results(runs, cards), pi_report.device_lines(runs), digests


def _from_logs(folder: Path) -> tuple[dict, list[str | Table]]:
    """The same as JSON values, and to print."""
    measured, device, digests = read_logs(folder)
    report = {"device": device, "sha256": digests, "results": pi_report.as_json(measured, compare=True)}
    tables = (pi_report.latency_table(measured, compare=True), pi_report.storage_table(measured))
    return report, ["\n".join(device), *tables, pi_report.comparison_note(measured)]


def _on_this_machine(models: list[Path], repetitions: int, **settings) -> tuple[dict, list[str | Table]]:
    """Timings by LCE's interpreter and the engine: JSON values, and the same to print."""
    for name, value in {"repetitions": repetitions, **settings}.items():
        if name in ("threads", "runs", "repetitions") and value < 1:
            raise UserError(f"--{name}={value} must be 1 or more.")
    files = {str(path): _read_model(path) for path in models}
    runs = [_time(name, tflite, **settings) for name, (tflite, _) in files.items() for _ in range(repetitions)]
    measured = pi_report.results(runs, {name: facts for name, (_, facts) in files.items()})
    machine = {"machine": platform.machine(), "platform": platform.platform(), "cpus": os.cpu_count()}
    note = f"Measured on this machine ({machine['machine']}) from Python, not on a Raspberry Pi."
    if any(run.kernel != ENGINE for run in runs) and machine["machine"] not in ("aarch64", "arm64"):
        note += "\nLCE's x86 kernels are reference code: their results are right, their times say nothing about ARM."
    digests = {name: hashlib.sha256(tflite).hexdigest() for name, (tflite, _) in files.items()}
    report = {**machine, "note": note, "sha256": digests, "results": pi_report.as_json(measured, compare=False)}
    return report, [note, pi_report.latency_table(measured, compare=False)]


def _read_model(path: Path) -> tuple[bytes, dict]:
    """A model and its card, {} without one. Raises UserError for what is no whole file of its kind."""
    if path.suffix == ".onb":
        return card.read_bytes(path), Engine(path).card
    tflite, facts = card.read_bytes(path), {}
    if tflite[4:8] != b"TFL3":
        raise UserError(f"{path} is not a .tflite file, nor named .onb.")
    if card.path_of(path).exists():
        _, facts = card.read(path)
    from onebnet_jax.export import lce

    try:  # LCE's interpreter does not verify a file; a damaged one would crash it.
        lce.operators(tflite)
    except Exception as error:
        raise UserError(f"{path} is damaged: it does not hold a whole graph.") from error
    return tflite, facts


def _time(model: str, file: bytes, threads: int, kernel: str, xnnpack: bool, runs: int) -> pi_log.Run:
    """One repetition with a new interpreter or engine, on random inputs with batch 1."""
    if Path(model).suffix == ".onb":
        kernel, xnnpack = ENGINE, False
        init_ms, first_ms, *rest = _engine_timings(file, threads, 1 + runs)
    else:
        init_ms, first_ms, *rest = _lce_timings(model, file, threads, kernel, xnnpack, 1 + runs)
    facts = dict(model=model, threads=threads, kernel=kernel, xnnpack=xnnpack, count=runs, size_mib=len(file) / 2**20)
    facts |= dict(mean_ms=float(np.mean(rest)), std_ms=float(np.std(rest)), min_ms=min(rest), max_ms=max(rest))
    facts |= dict(median_ms=float(np.median(rest)))
    return pi_log.Run(**facts, init_ms=init_ms, first_ms=first_ms)


def _lce_timings(model: str, tflite: bytes, threads: int, kernel: str, xnnpack: bool, count: int) -> list[float]:
    """Milliseconds of loading a file, and of each of `count` inferences."""
    from onebnet_jax.export import lce

    options = {pi_log.KERNELS[kernel]: True} if kernel in pi_log.KERNELS else {}
    check_numpy()
    try:
        return lce.timings(tflite, count, num_threads=threads, use_xnnpack=xnnpack, **options)
    except (RuntimeError, ValueError) as error:
        raise UserError(f"LCE's interpreter cannot run {model}: {in_short(error)}") from error


def _engine_timings(onb: bytes, threads: int, count: int) -> list[float]:
    """The same of the native engine, which takes pixels."""
    start = time.perf_counter()
    engine = Engine(onb, threads)
    milliseconds = [1e3 * (time.perf_counter() - start)]
    image = np.random.default_rng(0).integers(0, 256, (1, *engine.shape), np.uint8)
    for _ in range(count):
        start = time.perf_counter()
        engine.logits(image)
        milliseconds.append(1e3 * (time.perf_counter() - start))
    return milliseconds


if __name__ == "__main__":
    cli(main)
