"""ResNet18 OneBNet TypeII on ImageNet, two stages with a ResNet34 teacher.

    onebnet teacher --weights=resnet34-b627a593.pth
    onebnet train --config=imagenet_typeII --config.data.dir=DIR

Tables 1 and 2, 67.7 % Top-1, 87.7 % Top-5 (paper). configs/imagenet.py says what the recipe is.
"""

from onebnet_jax.runs import schema


def get_config():
    return schema.begin_with("imagenet", "TypeII")
