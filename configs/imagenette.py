"""The network of configs/folder.py on Imagenette, ten kinds of photographs at 64x64: alone, and with a teacher.

    onebnet train --config=imagenette:fp32 --config.data.dir=DIR
    onebnet train --config=imagenette --config.data.dir=DIR
    onebnet train --config=imagenette:two_stage --config.data.dir=DIR

The first is the FP32 counterpart, and the teacher of the third. Top-1 76.0 % and 72.0 %; of eight epochs in all, 67.6 %
alone and 70.1 % with the teacher (results/imagenette64/README.md). 346 images/s, or 25 seconds an epoch, on 2 CPU cores
with some other work, in 1.3 GiB; the FP32 network 147 images/s.
"""

from onebnet_jax.errors import one_of
from onebnet_jax.runs import schema


def get_config(kind="scratch"):
    one_of("the argument of imagenette", kind, ("scratch", "fp32", "two_stage"))
    config = schema.begin_with("folder")
    config.train.epochs = 16
    if kind == "fp32":
        return schema.fp32(config)
    if kind == "two_stage":
        schema.two_stage(config, "runs/imagenette_fp32", epochs=15)
        config.step1.update(batch_size=64, epochs=1)  # an epoch with float weights takes longer
        config.step2.batch_size = 64
    return config
