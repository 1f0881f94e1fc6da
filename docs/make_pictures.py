"""Draws README's picture from what lies in this folder and in results/: docs/pictures/overview.png

    .venv/bin/python docs/make_pictures.py

The units and their weights are those of results/fashionmnist_conv64_ds64, which has 1-D units where maps keep their
size; sizes, times and scores those of docs/measure.py, and of the table in docs/native_engine.md. The last line is of
results/fashionmnist_ds32_64/agreement.txt.
"""

import json
import re
import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle

sys.path.insert(0, str(Path(__file__).parents[1]))
from onebnet_jax.runs import trained

ROOT = Path(__file__).parents[1]
RUN = ROOT / "results" / "fashionmnist_ds32_64"
UNITS = ROOT / "results" / "fashionmnist_conv64_ds64"
OUTPUT = ROOT / "docs" / "pictures" / "overview.png"
GREY, BLUE, TEAL, INK = "#9aa0a6", "#4a7fb5", "#00897b", "#202124"
PUBLISHED = {  # the rows of the table in native_engine.md that have a published score, each by its fastest runtime
    "TypeII, native engine": ("1 bit: OneBNet18", TEAL, (14, -12)),
    "ResNet18 FP32, ONNX Runtime": ("ResNet18", GREY, (14, -12)),
    "ResNet18 int8, OpenVINO": ("ResNet18", BLUE, (-14, 34)),
    "MobileNetV2 FP32, TFLite + XNNPACK": ("MobileNetV2", GREY, (44, 8)),
    "MobileNetV2 int8, OpenVINO": ("MobileNetV2", BLUE, (-34, -12)),
    "MobileNetV3-Small FP32, TFLite + XNNPACK": ("MobileNetV3-\nSmall", GREY, (0, -12)),
}
KINDS = {  # of measured.json, at each width: (label, colour, where its words stand, narrowest first)
    "imagenette64/onebit_{}": ("1 bit", TEAL, 3 * [(32, -4)]),
    "imagenette64/fp32_{} int8": ("int8", BLUE, [(36, 3), (-34, 12), (-34, 12)]),
    "imagenette64/fp32_{} FP32": ("FP32", GREY, [(16, -10), (28, -1), (28, -1)]),
}


def draw_units(axes) -> None:
    """A unit with a 3x3 kernel, and the two that take its place, each with a kernel as it was trained."""
    network = trained.load(UNITS)
    units = {unit.name: unit for unit in network.structure.units}
    rows = {
        "usual": (GREY, ["stage2_block2_conv1"]),
        "OneBNet": (TEAL, ["stage3_block2_conv1_3x1", "stage3_block2_conv1_1x3"]),
    }
    for y, (label, (colour, names)) in zip((5.0, 0.0), rows.items()):
        bits = sum(np.prod(units[name].kernel) for name in names)
        words = f"{label}\n{bits} bits\n{len(names)} shortcut{'s' * (len(names) > 1)}"
        axes.text(-1.5, y, words, ha="right", va="center", weight="bold", color=colour)
        for x, name in zip((0.0, 9.0), names):
            module, part = units[name].at("conv")
            kernel = network.variables["params"][module][part]["kernel"][:, :, 0]
            kernel = kernel[..., np.abs(np.sign(kernel).sum((0, 1))).argmin()]  # one with both signs
            height, width = units[name].kernel
            for i, j in np.ndindex(height, width):
                corner = (x + j - width / 2 + 1.5, y - i + height / 2 - 1)
                face = INK if kernel[i, j] > 0 else "white"
                axes.add_patch(Rectangle(corner, 0.94, 0.94, facecolor=face, edgecolor=colour, linewidth=1.6))
            axes.text(x + 1.5, y - 2.1, f"{height}×{width}", ha="center", va="center", fontsize=10)
            axes.text(x + 5.6, y, "BN\n+ shortcut\nRPReLU", ha="center", va="center", fontsize=7.5, color=INK)
            for start, end in ((-1.0, -0.1), (3.1, 4.0), (7.2, 8.1)):
                arrow = FancyArrowPatch((x + start, y), (x + end, y), arrowstyle="-|>", mutation_scale=9, color=GREY)
                axes.add_patch(arrow)
    words = "black: +1, white: -1, as trained; one input and one output channel of many"
    words += "\n3×1 with 1×3 was no more accurate than 3×3 in our runs"
    axes.text(6, -4.6, words, ha="center", fontsize=9, color=GREY)
    axes.set(xlim=(-6.2, 17.3), ylim=(-5, 7), title="OneBNet: 3×3 becomes 3×1 and 1×3")
    axes.set_aspect("equal")
    axes.axis("off")


