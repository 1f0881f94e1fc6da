"""The paper's Figures 1, 2 and 4, drawn from a network's list of units. Pure functions that make matplotlib figures."""

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from onebnet_jax.networks.structure import Placed, Structure, placed

# Light tints of Okabe and Ito's colours, with words in every box: colour never is all that tells two kinds apart.
COLOURS = {"float": "#fbe3b0", "binary": "#bfe0f2", "element": "#eceef1", "map": "#ffffff", "shortcut": "#c9ebdf"}
LINE = "#40464f"
PER_ROW = 8  # units in a row of `network`


def place(panels: Sequence[tuple[str, Sequence[Placed]]]) -> Figure:
    """Figures 1 and 2: panels of (title, the units of a place in order), a unit to a row, drawn from left to right."""
    rows = sum(len(units) for _, units in panels)
    figure = Figure(figsize=(11.5, 1.75 * rows + 0.45 * len(panels)), layout="constrained")
    axes = figure.add_subplot()
    y, longest = 0.0, 0.0
    for title, units in panels:
        axes.text(-0.5, y + 0.82, title, fontsize=11, fontweight="bold", va="bottom")
        y -= 0.35
        for number, unit in enumerate(units):
            longest = max(longest, _unit(axes, unit, y, "from above" if number else "input"))
            y -= 1.75
        y -= 0.1
    axes.set(xlim=(-0.7, longest + 0.7), ylim=(y + 1.35, 1.2))
    axes.set_axis_off()
    return figure


def _unit(axes, at: Placed, y: float, begins: str) -> float:
    """One unit from its input to its output at height y; where it ends."""
    boxes = [(f"{begins}\n{_size(at.input)}", "map"), *_steps(at)]
    boxes.append((f"output\n{_size(at.output)}", "map"))
    gap = 1.3
    for index, (text, kind) in enumerate(boxes):
        _box(axes, index * gap, y, text, kind)
        if index:
            _arrow(axes, ((index - 1) * gap + _half(boxes[index - 1][1]), y), (index * gap - _half(kind), y))
    if at.shortcut:
        plus = next(index for index, (_, kind) in enumerate(boxes) if kind == "add") * gap
        above = y + 0.78
        if at.unit.span > 1:  # begins where the unit before this one does
            _box(axes, 0, above, f"input above\n{_size(at.shortcut.input)}", "map")
        else:
            axes.plot([0, 0], [y + 0.3, above], color=LINE, linewidth=1)
        axes.plot([0, plus], [above, above], color=LINE, linewidth=1, zorder=0)
        _arrow(axes, (plus, above), (plus, y + 0.17))
        steps = _shortcut(at)
        for index, text in enumerate(steps):
            _box(axes, plus * (index + 1) / (len(steps) + 1), above, text, "shortcut")
        if not steps:
            axes.text(plus / 2, above + 0.04, "shortcut: the input itself", fontsize=8, ha="center", va="bottom")
    return (len(boxes) - 1) * gap


def _steps(at: Placed) -> list[tuple[str, str]]:
    """(text, kind) of all that a unit does, in order; "add" is the shortcut's end."""
    unit, steps = at.unit, []
    if unit.norm == "before":
        steps.append(("batch\nnorm", "element"))
    if unit.shift:
        steps.append(("learnable\nbias  $x-\\alpha$", "element"))
    if unit.binary:
        steps.append(("sign\n$\\pm 1$", "binary"))
    stride = "" if unit.strides == (1, 1) else f"\nstrides {unit.strides[0]}, {unit.strides[1]}"
    kind = "binary" if unit.binary else "float"
    steps.append((f"{kind} conv {_kernel(at)}{stride}\n{unit.in_channels} to {unit.out_channels}", kind))
    if unit.gate:
        steps.append((f"times a gate\n0 to 1, from\n{unit.gate} channels", "float"))
    names = {"rprelu": "RPReLU", "prelu": "PReLU", "relu": "ReLU"}
    activation = [(names.get(unit.activation, unit.activation), "element")] if unit.activation != "none" else []
    add = [("+", "add")] if at.shortcut else []
    if unit.norm == "after":
        return [*steps, ("batch\nnorm", "element"), *add, *activation]
    return [*steps, *activation, *add]


def _shortcut(at: Placed) -> list[str]:
    """What a shortcut does on its way."""
    shortcut, steps = at.shortcut, []
    if shortcut.pool != (1, 1):
        steps.append(f"average pool\n{shortcut.pool[0]}x{shortcut.pool[1]}")
    if shortcut.projects:
        strides = "" if shortcut.strides == (1, 1) else f"\nstrides {shortcut.strides[0]}, {shortcut.strides[1]}"
        steps += [f"float conv 1x1{strides}\n{shortcut.input[2]} to {at.unit.out_channels}", "batch\nnorm"]
    if shortcut.repeats > 1:
        steps.append(f"channels\n{shortcut.repeats} times")
    return steps


