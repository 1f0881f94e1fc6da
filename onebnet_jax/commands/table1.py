"""Converts the paper's ImageNet networks, with random parameters, and prints what they become.

Sizes and operators, naive and folded, stand beside the cost model and the paper's Table 3, with how well the files
agree with JAX on random images. What a file holds and how long it takes do not depend on the values of its weights.
"""

import collections
import sys

import numpy as np
from tqdm import tqdm

from onebnet_jax.commands import arguments
from onebnet_jax.errors import cli
from onebnet_jax.paper import cost_report, latency, numbers
from onebnet_jax.tables import Table, show

NAMED = ("ReActNet18", "TypeI", "TypeII", "TypeIII")
EXAMPLES = """examples:
  onebnet table1 --markdown
  onebnet table1 all --images=0        all twelve rows, without a comparison
"""


def main(argv: list[str]) -> None:
    """Exits with 1 if a difference is not explained."""
    parser = arguments.parser("table1", __doc__, EXAMPLES)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"default: {' '.join(NAMED)}; or all")
    parser.add_argument("--images", type=int, default=8, help="random images for the comparison (default 8; 0: none)")
    parser.add_argument("--markdown", action="store_true", help="print Markdown tables")
    args = parser.parse_args(argv)
    if args.images < 0:
        parser.error(f"--images={args.images} must be 0 or more")

    wanted = numbers.TABLE1 if args.names == ["all"] else [numbers.table1_row(name) for name in args.names or NAMED]
    files = [(row, folded) for row in wanted for folded in (False, True)]
    sizes = [["network", "graph", "file (MiB)", "cost model", "Table 3", "Pi 4, estimated (ms)", "Table 1, measured"]]
    agreement = [["network", "graph", "equal predictions", "logits up to"]]
    agreement[0] += ["max logit difference", "mean logit difference", "first flips"]
    operators, unexplained = {row.label: [] for row in wanted}, []
    for row, folded in tqdm(files, unit="file"):
        card, report = convert(row.label, folded, args.images)
        names = [row.label, "folded" if folded else "naive"]
        sizes.append([*names, *_sizes(row, folded, card)])
        operators[row.label].append(collections.Counter(card["operators"]))
        if report:
            agreement.append([*names, *_agreement(report)])
            if not report.explained:
                unexplained.append(" ".join(names))
    measured = [agreement] if args.images else []
    show(sizes, *measured, _operators(operators), markdown=args.markdown)
    if unexplained:
        print(f"\nNOT explained by float rounding: {', '.join(unexplained)}")
        sys.exit(1)


def convert(label: str, folded: bool, images: int):
    """The card of a converted row of Table 1, and its `agreement.Report` on random images; None for no images."""
    from onebnet_jax.export import convert
    from onebnet_jax.runs import config, trained

    network = trained.untrained(config.load(f"configs/imagenet.py:{label}"))
    converted = convert.convert(network, folded)
    if not images:
        return converted.card, None
    from onebnet_jax.export import agreement

    pixels = np.random.default_rng(1).standard_normal((images, *network.info.shape), np.float32)
    plan = convert.make_plan(network, folded)
    batches = ((part, part, None) for part in np.array_split(pixels, -(-images // 4)))
    return converted.card, agreement.compare(network, plan, converted.tflite, batches)


def _sizes(row, folded: bool, card: dict) -> list[str]:
    """File and storage, and latency: the cost model's estimate, and what the paper measured (naive)."""
    entry = cost_report.Entry(row.label, latency.table1_structure(row), latency.IMAGENET_INPUT)
    naive, least, most = entry.estimates()
    printed = None if folded else numbers.TABLE3.get(row.label)  # which counts the naive graph
    cells = [f"{card['bytes'] / 2**20:.3f}", f"{entry.total(folded).storage_mib:.3f}"]
    cells.append(f"{printed.storage_mib:.2f}" if printed else "")
    return cells + ([f"{least:.1f} to {most:.1f}", ""] if folded else [f"{naive:.1f}", f"{row.latency_ms:.1f}"])


def _operators(counts: dict[str, list[collections.Counter]]) -> Table:
    """How many each network's graphs have of each kind, a column for each network."""
    rows = [("all", lambda count: count.total()), ("ADD + SUB", lambda count: count["ADD"] + count["SUB"])]
    for kind in sorted({kind for graphs in counts.values() for count in graphs for kind in count}):
        rows.append((kind, lambda count, kind=kind: count[kind]))
    cells = [
        [name, *(" / ".join(str(of(count)) for count in graphs) for graphs in counts.values())] for name, of in rows
    ]
    return [["operators, naive / folded", *counts], *cells]


def _agreement(report) -> tuple[str, ...]:
    """LCE's predictions and logits against JAX's, and how many signs differ first in an image, of all signs."""
    lce = report.lce
    flips, signs = sum(unit.first_flips for unit in lce.units), sum(unit.signs for unit in lce.units)
    cells = f"{lce.equal_predictions} of {report.images}", f"{report.max_logit:.3g}", f"{lce.max_difference:.1e}"
    return *cells, f"{lce.mean_difference:.1e}", f"{flips} of {signs / 1e6:.1f} M"


if __name__ == "__main__":
    cli(main)
