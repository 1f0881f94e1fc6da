"""FP32 ResNet20 on FashionMNIST: Table 6, 93.6 % Top-1 (paper).

python -m onebnet_jax.main --config=configs/fashionmnist_fp32.py
"""

from configs import default, fashionmnist_ds32_64


def get_config():
    return default.fp32(fashionmnist_ds32_64.get_config())
