"""Tables of what networks cost."""

import dataclasses
from collections.abc import Sequence

from onebnet_jax.errors import UserError
from onebnet_jax.networks import cost, families
from onebnet_jax.networks.structure import Shape, Structure
from onebnet_jax.paper import latency, numbers
from onebnet_jax.tables import Table

UNIT_COUNTS = ("FLOPs (M)", "BOPs (M)", "OPs (M)", "Pi 4 naive (ms)")


@dataclasses.dataclass(frozen=True)
class Entry:
    """A network to count."""

    name: str  # of its config, or of its row in Table 1
    structure: Structure
    image_shape: Shape  # (H, W, C)
    binarized: bool = True  # whether its convolutions are; not those of an FP32 network, or of a stage without
    measured_ms: float | None = None  # the latency that the paper measured, if it did
    weight_scale: str = ""  # see `cost.layers`

    def layers(self, folded: bool = False) -> tuple[cost.LayerCost, ...]:
        return cost.layers(self.structure, self.image_shape, self.binarized, folded, self.weight_scale)

    def total(self, folded: bool = False) -> cost.Cost:
        return cost.total(self.layers(folded))

    def estimates(self) -> tuple[float, float, float]:
        """Estimated ms on the Pi 4: the naive graph, then the least and the most that a folded one takes."""
        naive, folded = self.total(), self.total(folded=True)
        family = dict(self.structure.recipe).get("family", "onebnet")
        saves_least, saves_most = latency.folding_saves(naive, folded, family)
        milliseconds = latency.estimate(naive, family)
        return milliseconds, milliseconds - saves_most, milliseconds - saves_least


def summary(entries: Sequence[Entry]) -> Table:
    """One row for each network."""
    header = ["network", "input", "parameters", "float MACs (M)", "binary MACs (M)", "OPs (M)", "storage (MiB)"]
    measured = any(entry.measured_ms is not None for entry in entries)
    rows = [[*header, "Pi 4 naive (ms)", "Pi 4 folded (ms)", *["paper (ms)"] * measured]]
    for entry in entries:
        counts = entry.total()
        naive, least, most = entry.estimates()
        row = [entry.name, "x".join(map(str, entry.image_shape)), f"{counts.parameters:,}"]
        row += [f"{count / 1e6:,.1f}" for count in (counts.float_macs, counts.binary_macs, counts.ops)]
        folded = f"{least:.1f} to {most:.1f}" if least < most else f"{most:.1f}"
        row += [f"{counts.storage_mib:.3f}", f"{naive:.1f}", folded]
        rows.append(row + ["" if entry.measured_ms is None else f"{entry.measured_ms:.1f}"] * measured)
    return rows


def layer_table(entry: Entry) -> Table:
    """One row for each layer of the naive graph."""
    rows = [["layer", "kind", "output", "parameters", "float MACs", "binary MACs", "storage (bytes)", "element passes"]]
    for layer in entry.layers():
        counts = (layer.parameters, layer.float_macs, layer.binary_macs, layer.storage_bits / 8, layer.elements)
        cells = (f"{count:,.0f}" if count else "-" for count in counts)
        rows.append([layer.name, layer.kind, "x".join(map(str, layer.output)), *cells])
    return rows


def unit_table(entry: Entry) -> Table:
    """Each stage's 3x3 places as one 2-D unit and as two 1-D units (Figure 5); a cell gives the one -> the other.

    Raises UserError for a network that is no OneBNet.
    """
    rows = []
    for stage, place, values in unit_counts(entry):
        rows.append([str(stage), place, *(" -> ".join(f"{x:.2f}" for x in pair) for pair in values.values())])
    return [["stage", "place", *UNIT_COUNTS], *rows]


