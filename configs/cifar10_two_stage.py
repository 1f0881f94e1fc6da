"""The two stages of section 4 on CIFAR-10: `cifar10_typeII` with the FP32 ResNet18 as its teacher.

    onebnet train --config=cifar10_fp32
    onebnet train --config=cifar10_two_stage

Not in the paper, which trains CIFAR-10 from scratch: Table 6, 93.3 % Top-1 (paper). As many epochs in all.
"""

from onebnet_jax.runs import schema


def get_config():
    return schema.two_stage(schema.begin_with("cifar10_typeII"), "runs/cifar10_fp32", epochs=200)
