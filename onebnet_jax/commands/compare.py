"""Compares runs: what differs in their configs, and what came of it."""

import numpy as np

from onebnet_jax.commands import arguments, figures
from onebnet_jax.errors import cli
from onebnet_jax.tables import show

EXAMPLES = """examples:
  onebnet compare runs/*
  onebnet compare runs/a runs/b --plot=curves.png
"""


def main(argv: list[str]) -> None:
    """Prints a table with a line for each run; folders that hold none are named."""
    parser = arguments.parser("compare", __doc__, EXAMPLES)
    parser.add_argument("workdir", nargs="+", type=arguments.path, help="folder of a run")
    parser.add_argument("--markdown", action="store_true", help="as a Markdown table")
    parser.add_argument("--plot", type=arguments.path, metavar="FILE.png", help="plot Top-1 against epochs too")
    args = parser.parse_args(argv)

    from onebnet_jax.runs import history

    runs = history.read(args.workdir)
    if args.plot:
        axes = figures.axes("epoch", "Top-1 (%), dashed: while training")
        for run in runs:
            test, train = (np.reshape(run.curve(split), (-1, 2)).T for split in ("test", "train"))
            (line,) = axes.plot(*test, ".-", label=run.name)
            axes.plot(*train, "--", color=line.get_color(), linewidth=0.8)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        figures.save(axes, args.plot)
    show(history.table(runs), markdown=args.markdown)


if __name__ == "__main__":
    cli(main)
