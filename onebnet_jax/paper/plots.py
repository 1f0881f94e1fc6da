"""The paper's Figures 3, 5, 6 and 7, and costs, as matplotlib figures. Pure functions of arrays and numbers."""

from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from onebnet_jax.paper.cost_report import Entry
from onebnet_jax.paper.look import Seen

# Okabe and Ito's colours, which people with any kind of colour blindness can tell apart.
CYCLE = BLUE, RED, GREEN, PINK, ORANGE, SKY, BLACK = (
    *("#0072b2", "#d55e00", "#009e73", "#cc79a7"),
    *("#e69f00", "#56b4e9", "#000000"),
)
DPI = 110


def distributions(seen: Sequence[Seen]) -> Figure:
    """Figure 3: of each unit, what the learnable bias and RPReLU make of the distribution of their input."""
    steps = [("learnable bias", "input", "shifted"), ("RPReLU", "before", "after")]
    figure = Figure(figsize=(9, 0.6 + 2.6 * len(seen)), layout="constrained")
    grid = figure.subplots(len(seen), 2, squeeze=False)
    for line, unit in zip(grid, seen):
        for axes, (step, before, after) in zip(line, steps):
            pair = getattr(unit, before), getattr(unit, after)
            axes.set_title(f"{unit.name}: {step}", fontsize="medium", loc="left")
            if pair[0] is None:
                axes.text(0.5, 0.5, f"this unit has no {step}", ha="center", transform=axes.transAxes)
                axes.set_axis_off()
                continue
            low = min(np.quantile(values, 0.001) for values in pair)
            high = max(np.quantile(values, 0.999) for values in pair)
            bins = np.linspace(low, high, 81)
            for values, word, style in zip(pair, ("before", "after"), ({"color": SKY, "alpha": 0.6}, {"color": RED})):
                kind = "stepfilled" if word == "before" else "step"
                share = 100 * np.mean(values > 0)
                options = dict(weights=np.full(values.size, 100 / values.size), histtype=kind, **style)
                axes.hist(values.ravel(), bins, label=f"{word} ({share:.0f} % above 0)", **options)
            axes.axvline(0, color=BLACK, linewidth=0.8, linestyle=":")
            axes.set_xlabel("value (all channels, all pixels)")
            axes.set_ylabel("share of values (%)")
            axes.legend(fontsize="small", frameon=False)
    return figure


def computations(rows: Sequence[tuple[int, str, dict[str, tuple[float, float]]]]) -> Figure:
    """Figure 5: rows of (stage, place, {quantity: (as one 2-D unit, as two 1-D units)}), such as "OPs (millions)"."""
    places, quantities = list(dict.fromkeys(row[1] for row in rows)), list(rows[0][2])
    figure = Figure(figsize=(10, 2.9 * len(places)), layout="constrained")
    grid = figure.subplots(len(places), len(quantities), squeeze=False)
    for line, place in zip(grid, places):
        found = [(stage, values) for stage, where, values in rows if where == place]
        at = np.arange(len(found))
        for axes, quantity in zip(line, quantities):
            pairs = np.array([values[quantity] for _, values in found])
            bars = ((-0.2, pairs[:, 0], SKY, "one 3x3 (2-D)"), (0.2, pairs[:, 1], RED, "3x1 and 1x3 (1-D)"))
            for offset, heights, colour, label in bars:
                axes.bar(at + offset, heights, 0.4, color=colour, label=label)
            for x, (before, after) in zip(at, pairs):
                change = f"{100 * (after / before - 1):+.0f} %"
                axes.annotate(change, (x, max(before, after)), ha="center", va="bottom", fontsize="small")
            axes.set_xticks(at, [str(stage) for stage, _ in found])
            axes.set_title(place, fontsize="medium", loc="left")
            axes.set(xlabel="output channels of the stage", ylabel=quantity)
            axes.margins(y=0.16)
    figure.legend(*grid[0][0].get_legend_handles_labels(), loc="outside upper right", ncols=2, frameon=False)
    return figure


def curves(runs: Sequence[tuple[str, Sequence, Sequence, Sequence[int]]]) -> Figure:
    """Figure 6: runs of (name, test, train, epochs after which another stage begins).

    test and train are sequences of (epoch, Top-1 in percent), the epochs counted through all stages.
    """
    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.add_subplot(xlabel="epoch", ylabel="Top-1 (%), dashed: while training")
    for index, (name, test, train, changes) in enumerate(runs):
        colour = CYCLE[index % len(CYCLE)]
        markers = ".-" if index < len(CYCLE) else "x-"
        test, train = (np.reshape(points, (-1, 2)).T for points in (test, train))
        axes.plot(*test, markers, color=colour, label=name)
        axes.plot(*train, "--", color=colour, linewidth=0.8)
        for epoch in changes:
            axes.axvline(epoch, color=colour, linewidth=0.8, linestyle=":")
    axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper", fontsize="small")
    return figure


