"""The paper's Table 5 beside the layers that the list of units has."""

from onebnet_jax.networks import families
from onebnet_jax.networks.structure import Shape, Structure, Unit, placed
from onebnet_jax.paper import numbers
from onebnet_jax.paper.sections import Section


def section() -> Section:
    rows = []
    for name, paper in numbers.TABLE5.items():
        stages = dict(conv_1d=paper.widths, ds_1d=paper.widths[1:])
        structure = families.build("onebnet", depth=paper.depth, stem=paper.stem, num_classes=paper.classes, **stages)
        size = 224 if paper.stem == "imagenet" else 32
        printed = [(paper.kernel, paper.sizes[0])]
        for width, behind in zip(paper.widths, paper.sizes[1:]):
            printed.append((f"[3x1, {width}; 1x3, {width}; 3x1, {width}; 1x3, {width}] x {paper.blocks}", behind))
        printed.append((f"FC {paper.classes}", 1))
        counted = _layers(structure, (size, size, 3))
        for number, ((theirs, at), (ours, height)) in enumerate(zip(printed, counted), start=1):
            layer = f"Conv{number}{'_x' * (number > 1)}" if number < len(printed) else "head"
            same = "yes" if (theirs, at) == (ours, height) else "NO"
            rows.append([name, layer, f"{at}x{at}", f"{height}x{height}", theirs, ours, same])
    header = ["network", "layer", "output, paper", "output, counted", "layers, paper", "layers, counted", "same"]
    agree = sum(row[-1] == "yes" for row in rows)
    return Section(
        "Table 5",
        "The architecture with 1-D convolutions everywhere",
        f"{agree} of {len(rows)} rows are the same, layer by layer.",
        [header, *rows],
        ("", "", "paper", "counted", "paper", "counted", ""),
        ("The counted columns are read from the list of units that the network is built from.",),
        (("show every layer", "onebnet cost imagenet:TypeII --layers"),),
    )


def _layers(structure: Structure, image_shape: Shape) -> list[tuple[str, int]]:
    """Each stage of a network as Table 5 writes it, with the height behind it: stem, stages, head."""
    places = list(placed(structure, image_shape))
    stem = places[0]
    rows = [(f"{_kernel(stem.unit)}, stride {stem.unit.strides[0]}", stem.convolved[0])]
    for stage in dict.fromkeys(place.unit.stage for place in places[1:]):
        units = [place for place in places if place.unit.stage == stage]
        blocks = dict.fromkeys(place.unit.name.split("_")[1] for place in units)
        texts = {"; ".join(_kernel(p.unit) for p in units if p.unit.name.split("_")[1] == block) for block in blocks}
        rows.append((f"[{' or '.join(sorted(texts))}] x {len(blocks)}", units[-1].output[0]))
    return [*rows, (f"FC {structure.num_classes}", 1)]


def _kernel(unit: Unit) -> str:
    return f"{unit.kernel[0]}x{unit.kernel[1]}, {unit.out_channels}"
