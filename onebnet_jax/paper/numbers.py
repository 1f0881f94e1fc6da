"""The figures that the OneBNet paper prints, as plain data, named by table.

Accuracies are in percent, latencies in milliseconds on a Raspberry Pi 4 (A.4: LCE, XNNPACK on, mean of 150 runs),
storage in MiB (the paper says MB). The prose gives other values in two places: 87.3 ms for TypeIII, which is 87.4
in Table 1, and 86.9 ms for ReActNetA, which is 76.9 in Table 8.
"""

from typing import NamedTuple

from onebnet_jax.errors import UserError


class Table1Row(NamedTuple):
    """One structure of ResNet18 on ImageNet: accuracy with the teacher, latency with one thread."""

    name: str  # "" where the paper has none
    conv_1d: tuple[int, ...]
    ds_1d: tuple[int, ...]
    top1: float
    latency_ms: float

    @property
    def label(self) -> str:
        """The paper's name, else one made of the stages, such as "conv256_512_ds128"."""
        parts = (("conv", self.conv_1d), ("ds", self.ds_1d))
        return self.name or "_".join(kind + "_".join(map(str, stages)) for kind, stages in parts if stages)


TABLE1 = (
    Table1Row("ReActNet18", (), (), 65.5, 83.2),
    Table1Row("", (256, 512), (), 65.7, 80.8),
    Table1Row("", (64, 128), (128, 256, 512), 68.1, 106.9),
    Table1Row("TypeI", (), (128, 256, 512), 68.4, 101.7),
    Table1Row("", (256, 512), (128,), 66.2, 87.7),
    Table1Row("TypeII", (256, 512), (256, 512), 67.7, 92.3),
    Table1Row("", (64, 128, 256, 512), (), 65.4, 85.5),
    Table1Row("", (64, 128, 256, 512), (128, 256, 512), 67.7, 105.4),
    Table1Row("", (256, 512), (128, 256, 512), 68.1, 99.5),
    Table1Row("", (64, 128), (128,), 65.8, 96.3),
    Table1Row("", (64, 128), (256, 512), 67.6, 100.0),
    Table1Row("TypeIII", (512,), (512,), 67.3, 87.4),
)


def table1_row(label: str) -> Table1Row:
    """The row of Table 1 with a label. Raises UserError for any other."""
    rows = {row.label: row for row in TABLE1}
    if label not in rows:
        raise UserError(f"{label!r} is not in the paper's Table 1; it must be one of {', '.join(rows)}.")
    return rows[label]


class Accuracy(NamedTuple):
    top1: float
    top5: float | None  # None where the paper has none


# ImageNet, ResNet18, trained from scratch and with a teacher.
TABLE2_SCRATCH = {
    "FP32 ResNet18": Accuracy(69.6, 89.2),
    "XNOR-Net": Accuracy(51.2, 73.2),
    "XNOR-Net++": Accuracy(57.1, 79.9),
    "IR-Net": Accuracy(58.1, 80.0),
    "SA-BNN": Accuracy(61.7, 82.8),
    "AdaBin": Accuracy(63.1, 84.3),
    "ABC-Net": Accuracy(42.7, 67.6),
    "Bi-RealNet": Accuracy(56.4, 79.5),
    "SI-BNN": Accuracy(59.7, 81.8),
    "BNSC-Net": Accuracy(59.9, 81.8),
    "RB-Net": Accuracy(63.0, 84.2),
    "TypeII": Accuracy(63.9, 84.5),
}
TABLE2_TEACHER = {
    "Real-to-Bin": Accuracy(65.4, 86.2),
    "AdaBin": Accuracy(66.4, 86.5),
    "RB-Net": Accuracy(66.8, 87.1),
    "ReActNet18": Accuracy(65.5, None),
    "DIR-Net2": Accuracy(66.5, 87.1),
    "TypeI": Accuracy(68.4, 88.0),
    "TypeII": Accuracy(67.7, 87.7),
    "TypeIII": Accuracy(67.3, 87.9),
}


class Table3Row(NamedTuple):
    """ImageNet, ResNet18, one thread."""

    storage_mib: float
    latency_ms: float
    top1: float


