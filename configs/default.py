"""Every field at its default: not meant to be trained as it stands. onebnet_jax/runs/schema.py says what each means."""

from onebnet_jax.runs.schema import get_config as get_config
