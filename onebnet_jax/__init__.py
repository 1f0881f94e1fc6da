"""OneBNet in JAX: binarized CNNs with decomposed 1-D convolutions, from training to the Raspberry Pi.

    import onebnet_jax

    structure = onebnet_jax.families.onebnet(depth=20, ds_1d=(32, 64), channels=1)
    network = onebnet_jax.Network(structure)                      # a Flax module, for a loop of your own
    trained = onebnet_jax.train("quickstart", "runs/quickstart")  # or: onebnet_jax.load("runs/quickstart")
    onebnet_jax.convert(trained).save("model.tflite")

Nothing is imported before it is used.
"""

import importlib
from pathlib import Path

# Public name -> where it is defined.
_API = {
    "Binarization": "networks.structure:Binarization",
    "Network": "networks.network:Network",
    "Structure": "networks.structure:Structure",
    "Trained": "runs.trained:Trained",
    "Unit": "networks.structure:Unit",
    "UserError": "errors:UserError",
    "agree": "export.verify:agree",
    "convert": "export.convert:convert",
    "cost": "networks.cost:cost",
    "evaluate": "training.run:evaluate",
    "families": "networks.families",
    "load": "runs.trained:load",
    "predict": "export.convert:predict",
    "train": "training.run:train_config",
    "untrained": "runs.trained:untrained_config",
}
__all__ = sorted(_API)  # noqa: PLE0605

# Every command can be run by its name alone: `python -m onebnet_jax.convert` finds commands/convert.py.
__path__.append(str(Path(__file__).parent / "commands"))


def __getattr__(name: str):
    if name not in _API:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, attribute = _API[name].partition(":")
    found = importlib.import_module(f"{__name__}.{module}")
    return getattr(found, attribute) if attribute else found


def __dir__():
    return sorted({*globals(), *_API})
