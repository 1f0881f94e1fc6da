"""ResNet20 OneBNet with 1-D downsampling in both stages, on FashionMNIST: Table 6, 93.4 % Top-1 (paper).

    onebnet train --config=fashionmnist_ds32_64

Here 93.5 %, in 10 minutes on one NVIDIA H200; with --config.train.epochs=20 92.3 %; with
--config.data.crop_padding=2 --config.data.flip=True 93.9 % (results/README.md).
docs/performance.md has the speed on a CPU.
"""

from onebnet_jax.runs import schema


def get_config():
    config = schema.get_config()
    config.data.name = "fashion_mnist"
    config.model.depth = 20
    config.model.ds_1d = (32, 64)
    return config
