"""Proves that a converted file gives the trained network's answers: python -m onebnet_jax.agree model.tflite"""

import argparse
import dataclasses
import json
import sys
from pathlib import Path

import numpy as np

from onebnet_jax import data
from onebnet_jax.errors import UserError, cli
from onebnet_jax.export import card, fold, source
from onebnet_jax.export.source import Source

PARITY_IMAGES = 4


def main(argv: list[str]) -> None:
    """Parses the command line, compares, prints the report; exits with 1 if a difference is not explained."""
    parser = argparse.ArgumentParser(prog="python -m onebnet_jax.agree", description=__doc__, allow_abbrev=False)
    parser.add_argument("model", type=Path, help="a .tflite file made by onebnet_jax.convert, its card beside it")
    parser.add_argument("--images", type=int, default=1000, help="how many test images (default 1000; 0 for all)")
    parser.add_argument("--random-images", action="store_true", help="random pixels instead of test images")
    parser.add_argument("--workdir", help="folder of the run, if it is no longer where it was")
    parser.add_argument("--report", type=Path, metavar="FILE.json", help="write the report as JSON too")
    args = parser.parse_args(argv)
    if args.images < 0:
        raise UserError(f"--images={args.images} must be 0 or more.")
    if args.report is not None:
        card.check_writable(args.report, ".json")
    tflite, facts = card.read(args.model)
    if args.workdir:
        if "workdir" not in facts["source"]:
            raise UserError(f"--workdir has no place here: {args.model} was made from an untrained network.")
        facts["source"]["workdir"] = args.workdir
    network = source.from_card(facts)
    pixels, labels = _random_pixels(network, args.images) if args.random_images else _test_images(network, args.images)
    report, parity = compare(network, facts, tflite, pixels, labels)
    dtype = network.config.model.dtype
    note = "" if dtype == "float32" else f" (trained in {dtype}, compared in float32)"
    print(describe(report, parity, f"{args.model} against {network.title}{note}"))
    if args.report is not None:
        content = {**dataclasses.asdict(report), "parity": [dataclasses.asdict(unit) for unit in parity]}
        args.report.write_text(json.dumps(content, indent=2) + "\n")
    if not report.explained:
        sys.exit(1)


def compare(network: Source, facts: dict, tflite: bytes, pixels: np.ndarray, labels: np.ndarray | None):
    """The (`agreement.Report`, list of `unit_parity.UnitParity`) of a file with its card, on pixels [N, H, W, C]."""
    info = network.info
    normalization = (info.mean, info.std) if facts["raw_input"] else None
    plan = fold.deployment_plan(
        network.structure, network.binarization, network.variables, info.shape, facts["folded"], normalization
    )
    from onebnet_jax.export import agreement, unit_parity  # TensorFlow takes seconds to import

    trained = network.structure, network.binarization, network.variables
    images = source.normalize(pixels, info)
    inputs = pixels if facts["raw_input"] else images
    report = agreement.compare(*trained, plan, tflite, images, inputs, labels)
    return report, unit_parity.compare_units(*trained, plan, images[:PARITY_IMAGES])


def _test_images(network: Source, count: int) -> tuple[np.ndarray, np.ndarray]:
    options = network.config.data
    dataset = data.load(options.name, options.source, options.dir)
    count = count or len(dataset.test_labels)
    return dataset.test_images[:count], dataset.test_labels[:count]


def _random_pixels(network: Source, count: int) -> tuple[np.ndarray, None]:
    shape = (count or 1000, *network.info.shape)
    return np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8), None


def describe(report, parity, title: str) -> str:
    """The report as text."""
    lines = [f"{title}, {report.images} images, logits up to {report.max_logit:.4g}", ""]
    row = "{:<8}{:>10}{:>20}{:>14}{:>14}{:>18}{:>14}".format
    lines.append(row("", "Top-1", "equal predictions", "max diff", "mean diff", "images with flip", "unexplained"))
    lines.append(row("JAX", _share(report.correct, report.images), *[""] * 5))
    for name, other in (("Keras", report.keras), ("LCE", report.lce)):
        lines.append(
            row(
                name,
                _share(other.correct, report.images),
                f"{other.equal_predictions} of {report.images}",
                f"{other.max_difference:.2e}",
                f"{other.mean_difference:.2e}",
                other.images_with_flips,
                len(other.unexplained),
            )
        )
    if parity:
        lines += [
            "",
            "Signs that differ from JAX's, with the largest |x - alpha| / RMS at one; first: in images without",
        ]
        lines += ["a flip before. Last two columns: LCE's output of each unit alone, on JAX's input.", ""]
        lines += _unit_table(report, parity)
    lines.append("")
    for name, other in (("Keras", report.keras), ("LCE", report.lce)):
        for index, unit, margin in other.differing:
            where = f"first flip in {unit}, margin {margin:.1e}" if unit else "no flip"
            lines.append(f"{name} predicts another class for image {index}: {where}")
    lines.append(_verdict(report))
    return "\n".join(lines)


def _unit_table(report, parity) -> list[str]:
    row = "{:<30}{:>12}{:>8}{:>9}{:>8}{:>9}{:>8}{:>9}{:>8}{:>9}{:>11}{:>9}".format
    lines = [
        row("", "", "Keras", "", "Keras", "", "LCE", "", "LCE", "", "output", "output"),
        row(
            "unit",
            "signs",
            "flips",
            "margin",
            "first",
            "margin",
            "flips",
            "margin",
            "first",
            "margin",
            "max diff",
            "max",
        ),
    ]
    keras, lce = ({unit.name: unit for unit in other.units} for other in (report.keras, report.lce))
    for unit in parity:
        cells = [""] * 9
        if unit.name in keras:
            cells = [keras[unit.name].signs]
            for flips in (keras[unit.name], lce[unit.name]):
                cells += [flips.flips, f"{flips.margin:.1e}", flips.first_flips, f"{flips.first_margin:.1e}"]
        lines.append(row(unit.name, *cells, f"{unit.max_difference:.1e}", f"{unit.max_output:.4g}"))
    return lines


def _share(correct: int | None, images: int) -> str:
    return "" if correct is None else f"{100 * correct / images:.2f} %"


def _verdict(report) -> str:
    if report.conversion_difference:
        return (
            f"The file's logits differ by {report.conversion_difference:.2e} from those of a new conversion: it is not "
            "what this version makes of this checkpoint."
        )
    if report.explained:
        return "Every difference is explained: it is rounding, or begins with a value within rounding of its threshold."
    return f"NOT explained by float rounding: images {report.keras.unexplained + report.lce.unexplained}"


if __name__ == "__main__":
    cli(main)
