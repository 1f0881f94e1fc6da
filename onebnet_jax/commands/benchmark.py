"""Times converted models: python -m onebnet_jax.benchmark MODEL.tflite ...

On this machine, through LCE's Python interpreter; or, with --logs, reads what launch/rpi4_benchmark.sh measured on a
Raspberry Pi and prints it beside the paper's Tables 1, 3 and 8. Reading logs needs neither TensorFlow nor JAX.
"""

import argparse
import hashlib
import json
import os
import platform
import re
import sys
import time
from pathlib import Path

from onebnet_jax.commands import arguments
from onebnet_jax.errors import UserError, cli
from onebnet_jax.paper import pi_log, pi_report
from onebnet_jax.paper.pi_log import Run
from onebnet_jax.tables import render

KERNELS = {
    "default": {},
    "indirect": {"use_indirect_bgemm": True},
    "reference": {"use_reference_bconv": True},
}
DEFAULTS = {"threads": 1, "kernel": "default", "xnnpack": True, "runs": 50, "repetitions": 3}  # of measuring here


def main(argv: list[str]) -> None:
    """Parses the command line, measures or reads logs, prints tables."""
    parser = argparse.ArgumentParser(
        prog="python -m onebnet_jax.benchmark",
        description=__doc__.partition("\n\n")[2],
        allow_abbrev=False,
    )
    parser.add_argument(
        "models", nargs="*", type=arguments.path, metavar="MODEL.tflite", help="files made by onebnet_jax.convert"
    )
    parser.add_argument(
        "--logs", type=arguments.path, metavar="DIR", help="read the logs of launch/rpi4_benchmark.sh instead"
    )
    parser.add_argument("--threads", type=int, help="of the interpreter (default 1)")
    parser.add_argument("--kernel", choices=KERNELS, help="of the binary convolution (default: default)")
    parser.add_argument("--xnnpack", action=argparse.BooleanOptionalAction, help="for float operators (default: on)")
    parser.add_argument("--runs", type=int, help="inferences in a repetition (default 50, as in A.4)")
    parser.add_argument("--repetitions", type=int, help="each with a new interpreter (default 3, as in A.4)")
    parser.add_argument(
        "--json", type=arguments.path, metavar="FILE.json", help="write the figures here (default: DIR/benchmark.json)"
    )
    parser.add_argument("--markdown", action="store_true", help="print Markdown tables")
    args = parser.parse_intermixed_args(argv)
    if bool(args.models) == (args.logs is not None):
        parser.error("give one or more models, or --logs DIR")
    given = [name for name in DEFAULTS if getattr(args, name) is not None]
    if args.logs is not None and given:
        parser.error(f"--{given[0]} has no place beside --logs, which hold what was measured")
    for name in DEFAULTS.keys() - given:
        setattr(args, name, DEFAULTS[name])
    if args.logs is not None:
        report, sections = _from_logs(args.logs, args.markdown)
    else:
        report, sections = _on_this_machine(args)
    print(*sections, sep="\n\n")
    path = args.json or (args.logs / "benchmark.json" if args.logs else None)
    if path is not None:
        try:
            path.write_text(json.dumps(report, indent=2) + "\n")
        except OSError as error:
            raise UserError(f"Cannot write {path}: {error.strerror}.") from error


def _from_logs(folder: Path, markdown: bool) -> tuple[dict, list[str]]:
    """What a Raspberry Pi measured: JSON values, and the same as sections of text."""

    try:
        texts = {str(path): path.read_text(errors="replace") for path in sorted(folder.glob("*.log"))}
    except OSError as error:
        raise UserError(f"The logs in {folder} cannot be read: {error.strerror}.") from error
    if not texts:
        raise UserError(f"There is no .log file in {folder}; launch/rpi4_benchmark.sh writes them.")
    runs = [pi_log.parse(text, name) for name, text in texts.items()]
    runs.sort(key=lambda run: run.before.get("time", ""))
    digests = _digests(folder / "SHA256SUMS")
    cards = {}
    for model in {run.model for run in runs}:
        path = folder / f"{model}.json"
        card = _card(path)
        if card is not None and card.get("sha256") == digests.get(model):
            cards[model] = card
        elif card is not None:
            print(f"warning: {path} describes another file: not used", file=sys.stderr)
    measured = pi_report.results(runs, cards)
    device = pi_report.device_lines(runs)
    sections = [
        "\n".join(device),
        render(pi_report.latency_table(measured, compare=True), markdown),
        render(pi_report.storage_table(measured), markdown),
        pi_report.comparison_note(measured),
    ]
    return {"device": device, "sha256": digests, "results": pi_report.as_json(measured, compare=True)}, sections


