"""Draws README's picture from what lies in this folder and in results/: docs/pictures/overview.png

    .venv/bin/python docs/make_pictures.py

The units and their weights are those of results/fashionmnist_conv64_ds64, which has 1-D units where maps keep their
size; sizes, times and scores those of docs/measure.py; the agreement that of
results/fashionmnist_ds32_64/agreement.txt; the paper's figures are from its Table 3.
"""

import json
import re
import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle

sys.path.insert(0, str(Path(__file__).parents[1]))
from onebnet_jax.paper import numbers
from onebnet_jax.runs import trained

ROOT = Path(__file__).parents[1]
RUN = ROOT / "results" / "fashionmnist_ds32_64"
UNITS = ROOT / "results" / "fashionmnist_conv64_ds64"
PHOTOS = ROOT / "results" / "imagenette64" / "scratch"
OUTPUT = ROOT / "docs" / "pictures" / "overview.png"
GREY, BLUE, TEAL, INK, PALE = "#9aa0a6", "#4a7fb5", "#00897b", "#202124", "#e8eaed"
PAPER = {"FP32 ResNet18": GREY, "TypeII": TEAL}
EPOCHS = json.loads((PHOTOS / "config.json").read_text())["train"]["epochs"]
NAMES = {  # of measured.json: (label, colour, where its words stand)
    "ResNet10 FP32, TFLite + XNNPACK": ("FP32", GREY, (0, -46)),
    "ResNet10 int8, TFLite + XNNPACK": ("int8", BLUE, (0, 10)),
    "imagenette64/scratch, native engine": ("1 bit", TEAL, (4, -44)),
}
PROGRAMS = {"FP32": "FP32\nTFLite", "int8": "int8\nTFLite", "1 bit": "1 bit\nour engine"}


def draw_units(axes) -> None:
    """A unit with a 3x3 kernel, and the two that take its place, each with a kernel as it was trained."""
    network = trained.load(UNITS)
    units = {unit.name: unit for unit in network.structure.units}
    rows = {
        "before": (GREY, ["stage2_block2_conv1"]),
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
            axes.text(x + 5.6, y, "BN\n+ shortcut\nRPReLU", ha="center", va="center", fontsize=9, color=INK)
            for start, end in ((-1.0, -0.1), (3.1, 4.0), (7.2, 8.1)):
                arrow = FancyArrowPatch((x + start, y), (x + end, y), arrowstyle="-|>", mutation_scale=9, color=GREY)
                axes.add_patch(arrow)
    words = "black: +1, white: -1, as trained; one input and one output channel of many"
    axes.text(6, -3.6, words, ha="center", fontsize=9, color=GREY)
    axes.set(xlim=(-6.2, 17.3), ylim=(-4, 7), title="OneBNet: a 3×3 unit becomes a 3×1 and a 1×3 unit")
    axes.set_aspect("equal")
    axes.axis("off")


def draw_sizes(ours, theirs, measured: dict) -> None:
    """Accuracy against size: of what was trained here, and of the paper's figures, which are of other images."""
    style = dict(textcoords="offset points", ha="center", weight="bold", fontsize=9)
    for name, (label, colour, place) in NAMES.items():
        mib, top1 = measured["networks"][name]["bytes"] / 2**20, measured["networks"][name]["top1"]
        ours.plot(mib, top1, "o", markersize=11, color=colour)
        ours.annotate(f"{label}\n{top1:.1f} %\n{mib:.2g} MiB", (mib, top1), place, color=colour, **style)
    for label, colour in PAPER.items():
        mib, _, top1 = numbers.TABLE3[label]
        theirs.plot(mib, top1, "o", markersize=11, color=colour)
        theirs.annotate(
            f"{label.replace(' ', chr(10))}\n{top1} %\n{mib:.2g} MiB",
            (mib, top1),
            (0, -14),
            color=colour,
            va="top",
            **style,
        )
    ours.set(
        xlim=(0.25, 20), ylim=(69, 79), ylabel="Top-1 (%)", title=f"Ours: Imagenette,\n64x64, {EPOCHS} epochs each"
    )
    theirs.set(xlim=(1.5, 220), ylim=(62, 72), title="The paper's:\nImageNet, 224x224")
    for axes, ticks in ((ours, (0.5, 1, 2, 5, 10)), (theirs, (2, 5, 10, 20, 50))):
        axes.set(xscale="log", xlabel="file (MiB, log scale)")
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()


def draw_times(axes, measured: dict) -> None:
    """Milliseconds of an image, batch 1, one thread."""
    bars = [(PROGRAMS[label], measured["networks"][name]["ms"], colour) for name, (label, colour, _) in NAMES.items()]
    for y, (_, ms, colour) in enumerate(reversed(bars)):
        axes.barh(y, ms, color=colour, height=0.62)
        axes.text(ms, y, f"  {ms:.2f} ms", va="center", color=colour, weight="bold")
    axes.set_yticks(range(len(bars)), [label for label, *_ in reversed(bars)])
    axes.set(xlim=(0, 1.25 * max(ms for _, ms, _ in bars)), xticks=[])
    axes.set_title("Ours on Imagenette: one image, one x86 core with AMX")


def draw_agreement(axes) -> None:
    """How many predictions of each program equal those of training."""
    text = (RUN / "agreement.txt").read_text()
    rows = re.findall(r"^(JAX|Keras|LCE|engine) +([\d.]+) % +(\d+ of \d+|-)", text, re.MULTILINE)
    titles = {"JAX": "trained in JAX", "Keras": "Keras + Larq", "LCE": "Larq Compute Engine", "engine": "our engine"}
    for y, (name, top1, equal) in enumerate(reversed(rows)):
        axes.add_patch(Rectangle((0, y - 0.38), 1, 0.76, facecolor=TEAL if name == "engine" else PALE))
        colour = "white" if name == "engine" else INK
        axes.text(0.03, y, titles[name], va="center", color=colour)
        axes.text(0.68, y, f"{float(top1):.2f} %", va="center", ha="right", color=colour, weight="bold")
        if equal != "-":
            same, _ = equal.split(" of ")
            axes.text(0.97, y, f"{int(same):,} equal", va="center", ha="right", color=colour)
    title = "1-bit ResNet20, FashionMNIST:\nanswers to 10,000 test images"
    axes.set(xlim=(0, 1), ylim=(-0.5, len(rows) - 0.5), title=title)
    axes.axis("off")


def main() -> None:
    measured = json.loads((ROOT / "docs" / "pictures" / "measured.json").read_text())
    figure = Figure(figsize=(10.6, 6.8), layout="constrained", facecolor="white")
    grid = figure.add_gridspec(2, 4, width_ratios=(1.25, 1.25, 1, 1))
    units, times, agreement = (figure.add_subplot(grid[place]) for place in (np.s_[0, :2], np.s_[1, :2], np.s_[1, 2:]))
    ours, theirs = (figure.add_subplot(grid[0, column]) for column in (2, 3))
    draw_units(units)
    draw_sizes(ours, theirs, measured)
    draw_times(times, measured)
    draw_agreement(agreement)
    for axes in figure.axes:
        axes.title.set(weight="bold", fontsize=12 if axes not in (ours, theirs) else 10)
        for side in ("top", "right", *(("bottom", "left") if axes is times else ())):
            axes.spines[side].set_visible(False)
    figure.get_layout_engine().set(w_pad=0.15, h_pad=0.12)
    figure.savefig(OUTPUT, dpi=150)


if __name__ == "__main__":
    main()
