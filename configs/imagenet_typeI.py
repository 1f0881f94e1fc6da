"""ResNet18 OneBNet TypeI on ImageNet, two stages with a ResNet34 teacher: Tables 1 and 2, 68.4 % Top-1, 88.0 % Top-5.

python -m onebnet_jax.main --config=configs/imagenet_typeI.py --config.data.dir=DIR
"""

from configs import imagenet_typeII


def get_config():
    config = imagenet_typeII.get_config()
    config.model.conv_1d = ()
    config.model.ds_1d = (128, 256, 512)
    return config
