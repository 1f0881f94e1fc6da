"""The paper's Tables 1 to 8, each beside what was counted, measured here, or estimated. Pure functions."""

import dataclasses
from collections.abc import Callable, Mapping

from onebnet_jax.data.catalog import DATASETS
from onebnet_jax.networks import cost
from onebnet_jax.paper import architecture, latency, matches, numbers, threads
from onebnet_jax.paper.sections import NEEDS, Section, timed, trained
from onebnet_jax.runs import config as config_lib

AWAY = {"imagenet2012": "ImageNet", "cifar10": "CIFAR-10"}  # data that do not come with a package
OTHERS = "not built here"
PI = "launch/rpi4_benchmark.sh user@host model.tflite && onebnet report --logs=DIR"
TRAIN = "onebnet train --config=CONFIG && onebnet report"


@dataclasses.dataclass(frozen=True)
class Found:
    """What was measured here."""

    runs: Mapping[tuple, matches.Match] = dataclasses.field(default_factory=dict)  # by `matches.key`
    pi: Mapping[tuple[str, int], float] = dataclasses.field(default_factory=dict)  # (network, threads) -> mean ms
    files: Mapping[str, float] = dataclasses.field(default_factory=dict)  # network of Table 3 -> MiB of its .tflite

    def accuracy(self, dataset: str, config: str | None, *overrides: str) -> tuple[str, str, str]:
        """Top-1, Top-5, and the run they are of, or what would fill them in."""
        if config is None:
            return "-", "-", OTHERS
        loaded = config_lib.load(config, overrides)
        match, words = self.runs.get(matches.key(loaded)), f"`{' '.join([config, *overrides])}`"
        if match is None:
            need = NEEDS + AWAY.get(dataset, "training")
            return need, need, words
        planned = sum(loaded[stage].epochs for stage in loaded.stages)
        run = f"run {match.run}, {match.epochs} of {planned} epochs"
        return f"{match.top1:.2f}", "-" if match.top5 is None else f"{match.top5:.2f}", run

    def best(self, config: str) -> str:
        """The Top-1 of the best epoch where the last one is worse, in words to go behind that."""
        match = self.runs.get(matches.key(config_lib.load(config)))
        return f"; best {match.best:.2f}" if match and match.best > match.top1 else ""

    def pi_ms(self, network: str, threads: int) -> str:
        value = self.pi.get((network, threads))
        return NEEDS + "a Pi" if value is None else f"{value:.1f}"


def table1(found: Found) -> Section:
    rows, fit = [], latency.fit()
    for row, residual in zip(numbers.TABLE1, fit.residuals):
        counts = latency.imagenet_cost(latency.table1_structure(row))
        top1, _, run = found.accuracy("imagenet2012", f"imagenet:{row.label}")
        stages = [", ".join(map(str, stages)) or "none" for stages in (row.conv_1d, row.ds_1d)]
        cells = [f"{row.top1:.1f}", top1, f"{row.latency_ms:.1f}", found.pi_ms(row.label, 1)]
        cells += [f"{row.latency_ms - residual:.1f}", f"{counts.ops / 1e6:.1f}", run]
        rows.append([row.name or "-", *stages, *cells])
    header = ["name", "1-D Conv", "1-D DS", "Top-1, paper (%)", "Top-1, here (%)", "latency, paper (ms)"]
    header += ["latency, here (ms)", "latency, estimated (ms)", "OPs (M)", "run, or config that fills it in"]
    return Section(
        "Table 1",
        "Structures of ResNet18 on ImageNet: Top-1 with a teacher, and latency on one thread of a Raspberry Pi 4",
        f"{trained(rows, 4)} {timed(rows, 6)} The estimates are three rates fitted to the paper's own {len(rows)} "
        f"latencies. They meet these within {abs(fit.residuals).max():.1f} ms; fitted to eleven, they meet the "
        f"twelfth within {abs(fit.left_out).max():.1f} ms.",
        [header, *rows],
        ("", "", "", "paper", "measured", "paper", "measured", "estimated", "counted", ""),
        (
            "1-D Conv and 1-D DS name the stages, by their output channels, whose 3x3 binarized convolutions without "
            "and with downsampling are split into a 3x1 and a 1x3 one.",
            "The estimate is three rates times what is counted (binary and float multiplications, passes over "
            "elements), fitted to the twelve latencies of this table: `onebnet cost --table1 --fit`.",
        ),
        (("train a row", TRAIN), ("time a row on a Pi", PI)),
    )


