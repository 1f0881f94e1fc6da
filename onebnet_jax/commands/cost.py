"""What networks cost, without running them: parameters, MACs, OPs, storage and estimated Raspberry Pi 4 latency."""

from onebnet_jax.commands import arguments, figures
from onebnet_jax.errors import UserError, cli
from onebnet_jax.paper import cost_report, latency, numbers
from onebnet_jax.tables import show

ASSUMED_CLASSES = 10  # of a folder of images, where data.dir names none
EXAMPLES = """examples:
  onebnet cost cifar10_typeI cifar10_typeII
  onebnet cost cifar10_typeI --config.model.width_multiplier=0.5 --layers     any field, of every CONFIG
  onebnet cost --table1 --fit --plot table1.png
"""


def main(argv: list[str]) -> None:
    parser = arguments.parser("cost", __doc__, EXAMPLES)
    help_configs = "a config, such as configs/quickstart.py; folder counts with 10 classes, or those of its data.dir"
    parser.add_argument("configs", nargs="*", metavar="CONFIG", help=help_configs)
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

    from onebnet_jax.runs import config

    entries = []
    for path in options.configs:
        run = config.experiment(config.load(path, overrides, assumed=ASSUMED_CLASSES))
        name = config.name(path)
        if run.data.name == "folder":
            name += f" ({run.structure.num_classes} classes)"
        scale = run.stages[-1].binarization.weight_scale
        shape = run.data.info.shape
        entries.append(cost_report.Entry(name, run.structure, shape, run.binarized, weight_scale=scale))
    for row in numbers.TABLE1 if options.table1 else ():
        structure = latency.table1_structure(row)
        entries.append(cost_report.Entry(row.label, structure, latency.IMAGENET_INPUT, measured_ms=row.latency_ms))
    sections = [("", cost_report.summary(entries))] if entries else []
    for entry in entries:
        if options.layers:
            sections.append((f"{entry.name}: layers", cost_report.layer_table(entry)))
        if options.units:
            title = f"{entry.name}: one 3x3 place, as a 2-D unit -> as two 1-D units"
            sections.append((title, cost_report.unit_table(entry)))
    if options.fit:
        sections.append(("Fit of the latency estimate to Table 1", cost_report.rate_table()))
        sections.append(("Measured (paper) and estimated latency", cost_report.residual_table()))
    if options.plot:
        plot(entries, options.plot)
    parts = [part for section in sections for part in section if part]
    show(*parts, cost_report.notes(), markdown=options.markdown)


def plot(entries, path) -> None:
    """Draws estimated latency against storage. Raises UserError where there is nothing to draw, and as `figures`."""
    if not entries:
        raise UserError("--plot has nothing to draw: name a CONFIG or add --table1.")
    figures.require()
    from onebnet_jax.paper import plots

    figures.save(plots.costs(entries), path)


if __name__ == "__main__":
    cli(main)
