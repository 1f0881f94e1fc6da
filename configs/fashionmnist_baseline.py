"""A network that the paper compares with, small, on the part of FashionMNIST that comes with the package, in minutes.

    python -m onebnet_jax.main --config=configs/fashionmnist_baseline.py:reactnet_a

Behind the colon stands its family: birealnet, xnornet, realtobin, reactnet_a (at a quarter of its width) or resnet.
configs/quickstart.py is a OneBNet by the same recipe. --config.data.name=fashion_mnist takes the whole data set.
"""

from onebnet_jax.runs import schema


def get_config(family="birealnet"):
    config = schema.baseline(schema.begin_with("quickstart"), family)
    if family == "reactnet_a":
        config.model.width_multiplier = 0.25
    return config
