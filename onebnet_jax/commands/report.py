"""Regenerates every table and figure of the paper, each beside the paper's own numbers: onebnet report

It reads the runs that are there, counts and estimates the rest, and says of what is missing which command fills it in.
DIR gets index.md with its pictures; report.html, which needs no other file; and .parts/, so that a report that was
stopped goes on. A part is made anew where the code or what it is made of has changed.
"""

import argparse
import contextlib
import hashlib
import importlib.util
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from tqdm import tqdm

from onebnet_jax.commands import arguments, figures
from onebnet_jax.errors import UserError, cli

RUNS = ("results/*", "results/*/*", "runs/*")
EXAMPLES = """examples:
  onebnet report                                               of the runs in results/ and runs/, into runs/report
  onebnet report runs/mine --logs=runs/rpi4-20250101-120000    of one run, with the times of a Raspberry Pi
"""


def main(argv: list[str]) -> None:
    parser = arguments.parser("report", __doc__, EXAMPLES)
    parser.add_argument("runs", nargs="*", type=arguments.path, metavar="RUN", help=f"default: {', '.join(RUNS)}")
    parser.add_argument("--output", type=arguments.path, default=Path("runs/report"), metavar="DIR")
    parser.add_argument("--logs", type=arguments.path, metavar="DIR", help="of launch/rpi4_benchmark.sh on a Pi")
    parser.add_argument("--network", type=arguments.path, metavar="RUN", help="that Figures 3 and 7 look into")
    text = "convert the networks of Table 3 for their sizes, where LCE is installed (default; takes minutes)"
    parser.add_argument("--files", action=argparse.BooleanOptionalAction, default=True, help=text)
    arguments.imports(parser)
    args = parser.parse_intermixed_args(argv)
    figures.require()

    from onebnet_jax.commands import benchmark
    from onebnet_jax.export import card
    from onebnet_jax.paper import matches, numbers, page, report_figures, report_tables, threads
    from onebnet_jax.runs import history, trained

    folders = args.runs or [path.parent for glob in RUNS for path in sorted(Path().glob(f"{glob}/config.json"))]
    runs = history.read(folders, built=True) if folders else []
    timed = [result for result in benchmark.read_logs(args.logs)[0] if _as_paper(result)] if args.logs else []
    pi = {(result.network, result.runs[0].threads): result.mean_ms for result in timed}
    found = report_tables.Found(matches.matches(runs), pi, {})
    network = trained.load(args.network) if args.network else _kept(runs)
    given = report_figures.Given(runs, network)

    parts, package = Parts(args.output / ".parts"), Path(__file__).parents[1]
    converter = _digest_of(path for room in ("export", "networks") for path in (package / room).rglob("*.py"))
    built = [name for name in threads.structures() if name in numbers.TABLE3]
    networks = built if args.files and importlib.util.find_spec("larq_compute_engine") else []
    digest = _digest_of(path for run in runs for path in _files(run.folder))
    inputs = [_digest_of(package.rglob("*.py")), digest, network and network.origin, sorted(map(str, pi.items()))]
    makers = report_tables.TABLES | report_figures.FIGURES
    with tqdm(total=len(networks) + len(makers), unit="part", desc="report") as bar:
        for name in networks:
            bar.set_postfix_str(f"converts {name}")
            config = matches.config_name("imagenet", name)
            found.files[name] = parts.get(
                f"file of {name}", [converter, config], lambda config=config: _file_mib(config)
            )
            bar.update()
        sections = []
        for name, make in makers.items():
            bar.set_postfix_str(name)
            about = given if name in report_figures.FIGURES else found
            sections.append(parts.section(name, [*inputs, found.files], lambda make=make, about=about: make(about)))
            bar.update()
    command = " ".join(["onebnet report", *argv])
    contents = {args.output / "index.md": page.markdown(sections, command).encode()}
    contents[args.output / "report.html"] = page.page(sections, command).encode()
    for section in sections:
        for number, picture in enumerate(section.pictures, start=1):
            contents[args.output / page.file_name(section, number)] = picture.png
    card.save(contents)
    print(f"{args.output / 'report.html'} and {args.output / 'index.md'}: {len(sections)} tables and figures")


class Parts:
    """What a report is made of, each in a file of its own that is complete or not there."""

    def __init__(self, folder: Path):
        """Raises UserError for a folder that cannot be made."""
        self._folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{folder} cannot be made: {error.strerror}.") from error

    def get(self, name: str, inputs: Any, make: Callable[[], Any]) -> Any:
        """JSON values: those kept for the same inputs, or else made, and kept in place of older ones."""
        from onebnet_jax.export import card

        path = self._folder / f"{name.lower().replace(' ', '-')}.json"
        key = hashlib.sha256(json.dumps(inputs).encode()).hexdigest()
        if path.exists():
            kept = json.loads(path.read_text())
            if kept["key"] == key:
                return kept["value"]
        value = make()
        card.save({path: {"key": key, "value": value}})
        return value

    def section(self, name: str, inputs: Any, make: Callable):
        from onebnet_jax.paper import sections

        return sections.from_json(self.get(name, inputs, lambda: sections.to_json(make())))


def _as_paper(result) -> bool:
    """Whether a measurement is of what the paper timed: the naive graph, LCE's default kernel, with XNNPACK (A.4)."""
    return result.graph != "folded" and result.runs[0].kernel == "default" and result.runs[0].xnnpack


def _kept(runs):
    """The OneBNet with a checkpoint that was trained for the most epochs, of equals the most accurate.

    Of those whose images are here, if there are such; None where none has a checkpoint.
    """
    from onebnet_jax.runs import trained

    with_one = [run for run in runs if any((run.folder / stage / "checkpoints/best").is_dir() for stage in run.lines)]
    onebnets = [run for run in with_one if run.config.model.family == "onebnet"]
    onebnets.sort(key=lambda run: (len(run.curve("train")), run.curve("test")[-1:]), reverse=True)
    networks = []
    for run in onebnets:
        networks.append(trained.load(run.folder))
        with contextlib.suppress(UserError):
            networks[-1].data.open()
            return networks[-1]
    return networks[0] if networks else None


def _file_mib(config: str) -> float:
    """The size of the naive .tflite file of a config's network."""
    from onebnet_jax.export import convert
    from onebnet_jax.runs import config as config_lib
    from onebnet_jax.runs import trained

    return convert.convert(trained.untrained(config_lib.load(config)), False).card["bytes"] / 2**20


def _files(folder: Path) -> Iterable[Path]:
    """What of a run a report reads."""
    return [folder / "config.json", *folder.glob("*/metrics.jsonl"), *folder.glob("*/checkpoints/best/*/info/*")]


def _digest_of(paths: Iterable[Path]) -> str:
    """A checksum of files by their names and contents."""
    return hashlib.sha256(
        b"".join(str(p.name).encode() + p.read_bytes() for p in sorted(paths) if p.is_file())
    ).hexdigest()


if __name__ == "__main__":
    cli(main)
