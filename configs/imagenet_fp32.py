"""FP32 ResNet18 on ImageNet: Table 2, 69.6 % Top-1, 89.2 % Top-5 (paper, of He et al.).

onebnet train --config=imagenet_fp32 --config.data.dir=DIR
"""

from onebnet_jax.runs import schema


def get_config():
    config = schema.fp32(schema.begin_with("imagenet_typeII_scratch"))
    config.train.weight_decay = 1e-5
    return config
