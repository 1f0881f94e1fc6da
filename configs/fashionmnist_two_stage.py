"""The two stages of section 4 at small scale: `fashionmnist_ds32_64` with the FP32 ResNet20 as its teacher.

    python -m onebnet_jax.main --config=configs/fashionmnist_fp32.py
    python -m onebnet_jax.main --config=configs/fashionmnist_two_stage.py

Not in the paper, which trains FashionMNIST from scratch: Table 6, 93.4 % Top-1 (paper). As many epochs in all.
"""

from configs import default, fashionmnist_ds32_64


def get_config():
    return default.two_stage(fashionmnist_ds32_64.get_config(), "runs/fashionmnist_fp32", epochs=200)
