"""The proof that a converted file gives the answers of the network that it was made from, and the proof as text."""

import dataclasses
import itertools
from collections.abc import Callable, Iterable

from onebnet_jax.errors import UserError
from onebnet_jax.export import card
from onebnet_jax.export.fold import make_plan
from onebnet_jax.native.runtime import Engine
from onebnet_jax.runs.trained import Trained
from onebnet_jax.tables import Table

BATCH_SIZE = 16  # what all units compute for a batch is in memory
PARITY_IMAGES = 4
SHOWN = 10  # images in a sentence, or with a line each


def agree(
    trained: Trained,
    tflite: bytes | None,
    facts: dict,
    batches: Iterable,
    advance: Callable[[int], object],
    engine=None,
):
    """The `agreement.Report` on a converted file, `facts` its card, and the network that it was made from.

    batches: of images, uint8 [N, H, W, C] with pixels of 0..255, and their labels, int [N] or None. `advance` is told
    how many images have been compared since it was told last. engine: of the native engine's file, by `same_source`;
    None for one of the network packed anew. tflite: None where the engine's file is the one that was converted. Raises
    UserError where there is no image.
    """
    batches = iter(batches)
    first = next(batches, None)
    if first is None:
        raise UserError("There is no image to compare on.")
    from onebnet_jax.export import agreement

    info = trained.info

    def prepared():
        for pixels, labels in itertools.chain([first], batches):
            for start in range(0, len(pixels), BATCH_SIZE):
                part = slice(start, start + BATCH_SIZE)
                images = card.normalize(pixels[part], info.mean, info.std)
                yield images, pixels[part] if facts["raw_input"] else images, None if labels is None else labels[part]
                advance(len(images))

    plan = make_plan(trained, facts["folded"], facts["raw_input"])
    sections = ()
    if tflite is not None:
        from onebnet_jax.export import parity  # TensorFlow takes seconds to import

        sections = parity.compare(trained, plan, card.normalize(first[0][:PARITY_IMAGES], info.mean, info.std))
    return dataclasses.replace(agreement.compare(trained, plan, tflite, prepared(), engine), sections=sections)


def same_source(path, facts: dict) -> Engine:
    """The native engine's file in `path`. Raises UserError if it is not of the network and options of `facts`."""
    engine = Engine(path)
    ours, theirs = (_made_of(each) for each in (facts, engine.card))
    for name in ours | theirs:
        mine, its = ours.get(name), theirs.get(name)
        if mine != its:
            raise UserError(
                f"{path} and the .tflite file differ in {name}, {its} and {mine}: convert both by one command."
            )
    return engine


def _made_of(facts: dict) -> dict:
    """What a card says of the network and the options that its file was made of, wherever its run lies now."""
    options = {name: facts.get(name) for name in ("folded", "raw_input")}
    return {name: value for name, value in facts.get("source", {}).items() if name != "workdir"} | options


def describe(report, units: bool = False) -> list[str | Table]:
    """A report as tables, those of every unit too if asked for, and the verdict in words at the end."""
    rows = [["", "Top-1", "equal predictions", "max diff", "mean diff", "images with flip", "unexplained"]]
    compared = report, *report.others.values()
    shares = ["-" if each.correct is None else f"{100 * each.correct / report.images:.2f} %" for each in compared]
    rows.append(["JAX", shares[0], *["-"] * 5])
    for name, share, other in zip(report.others, shares[1:], compared[1:]):
        cells = [name, share, f"{other.equal_predictions} of {report.images}", f"{other.max_difference:.2e}"]
        rows.append([*cells, f"{other.mean_difference:.2e}", str(other.images_with_flips), str(len(other.unexplained))])
    parts = [f"{report.images} images, logits up to {report.max_logit:.4g}", rows]
    if units:
        parts.append(
            "Flips are signs that differ from JAX's. first: those in images without a flip in an earlier unit; margin: "
            "the largest\ndistance of a flip from its threshold, as a share of the RMS of all distances of the unit."
        )
        columns = [(f"{name} flips", "margin", "first", "margin") for name in report.others]
        rows = [["unit", "signs", *itertools.chain(*columns)]]
        for units in zip(*(other.units for other in report.others.values())):
            cells = [units[0].name, str(units[0].signs)]
            for unit in units:
                cells += [str(unit.flips), f"{unit.margin:.1e}", str(unit.first_flips), f"{unit.first_margin:.1e}"]
            rows.append(cells)
        parts.append(rows)
    if units and report.sections:
        rows = [["section alone, on JAX's input", "flips", "margin", "output max diff", "output max"]]
        for section in report.sections:
            cells = [section.name, str(section.flips), f"{section.margin:.1e}"]
            rows.append([*cells, f"{section.max_difference:.1e}", f"{section.max_output:.4g}"])
        parts.append(rows)
    return [*parts, _verdict(report)]


def _verdict(report) -> str:
    lines, problems = [], []
    if report.engine_missing:
        lines.append(f"Without the native engine: {report.engine_missing}")
    for name, other in report.others.items():
        for index, unit, margin in other.differing[:SHOWN]:
            where = f"first flip in {unit}, margin {margin:.1e}" if unit else "no flip"
            lines.append(f"{name} predicts another class for image {index}: {where}")
        if (more := len(other.differing) - SHOWN) > 0:
            lines.append(f"{name} predicts another class for {more} more images")
    if report.conversion_difference:
        problems.append(
            f"The file's logits differ by {report.conversion_difference:.2e} from those of a new conversion: it is not "
            "what this version makes of this checkpoint."
        )
    images = sorted({*itertools.chain(*(other.unexplained for other in report.others.values()))})
    if images:
        more = f" and {len(images) - SHOWN} more" if len(images) > SHOWN else ""
        problems.append(f"NOT explained by float rounding: images {images[:SHOWN]}{more}")
    sections = [section.name for section in report.sections if not section.explained]
    if sections:
        problems.append(f"NOT explained by float rounding: LCE's output of {', '.join(sections)} alone, on JAX's input")
    if not problems:
        without = {name: report.images - other.images_with_flips for name, other in report.others.items()}
        problems = [
            "Every difference is explained: it is rounding, or begins with a value within rounding of its threshold.\n"
            f"Of {report.images} images, {', '.join(f'{n} have no flip in {name}' for name, n in without.items())}; "
            "their logits agree within rounding."
        ]
    return "\n".join(lines + problems)