def table2(found: Found) -> Section:
    rows = []
    for training, table, suffix in (
        ("from scratch", numbers.TABLE2_SCRATCH, "_scratch"),
        ("teacher", numbers.TABLE2_TEACHER, ""),
    ):
        for name, paper in table.items():
            config = matches.config_name("imagenet", name + suffix) or matches.config_name("imagenet", name)
            if not suffix and name in numbers.TABLE2_SCRATCH and not name.startswith("Type"):
                config = None  # the same network by another training
            top1, top5, run = found.accuracy("imagenet2012", config)
            top5_paper = "-" if paper.top5 is None else f"{paper.top5:.1f}"
            rows.append([training, name, f"{paper.top1:.1f}", top1, top5_paper, top5, run])
    header = ["training", "network", "Top-1, paper (%)", "Top-1, here (%)", "Top-5, paper (%)", "Top-5, here (%)"]
    return Section(
        "Table 2",
        "Binarized ResNet18s on ImageNet",
        trained(rows, column=3),
        [[*header, "run, or config that fills it in"], *rows],
        ("", "", "paper", "measured", "paper", "measured", ""),
        (f"The paper quotes what is {OTHERS}. Begin with what a config's file names first, such as a teacher.",),
        (("train a row", TRAIN),),
    )


def table3(found: Found) -> Section:
    rows, differences = [], []
    built = threads.structures()
    for name, paper in numbers.TABLE3.items():
        config = matches.config_name("imagenet", name)
        counted = ops = estimated = "-"
        if name in built:
            counts = latency.imagenet_cost(built[name])
            counted, ops = f"{counts.storage_mib:.2f}", f"{counts.ops / 1e6:.1f}"
            family = dict(built[name].recipe)["family"]
            if family != "birealnet":  # from whose measurement the estimates of the others begin
                estimated = f"{latency.estimate(counts, family):.1f}"
            differences.append(abs(round(counts.storage_mib, 2) - paper.storage_mib))
        file = f"{found.files[name]:.2f}" if name in found.files else NEEDS + "LCE" if name in built else "-"
        top1, _, run = found.accuracy("imagenet2012", config)
        cells = [f"{paper.storage_mib:.2f}", counted, file, ops, f"{paper.latency_ms:.1f}", found.pi_ms(name, 1)]
        rows.append([name, *cells, estimated, f"{paper.top1:.1f}", top1, run])
    header = ["network", "storage, paper (MiB)", "storage, counted (MiB)", "file, here (MiB)", "OPs (M)"]
    header += ["latency, paper (ms)", "latency, here (ms)", "latency, estimated (ms)", "Top-1, paper (%)"]
    a, of_a = latency.imagenet_cost(built["ReActNetA"]), latency.checks()["ReActNet-A"]
    exact = sum(difference < 0.005 for difference in differences)
    count = f"{exact} of the {len(differences)}" if exact < len(differences) else f"all {exact}"
    return Section(
        "Table 3",
        "Storage, latency on one thread of a Raspberry Pi 4, and Top-1 on ImageNet",
        f"The storage of {count} networks is counted to the paper's last digit. {trained(rows, 9)} {timed(rows, 6)}",
        [[*header, "Top-1, here (%)", "run, or config that fills it in"], *rows],
        ("", "paper", "counted", "measured", "counted", "paper", "measured", "estimated", "paper", "measured", ""),
        (
            "The paper's MB are MiB: 2^20 bytes. The file is the naive graph as the paper describes it, with random "
            "weights; it holds the graph besides the constants, which is what the count has.",
            "OneBNets and ReActNet18 are estimated by the fit to Table 1, the others from Bi-RealNet's measurement on: "
            "they have other operators (`onebnet cost --fit`). FP32 ResNet18 and Real-to-Bin come out too low: the "
            "one is float convolutions, of which the fitted networks have few, the other has 16 gates, at 0.8 ms each.",
            f"ReActNet-A (`imagenet_reactnet_a`), which is not in the table: {a.storage_mib:.2f} MiB and "
            f"{a.ops / 1e6:.1f} M OPs counted; {of_a[0]:.1f} ms estimated, {of_a[1]:.1f} ms in the paper's text (A.4).",
        ),
        (
            ("train a row", TRAIN),
            ("make a row's file", "onebnet convert --config=CONFIG --no-fold --output=model.tflite"),
            ("time a row on a Pi", PI),
        ),
    )


def table4(found: Found) -> Section:
    rows = []
    for name, paper in numbers.TABLE4.items():
        top1, _, run = found.accuracy("cifar10", matches.config_name("cifar10", name))
        rows.append([name, f"{paper:.1f}", top1, run])
    header = ["network", "Top-1, paper (%)", "Top-1, here (%)", "run, or config that fills it in"]
    title, marks = "Binarized ResNet18s on CIFAR-10", ("", "paper", "measured", "")
    return Section("Table 4", title, trained(rows, 2), [header, *rows], marks, (), (("train a row", TRAIN),))


def table5(found: Found) -> Section:
    return architecture.section()


