"""A small OneBNet on the part of FashionMNIST that comes with the package: a first look, in a minute or two.

onebnet train --config=quickstart
"""

from onebnet_jax.runs import schema


def get_config():
    config = schema.begin_with("fashionmnist_ds32_64")
    config.data.name = "fashion_mnist_mini"
    config.train.batch_size = 64
    config.train.epochs = 6
    return config
