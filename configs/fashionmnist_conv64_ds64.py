"""ResNet20 OneBNet, all of its last stage 1-D, on FashionMNIST: Table 6, 93.2 % Top-1 (paper).

python -m onebnet_jax.main --config=configs/fashionmnist_conv64_ds64.py
"""

from configs import fashionmnist_ds32_64


def get_config():
    config = fashionmnist_ds32_64.get_config()
    config.model.conv_1d = (64,)
    config.model.ds_1d = (64,)
    return config
