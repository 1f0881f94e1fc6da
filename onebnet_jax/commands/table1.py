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
from onebnet_jax.tables import show

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
    sizes, operators, unexplained = [], [], []
    for row, folded in tqdm(files, unit="file"):
        card, report = convert(row.label, folded, args.images)
        names = [row.label, "folded" if folded else "naive"]
        sizes.append([*names, *_sizes(row, folded, card), *(_agreement(report) if report else [""] * 5)])
        operators.append((names, card["operators"]))
        if report and not report.explained:
            unexplained.append(" ".join(names))
    header = ["network", "graph", "file (MiB)", "cost model", "Table 3", "operators", "LceBconv2d", "ADD + SUB"]
    header += ["Pi 4, estimated (ms)", "Table 1, measured", "equal predictions", "logits up to"]
    header += ["max logit difference", "mean logit difference", "first flips"]
    kinds = sorted({kind for _, counts in operators for kind in counts})
    counts = [[*names, *(str(found.get(kind, 0)) for kind in kinds)] for names, found in operators]
    show([header, *sizes], [["network", "graph", *kinds], *counts], markdown=args.markdown)
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
    """File and storage, operators, and latency: the cost model's estimate, and what the paper measured (naive)."""
    entry = cost_report.Entry(row.label, latency.table1_structure(row), latency.IMAGENET_INPUT)
    naive, least, most = entry.estimates()
    printed = None if folded else numbers.TABLE3.get(row.label)  # which counts the naive graph
    count = collections.Counter(card["operators"])
    cells = [f"{card['bytes'] / 2**20:.3f}", f"{entry.total(folded).storage_mib:.3f}"]
    cells.append(f"{printed.storage_mib:.2f}" if printed else "")
    cells += map(str, (count.total(), count["LceBconv2d"], count["ADD"] + count["SUB"]))
    return cells + ([f"{least:.1f} to {most:.1f}", ""] if folded else [f"{naive:.1f}", f"{row.latency_ms:.1f}"])


def _agreement(report) -> tuple[str, ...]:
    """LCE's predictions and logits against JAX's, and how many signs differ first in an image, of all signs."""
    lce = report.lce
    flips, signs = sum(unit.first_flips for unit in lce.units), sum(unit.signs for unit in lce.units)
    cells = f"{lce.equal_predictions} of {report.images}", f"{report.max_logit:.3g}", f"{lce.max_difference:.1e}"
    return *cells, f"{lce.mean_difference:.1e}", f"{flips} of {signs / 1e6:.1f} M"


if __name__ == "__main__":
    cli(main)
