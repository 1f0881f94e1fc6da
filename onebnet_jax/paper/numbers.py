"""Figures that the OneBNet paper prints, as plain data, named by table: those that estimates and measurements need.

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
