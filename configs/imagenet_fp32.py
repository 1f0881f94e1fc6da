"""FP32 ResNet18 on ImageNet: Table 2, 69.6 % Top-1, 89.2 % Top-5 (paper, of He et al.).

python -m onebnet_jax.main --config=configs/imagenet_fp32.py --config.data.dir=DIR
"""

from configs import default, imagenet_typeII_scratch


def get_config():
    config = default.fp32(imagenet_typeII_scratch.get_config())
    config.train.weight_decay = 1e-5
    return config
