"""ResNet18 OneBNet TypeII on ImageNet, two stages with a ResNet34 teacher: Tables 1 and 2, 67.7 % Top-1.

    python -m onebnet_jax.teacher --weights=resnet34-b627a593.pth
    python -m onebnet_jax.main --config=configs/imagenet_typeII.py --config.data.dir=DIR

Section 4: 256 epochs a stage, in batches of 256; the rest is ReActNet's, whose own command differs:
--config.step1.epochs=128 --config.step1.batch_size=512 --config.step1.learning_rate=2.5e-3, and the same for step2.
"""

from configs import default


def get_config():
    config = default.get_config()
    config.model.depth = 18
    config.model.conv_1d = (256, 512)
    config.model.ds_1d = (256, 512)
    config.model.stem = "imagenet"
    config.data.name = "imagenet2012"
    config.data.flip = True
    config.stages = ("step1", "step2")
    config.teacher = "runs/imagenet_teacher"
    for stage in (config.step1, config.step2):
        stage.epochs = 256
        stage.label_weight = 0.0
        stage.teacher_weight = 1.0
    return config
