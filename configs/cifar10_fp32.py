"""FP32 ResNet18 on CIFAR-10: Tables 4 and 6, 95.5 % Top-1 (paper).

python -m onebnet_jax.main --config=configs/cifar10_fp32.py
"""

from configs import cifar10_typeII


def get_config():
    config = cifar10_typeII.get_config()
    config.model.block = "resnet"
    config.model.stem_relu = True
    config.model.conv_1d = ()
    config.model.ds_1d = ()
    return config
