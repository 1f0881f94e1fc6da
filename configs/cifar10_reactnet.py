"""ReActNet18, the baseline without 1-D convolutions, on CIFAR-10: Table 4, 92.3 % Top-1 (paper).

python -m onebnet_jax.main --config=configs/cifar10_reactnet.py
"""

from configs import cifar10_typeII


def get_config():
    config = cifar10_typeII.get_config()
    config.model.conv_1d = ()
    config.model.ds_1d = ()
    return config
