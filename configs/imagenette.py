"""A ResNet10 OneBNet of half the width on Imagenette, ten kinds of photographs at 64x64, by way of a folder.

    python -m onebnet_jax.main --config=configs/imagenette.py:fp32 --config.data.dir=DIR
    python -m onebnet_jax.main --config=configs/imagenette.py --config.data.dir=DIR
    python -m onebnet_jax.main --config=configs/imagenette.py:two_stage --config.data.dir=DIR

The first is the FP32 counterpart and the teacher of the third.
"""

from onebnet_jax.errors import one_of
from onebnet_jax.runs import schema


def get_config(kind="scratch"):
    one_of("the argument of imagenette", kind, ("scratch", "fp32", "two_stage"))
    config = schema.begin_with("folder")
    config.model.depth = 10
    config.model.stem = "imagenet"
    config.train.epochs = 16
    if kind == "fp32":
        return schema.fp32(config)
    if kind == "two_stage":
        schema.two_stage(config, "runs/imagenette_fp32", epochs=16)
        config.step1.update(batch_size=64, epochs=2)  # with float weights an epoch takes twice as long on a CPU
        config.step2.update(batch_size=64, epochs=14)
    return config
