"""FP32 ResNet18 on CIFAR-10: Tables 4 and 6, 95.5 % Top-1 (paper).

python -m onebnet_jax.main --config=configs/cifar10_fp32.py
"""

from configs import cifar10_typeII, default


def get_config():
    return default.fp32(cifar10_typeII.get_config())
