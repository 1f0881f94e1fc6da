"""Converts the paper's ImageNet networks, with random parameters: python -m onebnet_jax.export.table1 [NAME ...]

Prints sizes and operators, naive and folded, beside the cost model and the paper's Table 3, and how well the files
agree with JAX on random images; exits with 1 if a difference is not explained by float rounding. What a file holds and
how long it takes do not depend on the values of its weights.
"""

import argparse
import collections
import dataclasses
import sys

import numpy as np
from tqdm import tqdm

from onebnet_jax.commands.cost_report import Entry
from onebnet_jax.errors import cli
from onebnet_jax.export import fold, lint
from onebnet_jax.export.untrained import random_variables
from onebnet_jax.networks import cost
from onebnet_jax.networks.layers import Binarization
from onebnet_jax.paper import latency
from onebnet_jax.paper import numbers as paper
from onebnet_jax.tables import render

NAMED = ("ReActNet18", "TypeI", "TypeII", "TypeIII")


@dataclasses.dataclass(frozen=True)
class Converted:
    """One network at 224x224, converted.

    Attributes:
      name: as in Table 1.
      folded: whether folded.
      mib: size of the file in MiB.
      model_mib: the same by the cost model.
      operators: name -> count.
      report: `agreement.Report`, or None if no images were asked for.
    """

    name: str
    folded: bool
    mib: float
    model_mib: float
    operators: dict[str, int]
    report: object | None


def convert(row: paper.Table1Row, folded: bool, images: int = 0) -> Converted:
    """Converts and lints the network of a row of Table 1, and compares it on `images` random images."""
    from onebnet_jax.export import agreement, lce
    from onebnet_jax.export import keras as larq_model

    structure, shape = latency.table1_structure(row), latency.IMAGENET_INPUT
    variables = random_variables(structure, shape)
    plan = fold.deployment_plan(structure, Binarization(), variables, shape, folded)
    tflite = lce.convert(larq_model.keras_model(plan))
    lint.check_file(lce.operators(tflite), plan)
    report = None
    if images:
        pixels = np.random.default_rng(1).standard_normal((images, *shape), np.float32)
        report = agreement.compare(
            structure, Binarization(), variables, plan, tflite, agreement.batches(pixels, size=4)
        )
    counts = cost.total(cost.layers(structure, shape, folded=folded))
    operators = lce.histogram(tflite)
    return Converted(row.label, folded, len(tflite) / 2**20, counts.storage_mib, operators, report)


def main(argv: list[str]) -> None:
    """Parses the command line, converts, prints two tables; exits with 1 if a difference is not explained."""
    parser = argparse.ArgumentParser(
        prog="python -m onebnet_jax.export.table1", description=__doc__.partition("\n\n")[2], allow_abbrev=False
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"default: {' '.join(NAMED)}; or all")
    parser.add_argument("--images", type=int, default=8, help="random images for the comparison (default 8; 0: none)")
    parser.add_argument("--markdown", action="store_true", help="print Markdown tables")
    args = parser.parse_args(argv)
    if args.images < 0:
        parser.error(f"--images={args.images} must be 0 or more")
    wanted = paper.TABLE1 if args.names == ["all"] else [paper.table1_row(name) for name in args.names or NAMED]
    files = [(row, folded) for row in wanted for folded in (False, True)]
    rows = [convert(row, folded, args.images) for row, folded in tqdm(files, unit="file")]
    print(render(table(rows), args.markdown), render(operator_table(rows), args.markdown), sep="\n\n")
    unexplained = [" ".join(_names(row)) for row in rows if row.report is not None and not row.report.explained]
    if unexplained:
        print(f"\nNOT explained by float rounding: {', '.join(unexplained)}")
        sys.exit(1)


def table(rows: list[Converted]) -> list[list[str]]:
    """One row for each file, under a header: sizes, operators, latency, and agreement with JAX."""
    result = [["network", "graph", "file (MiB)", "cost model", "Table 3", "operators", "LceBconv2d", "ADD + SUB"]]
    result[0] += ["Pi 4, estimated (ms)", "Table 1, measured", "equal predictions", "logits up to"]
    result[0] += ["max logit difference", "mean logit difference", "first flips"]
    for row in rows:
        count = collections.Counter(row.operators)
        printed = None if row.folded else paper.TABLE3.get(row.name)  # which counts the naive graph
        cells = [*_names(row), f"{row.mib:.3f}", f"{row.model_mib:.3f}"]
        cells.append(f"{printed.storage_mib:.2f}" if printed else "")
        cells += [str(number) for number in (count.total(), count["LceBconv2d"], count["ADD"] + count["SUB"])]
        result.append([*cells, *_latency(row), *_agreement(row.report)])
    return result


def operator_table(rows: list[Converted]) -> list[list[str]]:
    """One row for each file, under a header: how many operators of each kind it has."""
    kinds = sorted({kind for row in rows for kind in row.operators})
    counts = [[*_names(row), *(str(row.operators.get(kind, 0)) for kind in kinds)] for row in rows]
    return [["network", "graph", *kinds], *counts]


def _names(row: Converted) -> tuple[str, str]:
    return row.name, "folded" if row.folded else "naive"


def _latency(row: Converted) -> tuple[str, str]:
    """What the cost model estimates for this graph, a range where it is folded, and what the paper measured (naive)."""
    measured = paper.table1_row(row.name)
    naive, least, most = Entry(row.name, latency.table1_structure(measured), latency.IMAGENET_INPUT).estimates()
    return (f"{least:.1f} to {most:.1f}", "") if row.folded else (f"{naive:.1f}", f"{measured.latency_ms:.1f}")


def _agreement(report) -> tuple[str, ...]:
    """LCE's predictions and logits against JAX's, and how many signs differ first in an image, of all signs."""
    if report is None:
        return ("",) * 5
    lce = report.lce
    flips, signs = sum(unit.first_flips for unit in lce.units), sum(unit.signs for unit in lce.units)
    differences = (f"{value:.1e}" for value in (lce.max_difference, lce.mean_difference))
    equal = f"{lce.equal_predictions} of {report.images}"
    return equal, f"{report.max_logit:.3g}", *differences, f"{flips} of {signs / 1e6:.1f} M"


if __name__ == "__main__":
    cli(main)
