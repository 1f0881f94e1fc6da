"""A ResNet10 OneBNet of half the width on Imagenette, ten kinds of photographs at 64x64, by way of a folder.

python -m onebnet_jax.main --config=configs/imagenette.py:fp32 --config.data.dir=DIR
python -m onebnet_jax.main --config=configs/imagenette.py --config.data.dir=DIR
python -m onebnet_jax.main --config=configs/imagenette.py:two_stage --config.data.dir=DIR
"""

from onebnet_jax.errors import one_of
from onebnet_jax.runs import schema

EPOCHS = 16


def get_config(kind="scratch"):
    one_of("the argument behind imagenette:", kind, ("scratch", "fp32", "two_stage"))
    config = schema.begin_with("folder")
    config.model.depth = 10
    config.model.stem = "imagenet"
    config.train.epochs = EPOCHS
    if kind == "fp32":
        return schema.fp32(config)
    if kind == "two_stage":
        schema.two_stage(config, "runs/imagenette_fp32", EPOCHS // 2)
        config.step1.batch_size = config.step2.batch_size = config.train.batch_size
    return config