def unit_counts(entry: Entry) -> list[tuple[int, str, dict[str, tuple[float, float]]]]:
    """(stage, place, {quantity: (as one 2-D unit, as two 1-D units)}); the quantities are UNIT_COUNTS.

    Counts as Figure 5 does, a multiplication and an addition separately: BOPs = 2 x binary MACs, FLOPs = 2 x float
    MACs + element passes, OPs = FLOPs + BOPs / 64. Raises UserError for a network that is no OneBNet.
    """
    recipe = dict(entry.structure.recipe)
    if recipe["family"] != "onebnet" or not entry.binarized:
        raise UserError(
            f"--units and figure 5 compare binarized convolutions of OneBNets; {entry.name} has none: leave it out."
        )
    versions = [cost.layers(version, entry.image_shape) for version in two_versions(entry.structure)]
    rows = []
    for index, stage in enumerate(families.stages(recipe["depth"])[0], start=1):
        for suffix, place in (("conv1", "downsampling"), ("conv2", "convolution"))[index == 1 :]:
            prefix = f"stage{index}_block1_{suffix}"
            pair = [cost.total(layer for layer in version if layer.name.startswith(prefix)) for version in versions]
            flops = [2 * counts.float_macs + counts.elements for counts in pair]
            bops = [2 * counts.binary_macs for counts in pair]
            ops = [flop + bop / 64 for flop, bop in zip(flops, bops)]
            counted = [tuple(value / 1e6 for value in values) for values in (flops, bops, ops)]
            counted.append(tuple(latency.estimate(counts) for counts in pair))
            rows.append((stage, place, dict(zip(UNIT_COUNTS, counted))))
    return rows


def two_versions(structure: Structure) -> tuple[Structure, Structure]:
    """A OneBNet with 2-D units alone, and with 1-D units alone."""
    recipe = dict(structure.recipe)
    stages, _ = families.stages(recipe["depth"])
    choices = (((), ()), (stages, stages[1:]))
    return tuple(families.build(**recipe | {"conv_1d": conv, "ds_1d": ds}) for conv, ds in choices)


def rate_table() -> Table:
    """The three rates of the fit with their standard errors."""
    fit = latency.fit()
    work = ("1e9 binary MACs", "1e9 float MACs", "1e6 element passes")
    lines = zip(work, fit.rates, fit.standard_errors, 1e3 / fit.rates * (1, 1, 1e-3))
    header = ["work", "ms", "standard error", "1e9 per second"]
    return [header, *([name, *(f"{cell:.2f}" for cell in cells)] for name, *cells in lines)]


def residual_table() -> Table:
    """Table 1, then networks that are no OneBNets: measured, estimated, and the difference with and without the row."""
    fit = latency.fit()
    rows = [["network", "measured (ms)", "estimated (ms)", "difference (ms)", "left out of the fit (ms)"]]
    for row, residual, left_out in zip(numbers.TABLE1, fit.residuals, fit.left_out):
        cells = (f"{row.latency_ms:.1f}", f"{row.latency_ms - residual:.1f}", f"{residual:+.2f}", f"{left_out:+.2f}")
        rows.append([row.label, *cells])
    rms = (f"{(errors**2).mean() ** 0.5:.2f}" for errors in (fit.residuals, fit.left_out))
    rows.append(["rms of the twelve", "", "", *rms])
    for name, (estimated, measured) in latency.checks().items():
        cells = (f"{measured:.1f}", f"{estimated:.1f}", "", f"{measured - estimated:+.2f}")
        rows.append([f"{name} (not in the fit)", *cells])
    return rows


def notes() -> str:
    """What a reader of the tables must know."""
    fit = latency.fit()
    others = (f"{name} {value:.1f} ({truth:.1f})" for name, (value, truth) in latency.checks().items())
    return (
        "Pi 4: an estimate for one thread of a Raspberry Pi 4 running Larq Compute Engine, not a measurement; naive: "
        "the graph as trained.\n"
        "Fitted to the paper's Table 1 (ResNet18 at 224x224), which it gives back within "
        f"{abs(fit.residuals).max():.1f} ms. Other networks are\n"
        "estimated from Bi-RealNet on, which was measured; in ms, and in brackets what the paper measured:\n"
        f"{', '.join(others)}.\n"
        "onebnet_jax/paper/latency.py says why, and why folding is a range."
    )
