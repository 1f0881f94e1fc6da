"""The accuracies that the paper prints, in percent, named by table; those beside a latency are in `numbers`."""

from typing import NamedTuple


class Accuracy(NamedTuple):
    top1: float
    top5: float


# ImageNet, ResNet18, without and with a teacher; only networks that can be trained here.
TABLE2_SCRATCH = {"FP32 ResNet18": Accuracy(69.6, 89.2), "XNOR-Net": Accuracy(51.2, 73.2)}
TABLE2_SCRATCH |= {"Bi-RealNet": Accuracy(56.4, 79.5), "TypeII": Accuracy(63.9, 84.5)}
TABLE2_TEACHER = {"TypeI": Accuracy(68.4, 88.0), "TypeII": Accuracy(67.7, 87.7), "TypeIII": Accuracy(67.3, 87.9)}

# CIFAR-10, ResNet18, top-1.
TABLE4 = {
    "ResNet18": 95.5,
    "XNOR-Net++": 90.2,
    "Bi-RealNet": 89.1,
    "IR-Net": 91.5,
    "RAD": 90.5,
    "ReCU": 92.8,
    "RBNN": 92.2,
    "ReActNet": 92.3,
    "AdaBin": 93.1,
    "DIR-Net": 92.8,
    "TypeI": 93.6,
    "TypeII": 93.3,
}


class Table6Row(NamedTuple):
    """A small data set: top-1 of the OneBNet and of its FP32 counterpart."""

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

# CIFAR-10, ResNet18: width multiplier -> top-1 of TypeI and of TypeII.
_TABLE7 = {2.0: (94.3, 93.6), 1.4: (93.9, 93.4), 1.0: (93.6, 93.3), 0.7: (92.3, 92.2), 0.5: (91.5, 91.0)}
TABLE7 = {width: {"TypeI": one, "TypeII": two} for width, (one, two) in _TABLE7.items()}
