"""FP32 ResNet34 on ImageNet as torchvision has it: the teacher of the two-stage training, made from its weights.

onebnet teacher --weights=resnet34-b627a593.pth
onebnet evaluate --workdir=runs/imagenet_teacher

The second command, on a machine that has ImageNet, should come near the 73.3 % Top-1 that torchvision states.
"""

from onebnet_jax.runs import schema


def get_config():
    config = schema.get_config()
    config.model.depth = 34
    config.model.family = "resnet"
    config.model.stem = "imagenet"
    config.model.stem_relu = True
    config.model.padding = "torch"
    config.data.name = "imagenet2012"
    config.data.flip = True
    return config
