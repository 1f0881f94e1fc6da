"""A small OneBNet on the part of FashionMNIST that comes with the package: a first look, in a minute or two.

    python -m onebnet_jax.main --config=configs/quickstart.py
"""

from configs import default


def get_config():
    config = default.get_config()
    config.model.depth = 20
    config.model.ds_1d = (32, 64)
    config.data.name = "fashion_mnist_mini"
    config.train.batch_size = 64
    config.train.epochs = 6
    return config
