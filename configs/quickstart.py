"""A small OneBNet on the part of FashionMNIST that comes with the package: a first look, in a minute or two.

python -m onebnet_jax.main --config=configs/quickstart.py
"""

from configs import fashionmnist_ds32_64


def get_config():
    config = fashionmnist_ds32_64.get_config()
    config.data.name = "fashion_mnist_mini"
    config.train.batch_size = 64
    config.train.epochs = 6
    return config
