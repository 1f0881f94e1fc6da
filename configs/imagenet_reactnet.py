"""ReActNet18, the baseline, on ImageNet, two stages with a ResNet34 teacher: Tables 1 and 2, 65.5 % Top-1.

python -m onebnet_jax.main --config=configs/imagenet_reactnet.py --config.data.dir=DIR
"""

from configs import imagenet_typeII


def get_config():
    config = imagenet_typeII.get_config()
    config.model.conv_1d = ()
    config.model.ds_1d = ()
    return config
