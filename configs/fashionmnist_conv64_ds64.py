"""ResNet20 OneBNet, all of its last stage 1-D, on FashionMNIST: Table 6, 93.2 % Top-1 (paper).

    onebnet train --config=fashionmnist_conv64_ds64

With --config.train.epochs=20 and --config.model.pad_value=0, at a commit before weights began smaller: 90.6 %, in 2
hours on 2 CPU cores that had other work, in 0.9 GiB (results/README.md).
"""

from onebnet_jax.runs import schema


def get_config():
    config = schema.begin_with("fashionmnist_ds32_64")
    config.model.conv_1d = (64,)
    config.model.ds_1d = (64,)
    return config
