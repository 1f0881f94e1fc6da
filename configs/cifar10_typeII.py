"""ResNet18 OneBNet TypeII on CIFAR-10: Tables 4 and 6, 93.3 % Top-1 (paper).

    onebnet train --config=cifar10_typeII

docs/performance.md has the speed on a CPU. On an NVIDIA H100 that trained another network beside it an epoch took 3
seconds; 30 of them on a JPEG copy of the images are in results/cifar10_jpeg.

Table 7 is --config.model.width_multiplier=2 (93.6 %), 1.4 (93.4 %), 0.7 (92.2 %) and 0.5 (91.0 %; paper).
"""

from onebnet_jax.runs import schema


def get_config():
    config = schema.get_config()
    config.model.depth = 18
    config.model.conv_1d = (256, 512)
    config.model.ds_1d = (256, 512)
    config.data.name = "cifar10"
    config.data.crop_padding = 4  # this and the flip: section A.2
    config.data.flip = True
    return config
