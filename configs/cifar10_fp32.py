"""FP32 ResNet18 on CIFAR-10: Tables 4 and 6, 95.5 % Top-1 (paper).

onebnet train --config=cifar10_fp32
"""

from onebnet_jax.runs import schema


def get_config():
    return schema.fp32(schema.begin_with("cifar10_typeII"))
