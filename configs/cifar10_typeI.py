"""ResNet18 OneBNet TypeI on CIFAR-10: Tables 4 and 6, 93.6 % Top-1 (paper).

    onebnet train --config=cifar10_typeI

Table 7 is --config.model.width_multiplier=2 (94.3 %), 1.4 (93.9 %), 0.7 (92.3 %) and 0.5 (91.5 %; paper).
"""

from onebnet_jax.runs import schema


def get_config():
    config = schema.begin_with("cifar10_typeII")
    config.model.conv_1d = ()
    config.model.ds_1d = (128, 256, 512)
    return config
