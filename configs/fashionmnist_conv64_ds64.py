"""ResNet20 OneBNet, all of its last stage 1-D, on FashionMNIST: Table 6, 93.2 % Top-1 (paper).

    onebnet train --config=fashionmnist_conv64_ds64

With --config.train.epochs=100: 93.2 %, in 3 minutes on an NVIDIA H100 that trained another network beside it
(results/README.md). On a CPU it takes 0.9 GiB.
"""

from onebnet_jax.runs import schema


def get_config():
    config = schema.begin_with("fashionmnist_ds32_64")
    config.model.conv_1d = (64,)
    config.model.ds_1d = (64,)
    return config
