"""Tensors as torchvision's ResNets have them, under their names there."""

import numpy as np
import pytest
import safetensors.numpy


def random(widths, counts, classes, channels=3):
    """Of a ResNet with basic blocks: names, shapes, and values for which logits are of order 1.

    The running variances reach down to where the epsilon counts.
    """
    rng = np.random.default_rng(0)
    tensors = {}

    def conv(name, outputs, inputs, size):
        deviation = np.sqrt(2 / (inputs * size**2))
        tensors[f"{name}.weight"] = rng.normal(0, deviation, (outputs, inputs, size, size)).astype(np.float32)

    def norm(name, channels):
        variance = 10 ** rng.uniform(-5, 1, channels)
        gain = rng.uniform(0.3, 0.9, channels) * rng.choice((-1, 1), channels)
        values = {
            "weight": gain * np.sqrt(variance),
            "bias": rng.normal(0, 0.3, channels),
            "running_mean": rng.normal(0, 0.3, channels),
            "running_var": variance,
        }
        tensors.update({f"{name}.{key}": value.astype(np.float32) for key, value in values.items()})
        tensors[f"{name}.num_batches_tracked"] = np.array(1000)

    conv("conv1", widths[0], channels, 7)
    norm("bn1", widths[0])
    inputs = widths[0]
    for layer, (width, count) in enumerate(zip(widths, counts, strict=True), start=1):
        for block in range(count):
            name = f"layer{layer}.{block}"
            conv(f"{name}.conv1", width, inputs, 3)
            norm(f"{name}.bn1", width)
            conv(f"{name}.conv2", width, width, 3)
            norm(f"{name}.bn2", width)
            if layer > 1 and block == 0:
                conv(f"{name}.downsample.0", width, inputs, 1)
                norm(f"{name}.downsample.1", width)
            inputs = width
    tensors["fc.weight"] = rng.normal(0, np.sqrt(4 / inputs), (classes, inputs)).astype(np.float32)
    tensors["fc.bias"] = rng.normal(size=classes).astype(np.float32)
    return tensors


def uncounted(tensors):
    """As torchvision's files are."""
    return {name: tensor for name, tensor in tensors.items() if not name.endswith("num_batches_tracked")}


def save(path, tensors):
    """In the form that the file's name tells; a .pth file needs PyTorch."""
    if path.suffix == ".safetensors":
        safetensors.numpy.save_file(tensors, path)
    else:
        torch = pytest.importorskip("torch")
        state = {name: torch.nn.Parameter(torch.from_numpy(x), requires_grad=False) for name, x in tensors.items()}
        torch.save(state, path)
    return path
