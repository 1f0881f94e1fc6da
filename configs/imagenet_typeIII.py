"""ResNet18 OneBNet TypeIII on ImageNet, two stages with a ResNet34 teacher: Tables 1 and 2, 67.3 % Top-1, 87.9 % Top-5.

python -m onebnet_jax.main --config=configs/imagenet_typeIII.py --config.data.dir=DIR
"""

from configs import imagenet_typeII


def get_config():
    config = imagenet_typeII.get_config()
    config.model.conv_1d = (512,)
    config.model.ds_1d = (512,)
    return config