def draw_scores(ours, published, measured: dict) -> None:
    """Accuracy against time, of networks of several widths that were trained here, and of others' as timed here."""
    style = dict(textcoords="offset points", ha="center", va="top", weight="bold", fontsize=9)

    for pattern, (label, colour, places) in KINDS.items():
        found = [values for name, values in measured.items() if re.fullmatch(pattern.format(r"[\d.]+"), name)]
        times = [min(each["ms"].values()) for each in found]
        ours.plot(times, [each["top1"] for each in found], "o-", markersize=11, color=colour, label=label)
        for each, ms, place in zip(found, times, places, strict=True):
            ours.annotate(f"{each['bytes'] / 2**20:.2g} MiB", (ms, each["top1"]), place, color=colour, **style)
    ours.legend(loc="lower right", frameon=False)
    table = (ROOT / "docs" / "native_engine.md").read_text()
    for name, (label, colour, place) in PUBLISHED.items():
        top1, mib, ms = map(
            float, re.search(rf"^\| {re.escape(name)} \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) ", table, re.M).groups()
        )
        published.plot(ms, top1, "o", markersize=11, color=colour)
        published.annotate(f"{label}\n{mib:.2g} MiB", (ms, top1), place, color=colour, **style)
    title = "Trained here: ResNet10 at three widths,\n10 kinds of photos, 64x64 pixels"
    ours.set(xlim=(0.2, 1.3), ylim=(70, 77), ylabel="images named right (Top-1, %)", title=title)
    title = "Published scores, our times:\nImageNet, 224x224"
    published.set(xlim=(1.1, 140), ylim=(66.5, 72), title=title)
    for axes, cpu, ticks in ((ours, "AMD EPYC", (0.3, 0.5, 0.8)), (published, "Intel Xeon, AVX2", (2, 5, 10, 20, 50))):
        axes.set(xscale="log", xlabel=f"ms for an image on one core ({cpu})")
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()


def agreement() -> str:
    """How many predictions of each program equal those of the trained network, in a line."""
    text = (RUN / "agreement.txt").read_text()
    rows = re.findall(r"^(Keras|LCE|engine) +[\d.]+ % +(\d+) of (\d+)", text, re.MULTILINE)
    names = {"Keras": "Keras", "LCE": "Larq Compute Engine", "engine": "our engine"}
    equal = ", ".join(f"{names[name]} {int(same):,}" for name, same, _ in rows)
    return f"Same answer as the trained network, of {int(rows[0][2]):,} test images of FashionMNIST: {equal}"


def main() -> None:
    measured = json.loads((ROOT / "docs" / "pictures" / "measured.json").read_text())
    figure = Figure(figsize=(14, 4.6), layout="constrained", facecolor="white")
    grid = figure.add_gridspec(1, 3, width_ratios=(1.9, 1.4, 1.6))
    units, ours, published = map(figure.add_subplot, grid)
    draw_units(units)
    draw_scores(ours, published, measured)
    for axes in (units, ours, published):
        axes.title.set(weight="bold", fontsize=10)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    figure.supxlabel(agreement(), fontsize=10, weight="bold", color=TEAL)
    figure.get_layout_engine().set(w_pad=0.15, h_pad=0.12)
    figure.savefig(OUTPUT, dpi=150)


if __name__ == "__main__":
    main()
