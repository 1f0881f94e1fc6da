"""XNOR-Net with ResNet18 on ImageNet, in one stage without a teacher: 51.2 % Top-1, 73.2 % Top-5 (paper, Table 2).

    onebnet train --config=imagenet_xnornet --config.data.dir=DIR

Its storage is 4.00 MiB (Table 3), its OPs are 164.0 M. Its authors published no ResNet; 58 epochs in batches of 256 are
their paper's (Rastegari et al. 2016); Adam beginning with 1e-3, no smoothing of labels, and binarized weights whose
mean over the input channels is taken away after each step are their AlexNet's. The schedule is linear, where theirs
goes down in steps.
"""

from onebnet_jax.runs import schema


def get_config():
    config = schema.get_config()
    config.model.family = "xnornet"
    config.model.stem = "imagenet"
    config.model.pad_value = 0
    config.model.estimator = "clip"
    config.data.name = "imagenet2012"
    config.data.flip = True
    config.train.epochs = 58
    config.train.label_smoothing = 0.0
    config.train.centre_weights = True
    return config
