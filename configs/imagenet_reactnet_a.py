"""ReActNet-A, of MobileNet's shape, on ImageNet, two stages with a ResNet34 teacher: 69.4 % Top-1 (its own paper).

    python -m onebnet_jax.teacher --weights=resnet34-b627a593.pth
    python -m onebnet_jax.main --config=configs/imagenet_reactnet_a.py --config.data.dir=DIR

87.1 M OPs, 7.53 MiB; 123.3 ms on a Raspberry Pi 4 with one thread, 76.9 ms with four (paper, section 4 and Table 8).
The recipe is that of its authors' code (https://github.com/liuzechun/ReActNet): 128 epochs a stage in batches of 256
from 1.25e-3 on, or, with the same result, 256 from 5e-4 on; weight decay in the first stage alone.
"""

from onebnet_jax.runs import schema


def get_config():
    config = schema.baseline(schema.begin_with("imagenet", "ReActNet18"), "reactnet_a")
    for stage in config.stages:
        config[stage].update(epochs=128, learning_rate=1.25e-3)
    return config
