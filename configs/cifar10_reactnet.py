"""ReActNet18, the baseline without 1-D convolutions, on CIFAR-10: Table 4, 92.3 % Top-1 (paper).

onebnet train --config=cifar10_reactnet
"""

from onebnet_jax.runs import schema


def get_config():
    config = schema.begin_with("cifar10_typeII")
    config.model.conv_1d = ()
    config.model.ds_1d = ()
    return config
