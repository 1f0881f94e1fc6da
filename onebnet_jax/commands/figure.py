"""Draws one of the paper's figures of any network or run: onebnet figure N ... --output=FILE.png

1 a place without downsampling, as 2-D and as 1-D units    2 a place with downsampling
3 distributions before and after the learnable bias and RPReLU of units of a trained network
4 a whole network    5 what a place costs in 1-D against 2-D    6 training curves of runs
7 signs and results of convolutions of units, for a test image
"""

from onebnet_jax.commands import arguments, figures
from onebnet_jax.errors import UserError, cli

OF_RUN = ("3", "7")  # which need a trained network
EXAMPLES = """examples:
  onebnet figure 2 --config=imagenet:TypeII --unit=stage3_block1_conv1 --output=unit.png
  onebnet figure 3 --workdir=runs/quickstart --unit=stage2_block1_conv1,stage3 --output=distributions.png
  onebnet figure 4 --config=cifar10_typeI --config.model.depth=34 --output=network.svg
  onebnet figure 6 --workdir runs/a runs/b --output=curves.png
  onebnet figure diagnostics --workdir=runs/a --output=diagnostics.png
  onebnet figure 7 --workdir=runs/quickstart --unit=stage1_block1 --image=5 --output=activations.png
"""


def main(argv: list[str]) -> None:
    parser = arguments.parser("figure", __doc__, EXAMPLES)
    known = [*map(str, range(1, 8)), "diagnostics"]
    parser.add_argument("name", choices=known, metavar="N", help="1 to 7, of the figure in the paper, or diagnostics")
    text = "folder of a run; for figure 6 of several"
    parser.add_argument("--workdir", type=arguments.run, nargs="+", default=[], metavar="RUN", help=text)
    parser.add_argument("--config", help="for an untrained network instead; --config.field=value changes a field")
    parser.add_argument("--checkpoint", choices=("best", "last"), default="best", help="of the run (default: best)")
    parser.add_argument("--unit", default="", help="how names of units begin, with commas between (default: a few)")
    parser.add_argument("--image", type=int, default=0, help="number of a test image, for figure 7 (default 0)")
    parser.add_argument("--images", type=int, default=64, help="how many, for figure 3 (default 64)")
    parser.add_argument("--output", type=arguments.path, required=True, metavar="FILE", help=".png, .svg or .pdf")
    arguments.imports(parser)
    args, overrides = parser.parse_known_args(argv)
    if bool(args.workdir) == (args.config is not None):
        parser.error("give one of --workdir and --config")
    if args.config is not None and args.name in (*OF_RUN, "6", "diagnostics"):
        parser.error(f"figure {args.name} is of runs: give --workdir")
    if len(args.workdir) > 1 and args.name != "6":
        parser.error(f"figure {args.name} is of one run; figure 6 takes several")
    wrong = [
        word for word in overrides if not word.startswith("--config." if args.config is not None else "--config.data.")
    ]
    if wrong:
        parser.error(f"{wrong[0]!r} is not an option")
    if args.images < 1:
        parser.error(f"--images={args.images} must be 1 or more")
    figures.require()
    figures.save(_figure(args, overrides), args.output)


def _figure(args, overrides: list[str]):
    from onebnet_jax.networks.structure import check_formulas
    from onebnet_jax.paper import cost_report, diagrams, look, plots, report_figures
    from onebnet_jax.runs import bucket, config, history, trained

    if args.name == "6":
        return report_figures.curves(history.read(args.workdir))
    if args.name == "diagnostics":
        return report_figures.diagnostics(*history.read(args.workdir))
    names = [name for name in args.unit.split(",") if name]
    if args.name in OF_RUN:
        network = trained.load(args.workdir[0], args.checkpoint).with_data(overrides)
        units = look.chosen(network, names) if names else look.row_and_column(network)
        if args.name == "3":
            return report_figures.distributions(network, units, args.images)
        return report_figures.activations(network, units, args.image)
    if args.config is not None:
        asked = config.load(args.config, overrides)
    else:
        with bucket.copied(args.workdir[0], "config.json") as folder:
            asked = config.load_json(folder / "config.json")
    run = config.experiment(asked)
    structure, shape = run.structure, run.data.info.shape
    check_formulas(structure)
    if args.name == "4":
        return diagrams.network(structure, shape)
    if args.name == "5":
        entry = cost_report.Entry(args.config or str(args.workdir[0]), structure, shape, structure.binary)
        return plots.computations(cost_report.unit_counts(entry))
    if len(names) > 1:
        raise UserError(f"--unit={args.unit} must name one place for figure {args.name}.")
    return report_figures.place(structure, shape, args.name == "2", *names)


if __name__ == "__main__":
    cli(main)
