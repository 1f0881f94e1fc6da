"""OneBNet in JAX: binarized CNNs with decomposed 1-D convolutions, from training to the Raspberry Pi."""