DIAGNOSTICS = {
    "flipped": "weights whose sign flipped (%)",
    "in_window": "values within the estimator's window (%)",
    "plus": "signs that are +1 (%)",
    "zero_gradient": "weights without a gradient (%)",
}


def diagnostics(lines: Sequence[dict]) -> Figure:
    """What `training.diagnostics` wrote, by epoch: lines of a metrics.jsonl, a curve a unit, the first darkest."""
    figure = Figure(figsize=(11, 6.5), layout="constrained")
    units = list(dict.fromkeys(key.partition("/")[2] for line in lines for key in line if "/" in key))
    colours = colormaps["viridis"](np.linspace(0, 0.95, len(units)))
    for axes, (share, words) in zip(figure.subplots(2, 2).ravel(), DIAGNOSTICS.items()):
        for unit, colour in zip(units, colours):
            points = [(line["epoch"], 100 * line[f"{share}/{unit}"]) for line in lines if f"{share}/{unit}" in line]
            axes.plot(*np.reshape(points, (-1, 2)).T, ".-", color=colour, linewidth=1, label=unit)
        axes.set_title(words, fontsize="medium", loc="left")
        axes.set(xlabel="epoch", ylim=(0, max(1.05 * axes.dataLim.ymax, 1)))
        axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        axes.grid(alpha=0.3)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper", fontsize="x-small")
    return figure


def activations(image: np.ndarray, title: str, seen: Sequence[Seen], channels: int = 8) -> Figure:
    """Figure 7: an image [H, W, C] uint8, and of units that saw it alone the signs and the convolution's results.

    Of each unit the channels that vary most: signs whose share of +1 is nearest to a half, results of the largest
    standard deviation.
    """
    rows = []
    for unit in seen:
        signs, results = np.where(unit.shifted[0] > 0, 1.0, -1.0), unit.convolved[0]
        rows.append((f"{unit.name}: signs", signs, np.argsort(abs(signs.mean((0, 1)))), "gray"))
        rows.append((f"{unit.name}: results of the convolution", results, np.argsort(-results.std((0, 1))), "cividis"))
    heights = [0.45 + maps.shape[0] / maps.shape[1] for _, maps, *_ in rows]
    figure = Figure(figsize=(2.2 + 1.0 * channels, 1.05 * sum(heights)), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(2.0, channels))
    axes = left.add_subplot()
    axes.imshow(image.squeeze(), cmap="gray" if image.shape[-1] == 1 else None, interpolation="nearest")
    axes.set_title(title, fontsize="medium")
    axes.set_axis_off()
    for part, (name, maps, order, colours) in zip(
        np.ravel(right.subfigures(len(rows), 1, height_ratios=heights)), rows
    ):
        part.suptitle(f"{name}, {maps.shape[0]}x{maps.shape[1]}", fontsize="small", x=0.01, ha="left")
        grid = part.subplots(1, channels)
        for axes in grid[len(order) :]:
            axes.set_axis_off()
        for axes, channel in zip(grid, order):
            axes.imshow(maps[..., channel], cmap=colours, interpolation="nearest")
            axes.set_xticks([])
            axes.set_yticks([])
            axes.set_xlabel(f"channel {channel}", fontsize="x-small", labelpad=1)
    return figure


def costs(entries: Sequence[Entry]) -> Figure:
    """Estimated latency against storage, with what the paper measured."""
    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.add_subplot(xlabel="storage (MiB)", ylabel="Raspberry Pi 4, one thread (ms)")
    storage = [entry.total().storage_mib for entry in entries]
    naive, least, most = zip(*(entry.estimates() for entry in entries))
    axes.vlines(storage, least, most, color=GREEN, label="estimate, folded (range)")
    axes.plot(storage, naive, "o", color=BLUE, label="estimate, naive")
    measured = [(x, entry.measured_ms) for x, entry in zip(storage, entries) if entry.measured_ms is not None]
    if measured:
        axes.plot(*zip(*measured), "x", color=BLACK, label="measured (paper)")
    for number, (entry, x, y) in enumerate(zip(entries, storage, naive), start=1):
        axes.annotate(str(number), (x, y), xytext=(6, 3), textcoords="offset points")
        axes.plot([], [], " ", label=f"{number}  {entry.name}")
    figure.legend(loc="outside right upper", fontsize="small")
    return figure
