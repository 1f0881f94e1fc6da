"""Compares runs: what differs in their configs, and what came of it."""

from onebnet_jax.commands import arguments, figures
from onebnet_jax.errors import cli
from onebnet_jax.tables import show

EXAMPLES = """examples:
  onebnet compare runs/*
  onebnet compare runs/a runs/b --plot=curves.png
  onebnet compare runs/* --over-seeds
"""


def main(argv: list[str]) -> None:
    """Prints a table with a line for each run; folders that hold none are named."""
    parser = arguments.parser("compare", __doc__, EXAMPLES)
    parser.add_argument("workdir", nargs="+", type=arguments.run, help="folder of a run, or gs://BUCKET/DIR")
    parser.add_argument(
        "--over-seeds", action="store_true", help="mean ± deviation of runs that differ in their seed alone"
    )
    parser.add_argument("--markdown", action="store_true", help="as a Markdown table")
    parser.add_argument("--plot", type=arguments.path, metavar="FILE.png", help="plot Top-1 against epochs too")
    args = parser.parse_args(argv)

    from onebnet_jax.runs import history

    runs = history.read(args.workdir)
    if args.plot:
        figures.require()
        from onebnet_jax.paper import report_figures

        figures.save(report_figures.curves(runs), args.plot)
    show(history.table(runs, args.over_seeds), markdown=args.markdown)


if __name__ == "__main__":
    cli(main)
