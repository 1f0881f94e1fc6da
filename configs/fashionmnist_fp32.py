"""FP32 ResNet20 on FashionMNIST: Table 6, 93.6 % Top-1 (paper).

    onebnet train --config=fashionmnist_fp32

With --config.train.epochs=20: 92.0 %, in 1.3 hours on 2 CPU cores that had other work (results/README.md).
"""

from onebnet_jax.runs import schema


def get_config():
    return schema.fp32(schema.begin_with("fashionmnist_ds32_64"))
