"""A network that the paper compares with, on CIFAR-10 by the paper's recipe: Table 4.

    python -m onebnet_jax.main --config=configs/cifar10_baseline.py:birealnet

Behind the colon stands its family: birealnet (89.1 % Top-1 in Table 4), xnornet, realtobin or reactnet_a (not in the
table). ReActNet18 is configs/cifar10_reactnet.py, FP32 ResNet18 configs/cifar10_fp32.py.
"""

from onebnet_jax.runs import schema


def get_config(family="birealnet"):
    return schema.baseline(schema.begin_with("cifar10_typeII"), family)
