"""A network that the paper compares with, small, on FashionMNIST by the paper's recipe.

    onebnet train --config=fashionmnist_baseline:reactnet_a

Behind the colon stands its family: birealnet, xnornet, realtobin, reactnet_a (at a quarter of its width) or resnet.
ReActNet20 is configs/fashionmnist_ds32_64.py with --config.model.ds_1d="()". docs/train.md says in what each differs
from its authors' code. --config.data.name=fashion_mnist_mini --config.train.batch_size=64 --config.train.epochs=6 is a
first look, in minutes, on the 4,000 images that come with the package.
"""

from onebnet_jax.runs import schema


def get_config(family="birealnet"):
    config = schema.baseline(schema.begin_with("fashionmnist_ds32_64"), family)
    if family == "reactnet_a":
        config.model.width_multiplier = 0.25
    return config
