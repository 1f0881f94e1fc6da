"""The paper's Figures 1 to 7 of any network or run, and their sections in the report."""

import dataclasses
import io
from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image

from onebnet_jax.data.catalog import DATASETS
from onebnet_jax.errors import UserError
from onebnet_jax.networks.structure import Shape, Structure, placed
from onebnet_jax.paper import cost_report, diagrams, latency, look, numbers, plots
from onebnet_jax.paper.sections import NEEDS, Picture, Section
from onebnet_jax.runs.history import History
from onebnet_jax.runs.trained import Trained

IMAGES = 64  # over which Figure 3 takes its distributions


def place(structure: Structure, image_shape: Shape, downsampling: bool, unit: str = "") -> Figure:
    """Figures 1 and 2: a place of a network with or without downsampling; of a OneBNet as a 2-D and as 1-D units.

    unit is how the names of its units begin; "" for the first such place.
    """
    units = [each for each in structure.units if each.binary and each.name.startswith(unit)]
    if not units:
        raise UserError(f"{structure.title} has no binarized unit {unit!r}; figure 4 draws all that it has.")
    strided = [each for each in units if (each.strides != (1, 1)) == downsampling]
    first = (units if unit else strided or units)[0]
    if dict(structure.recipe).get("family") == "onebnet":
        name = first.name.removesuffix("_3x1").removesuffix("_1x3")
        versions = zip(("(a) one 2-D unit", "(b) two 1-D units"), cost_report.two_versions(structure))
        found = ((title, placed(each, image_shape)) for title, each in versions)
        return diagrams.place([(title, [at for at in all_ if at.unit.name.startswith(name)]) for title, all_ in found])
    section = [at for at in placed(structure, image_shape) if at.unit.section == first.section]
    return diagrams.place([(f"{first.section} of {structure.title}", section)])


def curves(runs: Sequence[History]) -> Figure:
    """Figure 6 of runs."""
    names = [run.name for run in runs]
    titles = [run.name if names.count(run.name) == 1 else f"{Path(run.folder).parent.name}/{run.name}" for run in runs]
    staged = [len(run.config.stages) > 1 for run in runs]
    if any(staged) and not all(staged):
        titles = [f"{title}, {'two stages' if two else 'scratch'}" for title, two in zip(titles, staged)]
    return plots.curves(
        [(name, run.curve("test"), run.curve("train"), run.stage_ends) for name, run in zip(titles, runs)]
    )


def diagnostics(run: History) -> Figure:
    """The diagnostics of a run, its epochs counted through all stages. Raises UserError where it wrote none."""
    lines, before = [], 0
    for stage, written in run.lines.items():
        found = (line for line in written if line["split"] == "diagnostics")
        lines += [line | {"epoch": before + line["epoch"]} for line in found]
        before += run.config[stage].epochs
    if not lines:
        raise UserError(f"{run.folder} wrote no diagnostics; train with --config.diagnostics=True in a new --workdir.")
    return plots.diagnostics(lines)


def distributions(trained: Trained, names: Sequence[str], count: int = IMAGES) -> Figure:
    """Figure 3 of units of a trained network, over the first `count` test images."""
    images, _ = look.test_images(trained, range(count))
    return plots.distributions(look.look(trained, images, names))


def activations(trained: Trained, names: Sequence[str], number: int) -> Figure:
    """Figure 7 of units of a trained network, for one test image."""
    images, classes = look.test_images(trained, [number])
    return plots.activations(images[0], f"test image {number}:\n{classes[0]}", look.look(trained, images, names))


def png(figure: Figure) -> bytes:
    """A figure as a PNG file of few bytes: 128 colours."""
    drawn, small = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, dpi=plots.DPI, format="png")
    Image.open(drawn).convert("RGB").quantize(128, dither=Image.Dither.NONE).save(small, format="png", optimize=True)
    return small.getvalue()


# Sections of the report ------------------------------------------------------------------------------------------

EXAMPLE = "TypeII"  # of Table 1, the paper's own example of a network


@dataclasses.dataclass(frozen=True)
class Given:
    """What the figures are of."""

    runs: Sequence[History] = ()
    network: Trained | None = None  # that Figures 3 and 7 look into


def _example() -> tuple[Structure, Shape]:
    return latency.table1_structure(numbers.table1_row(EXAMPLE)), latency.IMAGENET_INPUT


def figure1(given: Given) -> Section:
    return _drawn(
        1,
        "A 3x3 place without downsampling, as one 2-D unit or as a 3x1 and a 1x3 one",
        f"A place without downsampling of {EXAMPLE} at 224x224: one unit (a), or two, each with a bias, a shortcut "
        "and an RPReLU of its own (b). Sizes are channels x height x width.",
        place(*_example(), downsampling=False),
    )


def figure2(given: Given) -> Section:
    return _drawn(
        2,
        "Downsampling, as one 2-D unit or first by rows and then by columns",
        f"A place with downsampling of {EXAMPLE}: the 3x1 unit halves the height and widens the channels, the 1x3 "
        "unit halves the width; each has a pool and a 1x1 float convolution in its shortcut.",
        place(*_example(), downsampling=True),
    )


def _drawn(number: int, title: str, caption: str, figure: Figure, words="draw it of any network") -> Section:
    """The section of a figure that needs no run."""
    command = f"onebnet figure {number} --config=imagenet:{EXAMPLE} --output=figure{number}.png"
    return Section(
        f"Figure {number}",
        title,
        "Drawn from the list of units that the network is built from.",
        commands=((words, command),),
        pictures=(Picture(caption, png(figure)),),
    )


