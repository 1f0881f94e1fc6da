"""ResNet20 OneBNet with 1-D downsampling in both stages, on FashionMNIST: Table 6, 93.4 % Top-1 (paper).

    python -m onebnet_jax.main --config=configs/fashionmnist_ds32_64.py

With --config.train.epochs=20: 92.3 % (results/README.md). On 2 CPU cores 362 images/s, 3 minutes an epoch, and 1.1 GiB
(README, Speed).
"""

from onebnet_jax.runs import schema


def get_config():
    config = schema.get_config()
    config.data.name = "fashion_mnist"
    config.model.depth = 20
    config.model.ds_1d = (32, 64)
    return config
