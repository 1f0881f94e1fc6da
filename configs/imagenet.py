"""A ResNet18 of any row of Table 1 on ImageNet, in the two stages of section 4 with a ResNet34 teacher.

    onebnet teacher --weights=resnet34-b627a593.pth
    onebnet train --config=imagenet:TypeII --config.data.dir=DIR

Behind the colon stands the row: ReActNet18, TypeI, TypeII, TypeIII, or the stages of one without a name, such as
conv256_512_ds128; any other word is answered with all twelve. Top-1 (paper): 65.4 to 68.4 %.

Section 4: 256 epochs a stage, in batches of 256; the rest is ReActNet's, whose own command differs:
--config.step1.epochs=128 --config.step1.batch_size=512 --config.step1.learning_rate=2.5e-3, and the same for step2.
"""

from onebnet_jax.paper import numbers as paper
from onebnet_jax.runs import schema


def get_config(label="TypeII"):
    row = paper.table1_row(label)
    config = schema.get_config()
    config.model.depth = 18
    config.model.conv_1d = row.conv_1d
    config.model.ds_1d = row.ds_1d
    config.model.stem = "imagenet"
    config.model.pad_value = 0  # as ReActNet, whose recipe this is
    config.data.name = "imagenet2012"
    config.data.flip = True
    return schema.two_stage(config, "runs/imagenet_teacher", epochs=256)