def _on_this_machine(args: argparse.Namespace) -> tuple[dict, list[str]]:
    """Timings through LCE's interpreter: JSON values, and the same as sections of text."""

    for name, value in (("threads", args.threads), ("runs", args.runs), ("repetitions", args.repetitions)):
        if value < 1:
            raise UserError(f"--{name}={value} must be 1 or more.")
    if args.json is not None:
        from onebnet_jax.export import card

        card.check_writable(args.json, ".json", "results", "a report of this command")
    files = {path: _read_model(path) for path in args.models}
    runs, cards = [], {}
    for path, (tflite, card) in files.items():
        if card is not None:
            cards[str(path)] = card
        for _ in range(args.repetitions):
            runs.append(_time(str(path), tflite, args.threads, args.kernel, args.xnnpack, args.runs))
    measured = pi_report.results(runs, cards)
    machine = {"machine": platform.machine(), "platform": platform.platform(), "cpus": os.cpu_count()}
    digests = {str(path): hashlib.sha256(tflite).hexdigest() for path, (tflite, _) in files.items()}
    where = f"Measured on this machine ({machine['machine']}) through LCE's Python interpreter, not on a Raspberry Pi."
    if machine["machine"] not in ("aarch64", "arm64"):
        where += "\nLCE's x86 kernels are reference code: their results are right, their times say nothing about ARM."
    sections = [where, render(pi_report.latency_table(measured, compare=False), args.markdown)]
    report = {**machine, "note": where, "sha256": digests}
    return {**report, "results": pi_report.as_json(measured, compare=False)}, sections


def _read_model(path: Path) -> tuple[bytes, dict | None]:
    """A model and its card, if it has one. Raises UserError for what is no whole .tflite file."""
    try:
        tflite = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; onebnet_jax.convert makes such files.") from error
    if tflite[4:8] != b"TFL3":
        raise UserError(f"{path} is not a .tflite file.")
    card = _card(path.with_suffix(".json"))
    if card is not None and card.get("sha256") != hashlib.sha256(tflite).hexdigest():
        raise UserError(f"{path} is not the file that {path.with_suffix('.json')} describes: convert it again.")
    from onebnet_jax.export import lce

    try:  # LCE's interpreter does not verify a file; a damaged one would crash it.
        lce.operators(tflite)
    except Exception as error:
        raise UserError(f"{path} is damaged: it does not hold a whole graph.") from error
    return tflite, card


def _time(model: str, tflite: bytes, threads: int, kernel: str, xnnpack: bool, runs: int) -> Run:
    """One repetition with a new interpreter, on random inputs with batch 1."""
    import numpy as np

    from onebnet_jax.export.keras2 import larq_compute_engine

    clock = time.perf_counter
    start = clock()
    try:
        interpreter = larq_compute_engine.testing.Interpreter(
            tflite, num_threads=threads, use_xnnpack=xnnpack, **KERNELS[kernel]
        )
        loaded = clock()
        inputs = _random_inputs(interpreter)
        milliseconds = []
        for _ in range(1 + runs):
            begin = clock()
            interpreter.predict(inputs)
            milliseconds.append((clock() - begin) * 1e3)
    except (RuntimeError, ValueError) as error:
        raise UserError(f"LCE's interpreter cannot run {model}: {' '.join(str(error).split())}") from error
    first, *rest = milliseconds
    return Run(
        model=model,
        threads=threads,
        kernel=kernel,
        xnnpack=xnnpack,
        count=runs,
        mean_ms=float(np.mean(rest)),
        std_ms=float(np.std(rest)),
        min_ms=min(rest),
        max_ms=max(rest),
        init_ms=(loaded - start) * 1e3,
        first_ms=first,
        size_mib=len(tflite) / 2**20,
    )


def _random_inputs(interpreter) -> list:
    """One array for each input of a model, [1, ...] each: floats in [0, 1), or any integers of the type."""
    import numpy as np

    rng = np.random.default_rng(0)
    inputs = []
    for dtype, shape in zip(interpreter.input_types, interpreter.input_shapes, strict=True):
        if np.issubdtype(dtype, np.integer):
            limits = np.iinfo(dtype)
            inputs.append(rng.integers(limits.min, limits.max, shape, dtype, endpoint=True))
        else:
            inputs.append(rng.random(shape).astype(dtype))
    return inputs


def _card(path: Path) -> dict | None:
    """The card that onebnet_jax.convert wrote, or None if there is none."""
    try:
        card = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as the card of a model: {error}.") from error
    return card if isinstance(card, dict) else {}


def _digests(path: Path) -> dict[str, str]:
    """File name -> SHA-256, as sha256sum prints them; empty if there is no such file."""
    text = path.read_text() if path.is_file() else ""
    return {name: digest for digest, name in re.findall(r"^([0-9a-f]{64}) [ *](.+)$", text, re.MULTILINE)}


if __name__ == "__main__":
    cli(main)
