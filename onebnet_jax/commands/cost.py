"""The command `python -m onebnet_jax.cost CONFIG [CONFIG ...]`: prints tables of what networks cost."""

import argparse
from collections.abc import Sequence

from onebnet_jax.commands import arguments, cost_report
from onebnet_jax.commands.cost_report import Entry
from onebnet_jax.errors import UserError, cli
from onebnet_jax.paper import latency
from onebnet_jax.paper import numbers as paper
from onebnet_jax.runs import config as config_lib
from onebnet_jax.tables import render

EXAMPLES = """examples:
  python -m onebnet_jax.cost configs/cifar10_typeI.py configs/cifar10_typeII.py
  python -m onebnet_jax.cost configs/cifar10_typeI.py --config.model.width_multiplier=0.5 --layers
  python -m onebnet_jax.cost --table1 --fit --plot table1.png
"""


def main(argv: list[str]) -> None:
    """Parses the command line, counts, prints tables."""
    parser = argparse.ArgumentParser(
        prog="python -m onebnet_jax.cost",
        description="Parameters, MACs, OPs, storage and estimated Raspberry Pi 4 latency of networks, without running "
        "them. Any --config.field=value applies to every CONFIG.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("configs", nargs="*", metavar="CONFIG", help="path of a config, such as configs/quickstart.py")
    parser.add_argument("--table1", action="store_true", help="add the twelve structures of the paper's Table 1")
    parser.add_argument("--layers", action="store_true", help="add a table of every layer")
    parser.add_argument("--units", action="store_true", help="compare 1-D with 2-D per stage, as the paper's Figure 5")
    parser.add_argument("--fit", action="store_true", help="show the latency fit and how well it holds")
    parser.add_argument("--plot", type=arguments.path, metavar="FILE.png", help="plot estimated latency and storage")
    parser.add_argument("--markdown", action="store_true", help="print Markdown tables")
    overrides = [word for word in argv if word.startswith("--config.")]
    options = parser.parse_intermixed_args([word for word in argv if word not in overrides])
    if not (options.configs or options.table1 or options.fit):
        parser.error("name at least one CONFIG, or use --table1 or --fit")
    if overrides and not options.configs:
        parser.error(f"{overrides[0]} applies to a CONFIG, and none is named")
    _run(options, overrides)


def _run(options: argparse.Namespace, overrides: Sequence[str]) -> None:
    entries = [_from_config(path, overrides) for path in options.configs]
    if options.table1:
        entries += [_from_table1(row) for row in paper.TABLE1]
    for entry in entries:
        if options.units and not entry.binarized:
            raise UserError(f"--units compares binarized convolutions, and {entry.name} has none: leave it out.")
    if options.plot:
        cost_report.plot(entries, options.plot)
    sections = []
    if entries:
        sections.append(("", cost_report.summary(entries)))
    for entry in entries:
        if options.layers:
            sections.append((f"{entry.name}: layers", cost_report.layer_table(entry)))
        if options.units:
            title = f"{entry.name}: one 3x3 place, as a 2-D unit -> as two 1-D units"
            sections.append((title, cost_report.unit_table(entry)))
    if options.fit:
        sections.append(("Fit of the latency estimate to Table 1", cost_report.rate_table()))
        sections.append(("Measured (paper) and estimated latency", cost_report.residual_table()))
    for title, rows in sections:
        print(*filter(None, [title, render(rows, options.markdown)]), sep="\n\n", end="\n\n")
    print(cost_report.notes())


def _from_config(path: str, overrides: Sequence[str]) -> Entry:
    config = config_lib.load(path, overrides)
    structure, last = config_lib.structure(config), config_lib.binarization(config, config.stages[-1])
    binarized = structure.block == "onebnet" and last.activations and last.weights
    return Entry(config_lib.name(path), structure, config_lib.input_shape(config), binarized)


def _from_table1(row: paper.Table1Row) -> Entry:
    return Entry(row.label, latency.table1_structure(row), latency.IMAGENET_INPUT, measured_ms=row.latency_ms)


if __name__ == "__main__":
    cli(main)
