"""FP32 ResNet20 on FashionMNIST: Table 6, 93.6 % Top-1 (paper).

    onebnet train --config=fashionmnist_fp32

With --config.train.epochs=100: 92.2 %, at its best epoch 92.5 %, in 3 minutes on an NVIDIA H100 that trained another
network beside it; with --config.data.crop_padding=2 --config.data.flip=True 94.4 % after 60 (results/README.md).
"""

from onebnet_jax.runs import schema


def get_config():
    return schema.fp32(schema.begin_with("fashionmnist_ds32_64"))
