"""ReActNet18, the baseline without 1-D convolutions, on ImageNet, two stages with a ResNet34 teacher.

    onebnet teacher --weights=resnet34-b627a593.pth
    onebnet train --config=imagenet_reactnet --config.data.dir=DIR

Tables 1 and 3, 65.5 % Top-1 (paper). configs/imagenet.py says what the recipe is.
"""

from onebnet_jax.runs import schema


def get_config():
    return schema.begin_with("imagenet", "ReActNet18")