def figure3(given: Given) -> Section:
    title = "Distributions before and after the learnable bias and RPReLU, by rows and by columns"
    command = "onebnet figure 3 --workdir=RUN --unit=stage2_block1_conv1 --output=figure3.png"
    commands = (("draw it of any run", command),)
    if missing := _missing(given.network):
        return Section("Figure 3", title, missing, commands=commands)
    names = look.row_and_column(given.network)
    caption = (
        f"The first {IMAGES} test images in {given.network.title}. Left: what the sign is taken of; the bias moves "
        "each channel by a threshold of its own. Right: RPReLU, whose slope shrinks what lies below its threshold."
    )
    picture = Picture(caption, png(distributions(given.network, names)))
    return Section("Figure 3", title, _measured(given.network), commands=commands, pictures=(picture,))


def figure4(given: Given) -> Section:
    structure, shape = _example()
    caption = f"{EXAMPLE}, all {len(structure.units)} units."
    figure = diagrams.network(structure, shape)
    return _drawn(4, "The architecture based on ResNet18", caption, figure, "draw any network")


def figure5(given: Given) -> Section:
    structure, shape = _example()
    counts = cost_report.unit_counts(cost_report.Entry(EXAMPLE, structure, shape))
    ratios = {(stage, place): values["OPs (M)"][1] / values["OPs (M)"][0] for stage, place, values in counts}
    saved = ", ".join(f"{100 * (1 - ratios[stage, 'convolution']):.0f} % at {stage}" for stage in (64, 256, 512))
    more = min(ratio for (_, place), ratio in ratios.items() if place == "downsampling")
    caption = (
        "One 3x3 place of ResNet18 at 224x224. BOPs are binary operations, FLOPs float ones with every pass over the "
        "elements, OPs = FLOPs + BOPs / 64."
    )
    return Section(
        "Figure 5",
        "What a place costs in 1-D against 2-D",
        f"Without downsampling 1-D saves operations, the more the wider the stage ({saved} channels); "
        f"with downsampling it takes {more:.1f} times as many or more.",
        cost_report.unit_table(cost_report.Entry(EXAMPLE, structure, shape)),
        ("", "", "counted", "counted", "counted", "estimated"),
        ("The paper prints bars without numbers. A cell gives one 3x3 unit -> a 3x1 and a 1x3 one.",),
        (("count it for any OneBNet", "onebnet figure 5 --config=imagenet:TypeII --output=figure5.png"),),
        (Picture(caption, png(plots.computations(counts))),),
    )


def figure6(given: Given) -> Section:
    title = "Training curves, from scratch and in two stages with a teacher"
    commands = (("draw any runs", "onebnet figure 6 --workdir RUN1 RUN2 --output=figure6.png"),)
    pictures, names = [], list(dict.fromkeys(DATASETS[run.config.data.name].title for run in given.runs))
    for name in names:
        runs = [run for run in given.runs if DATASETS[run.config.data.name].title == name]
        staged = [run for run in runs if len(run.config.stages) > 1]
        alike = [_network_and_epochs(run) for run in staged]
        scratch = [
            run for run in runs if run not in staged and not run.config.init and _network_and_epochs(run) in alike
        ]
        # The paper's data sets alone: of folders each may hold other images.
        others = [run for run in runs if run not in (*staged, *scratch) and run.config.data.name != "folder"]
        most = max((len(run.curve("train")) for run in others), default=0)
        longest = [run for run in others if 3 * len(run.curve("train")) >= most][:7]
        beside = (
            "two stages beside as many epochs from scratch of the same network; dotted: where a second stage begins."
        )
        for group, words in ((longest, "the longest runs."), ([*staged, *scratch], beside)):
            if group:
                caption = f"On {name}, {words} Solid: test images; dashed: training images."
                pictures.append(Picture(caption, png(curves(group))))
    verdict = f"Drawn of {len(given.runs)} runs on {' and '.join(names)}. " if pictures else ""
    verdict += "The paper's own curves are of 256 epochs on ImageNet."
    return Section("Figure 6", title, verdict, commands=commands, pictures=tuple(pictures))


def _network_and_epochs(run: History) -> tuple:
    """What a run trains, and for how many epochs in all."""
    return run.config.model, sum(run.config[stage].epochs for stage in run.config.stages)


def figure7(given: Given) -> Section:
    title = "Binarized activations and results of convolutions, as pictures"
    command = "onebnet figure 7 --workdir=RUN --unit=stage1_block1,stage2_block1_conv1 --image=0 --output=figure7.png"
    commands = (("draw it of any run", command),)
    if missing := _missing(given.network):
        return Section("Figure 7", title, missing, commands=commands)
    first = next(unit.name for unit in given.network.structure.units if unit.binary)
    names = list(dict.fromkeys([first, *look.row_and_column(given.network)]))
    caption = (
        f"One test image in {given.network.title}. Black and white: signs, -1 and +1, that go into a convolution; in "
        "colour what comes out. Of each the channels that vary most. Behind the 3x1 unit maps are half as high as wide."
    )
    picture = Picture(caption, png(activations(given.network, names, number=0)))
    return Section("Figure 7", title, _measured(given.network), commands=commands, pictures=(picture,))


def _missing(trained: Trained | None) -> str:
    """What Figures 3 and 7 lack, in words; "" for nothing."""
    if trained is None:
        return NEEDS + "a trained network: none of the runs keeps one."
    try:
        look.test_images(trained, [0])
    except UserError as error:
        return f"{NEEDS}the images that {trained.title} was trained on. {error}"
    return ""


def _measured(trained: Trained) -> str:
    return f"Measured here on {trained.info.title}; the paper's own are of ImageNet."


FIGURES: dict[str, Callable[[Given], Section]] = {
    f"Figure {number}": make
    for number, make in enumerate((figure1, figure2, figure3, figure4, figure5, figure6, figure7), start=1)
}