def table6(found: Found) -> Section:
    configs = (("fashionmnist_ds32_64", "fashionmnist_fp32"), ("fashionmnist_conv64_ds64", "fashionmnist_fp32"))
    configs += (("cifar10_typeI", "cifar10_fp32"), ("cifar10_typeII", "cifar10_fp32"))
    rows = []
    for paper, (config, fp32) in zip(numbers.TABLE6, configs):
        top1, _, run = found.accuracy(paper.dataset, config)
        fp32_top1, _, fp32_run = found.accuracy(paper.dataset, fp32)
        stages = [", ".join(map(str, stages)) or "none" for stages in (paper.conv_1d, paper.ds_1d)]
        fp32_top1 += found.best(fp32)
        cells = [f"{paper.fp32_top1:.1f}", fp32_top1, f"{paper.top1:.1f}", top1, f"{run}; {fp32_run}"]
        rows.append([DATASETS[paper.dataset].title, f"ResNet{paper.depth}", *stages, *cells])
    header = ["data set", "baseline", "1-D Conv", "1-D DS", "FP32, paper (%)", "FP32, here (%)", "OneBNet, paper (%)"]
    return Section(
        "Table 6",
        "Top-1 on the small data sets",
        trained(rows, column=7),
        [[*header, "OneBNet, here (%)", "runs, or configs that fill it in: OneBNet; FP32"], *rows],
        ("", "", "", "", "paper", "measured", "paper", "measured", ""),
        ("The paper trains 400 epochs. Ours are after the last epoch; a best one is chosen by test images.",),
        (("train a row", TRAIN),),
    )


def table7(found: Found) -> Section:
    rows = []
    for width, paper in numbers.TABLE7.items():
        for name, value in paper.items():
            overrides = [f"--config.model.width_multiplier={width:g}"] * (width != 1)
            config = matches.config_name("cifar10", name)
            run = config_lib.experiment(config_lib.load(config, overrides))
            counts = cost.total(cost.layers(run.structure, run.data.info.shape))
            top1, _, words = found.accuracy("cifar10", config, *overrides)
            cells = [f"{value:.1f}", top1, f"{counts.parameters / 1e6:.2f}", f"{counts.storage_mib:.2f}"]
            cells += [f"{counts.ops / 1e6:.1f}", f"{latency.estimate(counts):.1f}", words]
            rows.append([f"{width:g}", name, *cells])
    header = ["multiplier", "structure", "Top-1, paper (%)", "Top-1, here (%)", "parameters (M)", "storage (MiB)"]
    header += ["OPs (M)", "Pi 4, one thread, estimated (ms)", "run, or config that fills it in"]
    return Section(
        "Table 7",
        "Width multipliers of OneBNet on CIFAR-10",
        f"Sizes and operations are counted. {trained(rows, column=3)}",
        [header, *rows],
        ("", "", "paper", "measured", "counted", "counted", "counted", "estimated", ""),
        (
            "The paper gives no latency here. The estimate extrapolates from ResNet18 at 224x224 to 32x32 and other "
            "widths, where it indicates the order alone.",
        ),
        (("train a row", "onebnet train --config=CONFIG --config.model.width_multiplier=M --workdir=runs/NAME"),),
    )


def table8(found: Found) -> Section:
    estimates, differences, rows = threads.estimates(), threads.differences(), []
    widest, others = 100 * max(map(abs, differences.values())), f"the other {len(differences) - 1} ResNet18s"
    verdict = (
        f"Each estimate is a fit to the paper's own latencies of {others}, and within {widest:.1f} % of the paper's."
    )
    if widest > threads.HOLDS:
        verdict, differences = f"No estimates: by the fit a network comes out {widest:.0f} % off.", {}
    for name, paper in numbers.TABLE8.items():
        known = name in differences
        cells = [f"{estimates[name][1]:.1f}", f"{100 * differences[name]:+.1f}"] if known else ["-", "-"]
        rows.append([name, f"{paper:.1f}", found.pi_ms(name, 4), *cells])
    outside = [f"{name} at {value:.0f} ms" for name, (_, value) in estimates.items() if name not in numbers.TABLE3]
    header = ["network", "latency, paper (ms)", "latency, here (ms)", "from the others, estimated (ms)"]
    return Section(
        "Table 8",
        "Latency with four threads of a Raspberry Pi 4",
        f"{timed(rows, 2)} {verdict}",
        [[*header, "difference (%)"], *rows],
        ("", "paper", "measured", "estimated", "estimated"),
        (
            "Each estimate comes from a fit to the other networks of this table alone: it shows what the fit is worth "
            "for a network based on ResNet18 that it has not seen. With three rates and so few networks it is worth "
            f"nothing beyond these; with one of them more than {threads.HOLDS} % off, none would be shown.",
            f"Of another shape, MobileNet's, it knows nothing: it puts {' and '.join(outside)}. ReActNetA is 76.9 ms "
            "in the paper's table and 86.9 ms in its text (A.4).",
        ),
        (("time a row on a Pi", PI),),
    )


TABLES: dict[str, Callable[[Found], Section]] = {
    f"Table {number}": make
    for number, make in enumerate((table1, table2, table3, table4, table5, table6, table7, table8), start=1)
}
