"""Training speed on this CPU beside PyTorch's: eager, compiled, and compiled with bfloat16, in turn in one process.

    launch/setup.sh .venv-torch requirements-train.txt torch
    .venv-torch/bin/python launch/torch_benchmark.py configs/fashionmnist_ds32_64.py configs/cifar10_typeII.py

PyTorch trains the same network: built from the same list of units, with the same batch, loss and optimizer, in the
channels-last layout, which is its faster one. Each round times some steps of each contender; printed are medians of
images/s, and of our rate as a multiple of each contender's in the same round. With --native-off XLA is ours; with
--config.train.binarize_weights=False weights are float, as in the first of two stages.
"""

import argparse
import os
import pathlib
import sys
import time
from statistics import median

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("configs", nargs="+", metavar="CONFIG")
parser.add_argument("--rounds", type=int, default=5)
parser.add_argument("--native-off", action="store_true", help="our side without the kernels of onebnet_jax/native")
args, overrides = parser.parse_known_args()
os.environ["JAX_PLATFORMS"] = "cpu"
if args.native_off:
    os.environ["ONEBNET_NATIVE"] = "0"

import jax  # noqa: E402
import torch  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from onebnet_jax.native import library  # noqa: E402
from onebnet_jax.networks.structure import shortcut  # noqa: E402
from onebnet_jax.runs import config  # noqa: E402
from onebnet_jax.training import speed  # noqa: E402

STEPS = 4  # of each contender in a round, or as many as begin in
SECONDS = 10.0  # of it: bfloat16 is slow on CPUs without instructions for it


class Sign(torch.autograd.Function):
    """The sign, with a slope in the backward pass: poly's for activations, clip's for weights."""

    @staticmethod
    def forward(context, x, poly):
        context.save_for_backward(x)
        context.poly = poly
        return torch.where(x > 0, 1.0, -1.0).to(x.dtype)

    @staticmethod
    def backward(context, grad):
        (x,) = context.saved_tensors
        slope = torch.clamp(2 - 2 * x.abs(), min=0) if context.poly else x.abs() <= 1
        return grad * slope, None


class TorchUnit(nn.Module):
    """One `Unit` of a OneBNet, or its stem; shapes are [N, C, H, W]."""

    def __init__(self, unit, binary_weights):
        super().__init__()
        self.binary_weights = binary_weights
        self.unit, channels = unit, unit.out_channels
        bound = 1 / (unit.kernel[0] * unit.kernel[1] * unit.in_channels) ** 0.5
        self.weight = nn.Parameter(bound * (2 * torch.rand(channels, unit.in_channels, *unit.kernel) - 1))
        self.norm = nn.BatchNorm2d(channels)
        if unit.shift:
            self.alpha = self._channels(unit.in_channels, 0.0)
        if unit.activation == "rprelu":
            self.gamma, self.zeta = self._channels(channels, 0.0), self._channels(channels, 0.0)
            self.beta = nn.Parameter(torch.full((channels,), 0.25))
        self.added = shortcut((unit,), (0, 0, 0)) if unit.span else None
        if self.added and self.added.projects:
            self.project = nn.Conv2d(unit.in_channels, channels, 1, bias=False)
            self.project_norm = nn.BatchNorm2d(channels)

    @staticmethod
    def _channels(count, value):
        return nn.Parameter(torch.full((1, count, 1, 1), value))

    def forward(self, x):
        unit, y, weight = self.unit, x, self.weight
        if unit.shift:
            y = y - self.alpha
        if unit.binary:
            y = Sign.apply(y, True)
        if unit.binary and self.binary_weights:
            weight = weight.detach().abs().mean((1, 2, 3), keepdim=True) * Sign.apply(weight, False)
        pads = []
        for size, k, stride in zip(reversed(y.shape[2:]), reversed(unit.kernel), reversed(unit.strides)):
            total = max((-(-size // stride) - 1) * stride + k - size, 0)
            pads += [total // 2, total - total // 2]
        y = self.norm(F.conv2d(F.pad(y, pads, value=float(unit.pad_value)), weight, stride=unit.strides))
        if self.added:
            s = F.avg_pool2d(x, self.added.pool) if self.added.pool != (1, 1) else x
            y = y + (self.project_norm(self.project(s)) if self.added.projects else s)
        if unit.activation == "relu":
            return F.relu(y)
        if unit.activation == "rprelu":
            return F.prelu(y - self.gamma, self.beta) + self.zeta
        return y


class TorchTrainer:
    """Training steps of PyTorch for an experiment's last stage, on random images."""

    def __init__(self, experiment, compiled=False, bfloat16=False):
        torch.manual_seed(0)
        info, self._count = experiment.data.info, experiment.stages[-1].batch_size
        units = experiment.structure.units
        binary_weights = experiment.stages[-1].binarization.weights
        layers = [*(TorchUnit(unit, binary_weights) for unit in units), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        network = nn.Sequential(*layers, nn.Linear(units[-1].out_channels, info.num_classes))
        network = network.to(memory_format=torch.channels_last)
        height, width, channels = info.shape
        images = torch.randn(self._count, channels, height, width)
        self._images = images.contiguous(memory_format=torch.channels_last)
        self._labels = torch.randint(0, info.num_classes, (self._count,))
        self._optimizer = torch.optim.Adam(network.parameters(), fused=True)
        self._network, self._bfloat16 = torch.compile(network, dynamic=False) if compiled else network, bfloat16
        self.images_per_second()  # compiles

    def images_per_second(self):
        steps, begun = 0, time.perf_counter()
        while steps < STEPS and time.perf_counter() - begun < SECONDS:
            self._optimizer.zero_grad(set_to_none=True)
            with torch.autocast("cpu", torch.bfloat16, enabled=self._bfloat16):
                loss = F.cross_entropy(self._network(self._images).float(), self._labels)
            loss.backward()
            self._optimizer.step()
            steps += 1
        return steps * self._count / (time.perf_counter() - begun)


versions = f"jax {jax.__version__}, torch {torch.__version__}, {library.in_use()}, {torch.get_num_threads()} threads"
print(f"{versions}, {args.rounds} rounds", flush=True)
for path in args.configs:
    experiment = config.experiment(config.load(path, overrides))
    ours = speed.Trainer(experiment, None)
    others = {
        "torch eager": TorchTrainer(experiment),
        "torch compile": TorchTrainer(experiment, compiled=True),
        "torch compile, bfloat16": TorchTrainer(experiment, compiled=True, bfloat16=True),
    }
    rounds = []
    for _ in range(args.rounds):
        rounds.append({name: each.images_per_second() for name, each in {"ours": ours, **others}.items()})
    print(f"{path}, batch {experiment.stages[-1].batch_size}: temporary memory {ours.temporary_bytes / 2**20:.0f} MiB")
    for name in rounds[0]:
        ratio = median(times["ours"] / times[name] for times in rounds)
        print(
            f"  {name:24} {median(times[name] for times in rounds):7.1f} images/s; ours / this {ratio:.2f}", flush=True
        )
