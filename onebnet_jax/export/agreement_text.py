"""The report of `agreement` and `parity` as text. Needs no TensorFlow."""

from onebnet_jax.tables import render

SHOWN = 10  # images in a sentence


def describe(report, parity, title: str) -> str:
    """The report as text.

    Args:
      report: `agreement.Report`.
      parity: list of `parity.Parity`.
      title: what was compared.
    """
    header = ["", "Top-1", "equal predictions", "max diff", "mean diff", "images with flip", "unexplained"]
    rows = [header, ["JAX", _share(report.correct, report.images), *["-"] * 5]]
    for name, other in (("Keras", report.keras), ("LCE", report.lce)):
        cells = [_share(other.correct, report.images), f"{other.equal_predictions} of {report.images}"]
        cells += [f"{other.max_difference:.2e}", f"{other.mean_difference:.2e}"]
        rows.append([name, *cells, str(other.images_with_flips), str(len(other.unexplained))])
    parts = [f"{title}, {report.images} images, logits up to {report.max_logit:.4g}", render(rows)]
    if report.lce.units:
        parts += [
            "Flips are signs that differ from JAX's. first: those in images without a flip in an earlier unit; margin: "
            "the largest\ndistance of a flip from its threshold, as a share of the RMS of all distances of the unit.",
            render(_flip_rows(report)),
        ]
    if parity:
        rows = [["section alone, on JAX's input", "flips", "margin", "output max diff", "output max"]]
        for section in parity:
            numbers = (f"{section.max_difference:.1e}", f"{section.max_output:.4g}")
            rows.append([section.name, str(section.flips), f"{section.margin:.1e}", *numbers])
        parts.append(render(rows))
    lines = []
    for name, other in (("Keras", report.keras), ("LCE", report.lce)):
        for index, unit, margin in other.differing:
            where = f"first flip in {unit}, margin {margin:.1e}" if unit else "no flip"
            lines.append(f"{name} predicts another class for image {index}: {where}")
    return "\n\n".join([*parts, "\n".join([*lines, _verdict(report, parity)])])


def _flip_rows(report) -> list[list[str]]:
    rows = [["unit", "signs"]]
    for name in ("Keras", "LCE"):
        rows[0] += [f"{name} flips", "margin", "first", "margin"]
    for keras, lce in zip(report.keras.units, report.lce.units, strict=True):
        cells = [keras.name, str(keras.signs)]
        for unit in (keras, lce):
            cells += [str(unit.flips), f"{unit.margin:.1e}", str(unit.first_flips), f"{unit.first_margin:.1e}"]
        rows.append(cells)
    return rows


def _share(correct: int | None, images: int) -> str:
    return "-" if correct is None else f"{100 * correct / images:.2f} %"


def _verdict(report, parity) -> str:
    problems = []
    if report.conversion_difference:
        problems.append(
            f"The file's logits differ by {report.conversion_difference:.2e} from those of a new conversion: it is not "
            "what this version makes of this checkpoint."
        )
    images = sorted({*report.keras.unexplained, *report.lce.unexplained})
    if images:
        more = f" and {len(images) - SHOWN} more" if len(images) > SHOWN else ""
        problems.append(f"NOT explained by float rounding: images {images[:SHOWN]}{more}")
    sections = [section.name for section in parity if not section.explained]
    if sections:
        problems.append(f"NOT explained by float rounding: LCE's output of {', '.join(sections)} alone, on JAX's input")
    if problems:
        return "\n".join(problems)
    whole = [report.images - other.images_with_flips for other in (report.keras, report.lce)]
    return (
        "Every difference is explained: it is rounding, or begins with a value within rounding of its threshold.\n"
        f"Of {report.images} images, {whole[0]} have no flip in Keras and {whole[1]} none in LCE; their logits agree "
        "within rounding."
    )
