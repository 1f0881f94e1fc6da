"""FP32 ResNet18 on ImageNet: 69.6 % Top-1, 89.2 % Top-5 (paper, Table 2, of He et al. 2016).

    onebnet train --config=imagenet_fp32 --config.data.dir=DIR

Its storage is 44.59 MiB (Table 3), its OPs are 1814.1 M. He et al. train with SGD, a momentum of 0.9 and a weight decay
of 1e-4, in batches of 256, beginning with 0.1 and dividing it by 10 when the error stands still. Here it is trained as
the binarized networks are that are compared with it, by Adam (configs/imagenet_typeII_scratch.py), with weight decay.
"""

from onebnet_jax.runs import schema


def get_config():
    config = schema.fp32(schema.begin_with("imagenet_typeII_scratch"))
    config.train.weight_decay = 1e-5
    return config