TABLE3 = {
    "FP32 ResNet18": Table3Row(44.59, 481.1, 69.6),
    "XNOR-Net": Table3Row(4.00, 80.7, 51.2),
    "Bi-RealNet": Table3Row(4.00, 80.2, 56.4),
    "Real-to-Bin": Table3Row(5.13, 97.1, 65.4),
    "ReActNet18": Table3Row(4.05, 83.2, 65.5),
    "TypeI": Table3Row(5.39, 101.7, 68.4),
    "TypeII": Table3Row(5.03, 92.3, 67.7),
    "TypeIII": Table3Row(4.82, 87.3, 67.3),
}

# The networks of Table 3 that are no rows of Table 1, and the baseline, as families of networks.
FAMILIES = {"FP32 ResNet18": "resnet", "XNOR-Net": "xnornet", "Bi-RealNet": "birealnet", "ReActNet18": "onebnet"}
FAMILIES |= {"Real-to-Bin": "realtobin"}
REACTNET_A_MS = 123.3  # one thread, ReActNet-A on ImageNet: the text beside Table 8

# ImageNet, four threads: latency.
TABLE8 = {"FP32 ResNet18": 257.7, "XNOR-Net": 33.8, "Bi-RealNet": 31.3, "ReActNet18": 40.3, "ReActNetA": 76.9}
TABLE8 |= {"TypeI": 52.4, "TypeII": 46.7, "TypeIII": 43.0}

# CIFAR-10, ResNet18: Top-1.
TABLE4 = {
    "FP32 ResNet18": 95.5,
    "Bi-RealNet": 89.1,
    "RAD": 90.5,
    "RBNN": 92.2,
    "AdaBin": 93.1,
    "XNOR-Net++": 90.2,
    "IR-Net": 91.5,
    "ReCU": 92.8,
    "ReActNet18": 92.3,
    "DIR-Net": 92.8,
    "TypeI": 93.6,
    "TypeII": 93.3,
}


class Table5Column(NamedTuple):
    """A network all of whose binarized convolutions are 1-D: each block is 3x1, 1x3, 3x1, 1x3."""

    depth: int
    stem: str  # of `families.onebnet`: "imagenet" has a max pool after it
    kernel: str  # of the stem, its output channels and stride
    widths: tuple[int, ...]  # output channels of each stage
    blocks: int  # of each stage
    sizes: tuple[int, ...]  # height and width behind the stem, then behind each stage
    classes: int


TABLE5 = {
    "ImageNet, ResNet18": Table5Column(
        18, "imagenet", "7x7, 64, stride 2", (64, 128, 256, 512), 2, (112, 56, 28, 14, 7), 1000
    ),
    "ImageNet, ResNet20": Table5Column(20, "imagenet", "7x7, 16, stride 2", (16, 32, 64), 3, (112, 56, 28, 14), 1000),
    "CIFAR, ResNet18": Table5Column(18, "cifar", "3x3, 64, stride 1", (64, 128, 256, 512), 2, (32, 32, 16, 8, 4), 10),
    "CIFAR, ResNet20": Table5Column(20, "cifar", "3x3, 16, stride 1", (16, 32, 64), 3, (32, 32, 16, 8), 10),
}


class Table6Row(NamedTuple):
    """A small data set: Top-1 of the OneBNet and of its FP32 counterpart."""

    dataset: str
    depth: int
    conv_1d: tuple[int, ...]
    ds_1d: tuple[int, ...]
    fp32_top1: float
    top1: float


TABLE6 = (
    Table6Row("fashion_mnist", 20, (), (32, 64), 93.6, 93.4),
    Table6Row("fashion_mnist", 20, (64,), (64,), 93.6, 93.2),
    Table6Row("cifar10", 18, (), (128, 256, 512), 95.5, 93.6),
    Table6Row("cifar10", 18, (256, 512), (256, 512), 95.5, 93.3),
)

# CIFAR-10, ResNet18: width multiplier -> Top-1 of TypeI and of TypeII.
_TABLE7 = {2.0: (94.3, 93.6), 1.4: (93.9, 93.4), 1.0: (93.6, 93.3), 0.7: (92.3, 92.2), 0.5: (91.5, 91.0)}
TABLE7 = {width: {"TypeI": one, "TypeII": two} for width, (one, two) in _TABLE7.items()}
