"""Real-to-Bin with ResNet18 on ImageNet, in three steps: 65.4 % Top-1, 86.2 % Top-5 (paper, Tables 2 and 3).

    python -m onebnet_jax.main --config=configs/imagenet_fp32.py --config.data.dir=DIR
    python -m onebnet_jax.main --config=configs/imagenet_realtobin.py:1 --config.data.dir=DIR
    python -m onebnet_jax.main --config=configs/imagenet_realtobin.py:2 --config.data.dir=DIR
    python -m onebnet_jax.main --config=configs/imagenet_realtobin.py:3 --config.data.dir=DIR

Each step is a run of its own and learns from the one before, step 1 from the FP32 network. Step 1 has float weights and
a tanh in place of the sign, step 2 float weights, step 3 goes on from step 2 with both binarized. Its storage is 5.13
MiB, its OPs are 164.3 M. The recipe is that of Larq Zoo's code (https://github.com/larq/zoo), whose network reached
65.0 %; the schedule is its other one, a cosine. It normalizes with an epsilon of 1e-3 and a momentum of 0.99.
"""

from onebnet_jax.errors import one_of
from onebnet_jax.runs import schema


def get_config(step="3"):
    one_of("step", step, ("1", "2", "3"))
    config = schema.get_config()
    config.model.stem = "imagenet"
    config.model.pad_value = 0
    schema.baseline(config, "realtobin")
    config.data.name = "imagenet2012"
    config.data.flip = True
    config.train.update(epochs=75, warmup_epochs=5, schedule="cosine", label_smoothing=0.0)
    if step == "3":
        config.train.update(learning_rate=2e-4, teacher_weight=0.8)
        config.teacher = config.init = "runs/imagenet_realtobin_2"
        return config
    config.train.update(binarize_weights=False, weight_decay=1e-5, teacher_weight=3.0, attention_weight=30.0)
    config.teacher = "runs/imagenet_realtobin_1"
    if step == "1":
        config.train.binarize_activations = False
        config.model.soft_sign = "tanh"
        config.teacher = "runs/imagenet_fp32"
    return config
