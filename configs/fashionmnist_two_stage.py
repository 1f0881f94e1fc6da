"""The two stages of section 4 at small scale: `fashionmnist_ds32_64` with the FP32 ResNet20 as its teacher.

    onebnet train --config=fashionmnist_fp32
    onebnet train --config=fashionmnist_two_stage

Not in the paper, which trains FashionMNIST from scratch: Table 6, 93.4 % Top-1 (paper). As many epochs in all.
Here 92.9 % after 20 and 20 epochs, beside 92.6 % after 40 in one stage (results/README.md).
"""

from onebnet_jax.runs import schema


def get_config():
    return schema.two_stage(schema.begin_with("fashionmnist_ds32_64"), "runs/fashionmnist_fp32", epochs=200)