def network(structure: Structure, image_shape: tuple[int, int, int]) -> Figure:
    """Figure 4: all units of a network, a stage or less to a row, with the sizes of their maps below."""
    places = list(placed(structure, image_shape))
    rows = []
    for at in places:
        if not rows or len(rows[-1]) == PER_ROW or at.unit.stage != rows[-1][-1].unit.stage:
            rows.append([])
        rows[-1].append(at)
    figure = Figure(figsize=(11.5, 1.25 * (len(rows) + 1) + 0.3), layout="constrained")
    axes = figure.add_subplot()
    axes.text(-0.8, 0.75, f"{structure.title}; below each unit: channels x height x width", fontsize=11)
    gap, down = 1.35, 1.45
    for number, row in enumerate(rows):
        y = -down * number
        stage = f"stage\n{row[0].unit.stage}" if row[0].unit.stage else "stem"
        axes.text(-0.8, y, stage, fontsize=9, va="center", ha="center")
        for index, at in enumerate(row):
            unit, x = at.unit, index * gap + 0.4
            text = f"{_kernel(at)}\n{unit.in_channels} to {unit.out_channels}"
            if unit.strides != (1, 1):
                text += f"\n/ {unit.strides[0]}, {unit.strides[1]}"
            _box(axes, x, y, text, "binary" if unit.binary else "float")
            axes.text(x, y - 0.43, _size(at.convolved), fontsize=8, ha="center", va="center")
            if index:
                _arrow(axes, (x - gap + _half("binary"), y), (x - _half("binary"), y))
            if at.shortcut:
                _arc(axes, x, y, gap * at.unit.span, bool(at.shortcut.projects))
            if unit.max_pool:
                _box(axes, x + gap, y, "max pool\n3x3 / 2, 2", "element")
                axes.text(x + gap, y - 0.43, _size(at.output), fontsize=8, ha="center", va="center")
                _arrow(axes, (x + _half("binary"), y), (x + gap - _half("binary"), y))
    last, y = places[-1], -down * len(rows)
    axes.text(-0.8, y, "head", fontsize=9, va="center", ha="center")
    _box(axes, 0.4, y, "average pool\nto 1x1", "element")
    _box(axes, 0.4 + gap, y, f"float FC\n{last.output[2]} to {structure.num_classes}", "float")
    _arrow(axes, (0.4 + _half("element"), y), (0.4 + gap - _half("float"), y))
    words = (("binary", "binarized convolution"), ("float", "float layer"), ("element", "without weights"))
    for index, (kind, text) in enumerate(words):
        x = 3.6 + 2.6 * index
        axes.add_patch(FancyBboxPatch((x, y + 0.1), 0.2, 0.2, boxstyle="round,pad=0.04", fc=COLOURS[kind], ec=LINE))
        axes.text(x + 0.35, y + 0.2, text, fontsize=9, va="center")
    text = "arcs: shortcuts; thick green ones have a 1x1 convolution. / 2, 1: strides of rows and columns"
    axes.text(3.6, y - 0.2, text, fontsize=9, va="center")
    axes.set(xlim=(-1.2, PER_ROW * gap + 0.2), ylim=(y - 0.5, 1.0))
    axes.set_axis_off()
    return figure


def _arc(axes, x: float, y: float, length: float, projects: bool) -> None:
    """A shortcut that ends behind the unit at x and begins `length` before."""
    colour, width = ("#009e73", 1.8) if projects else (LINE, 0.9)
    options = dict(arrowstyle="-|>", mutation_scale=8, color=colour, linewidth=width)
    start, end = (x + 0.65 - length, y + 0.04), (x + 0.62, y + 0.04)
    style = f"arc3,rad={-0.95 / length:.2f}"
    axes.add_patch(FancyArrowPatch(start, end, connectionstyle=style, shrinkA=0, shrinkB=0, **options))


def _half(kind: str) -> float:
    """Half the width of a box."""
    return 0.16 if kind == "add" else 0.5


def _box(axes, x: float, y: float, text: str, kind: str) -> None:
    if kind == "add":
        axes.plot(x, y, "o", markersize=17, color="white", markeredgecolor=LINE)
    else:
        half, tall, style = _half(kind), 0.3, "round,pad=0,rounding_size=0.06"
        box = FancyBboxPatch((x - half, y - tall), 2 * half, 2 * tall, boxstyle=style, fc=COLOURS[kind], ec=LINE)
        axes.add_patch(box)
    axes.text(x, y, text, fontsize=8, ha="center", va="center")


def _arrow(axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    options = dict(arrowstyle="-|>", mutation_scale=9, shrinkA=0, shrinkB=0, color=LINE, linewidth=1)
    axes.add_patch(FancyArrowPatch(start, end, **options))


def _kernel(at: Placed) -> str:
    return f"{at.unit.kernel[0]}x{at.unit.kernel[1]}"


def _size(shape: tuple[int, int, int]) -> str:
    height, width, channels = shape
    return f"{channels}x{height}x{width}"
