"""The report of `agreement` and `unit_parity` as text. Needs no TensorFlow."""

SHOWN = 10  # images in a sentence


def describe(report, parity, title: str) -> str:
    """The report as text.

    Args:
      report: `agreement.Report`.
      parity: list of `unit_parity.UnitParity`.
      title: what was compared.
    """
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
    lines.append(_verdict(report, parity))
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
        if unit.name in keras:  # not the head, nor a unit that takes no sign
            cells = [keras[unit.name].signs]
            for flips in (keras[unit.name], lce[unit.name]):
                cells += [flips.flips, f"{flips.margin:.1e}", flips.first_flips, f"{flips.first_margin:.1e}"]
        lines.append(row(unit.name, *cells, f"{unit.max_difference:.1e}", f"{unit.max_output:.4g}"))
    return lines


def _share(correct: int | None, images: int) -> str:
    return "" if correct is None else f"{100 * correct / images:.2f} %"


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
    units = [unit.name for unit in parity if not unit.explained]
    if units:
        problems.append(f"NOT explained by float rounding: LCE's output of {', '.join(units)} alone, on JAX's input")
    if problems:
        return "\n".join(problems)
    whole = [report.images - other.images_with_flips for other in (report.keras, report.lce)]
    return (
        "Every difference is explained: it is rounding, or begins with a value within rounding of its threshold.\n"
        f"Of {report.images} images, {whole[0]} have no flip in Keras and {whole[1]} none in LCE; their logits agree "
        "within rounding."
    )
