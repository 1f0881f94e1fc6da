"""OneBNet in JAX: binarized CNNs with decomposed 1-D convolutions, from training to the Raspberry Pi.

import onebnet_jax

structure = onebnet_jax.families.onebnet(depth=20, ds_1d=(32, 64), channels=1)
network = onebnet_jax.Network(structure)                      # a Flax module, for a loop of your own
trained = onebnet_jax.train("quickstart", "runs/quickstart")  # or: onebnet_jax.load("runs/quickstart")
onebnet_jax.evaluate(trained)                                 # {"loss": ..., "top1": ..., "top5": ...}
onebnet_jax.convert(trained).save("model.onb")                # or, for Larq Compute Engine, "model.tflite"
onebnet_jax.predict("model.onb", ["photo.jpg"])               # [(label, probability, probabilities), ...]
"""

import importlib

__version__ = "0.1.0"  # pyproject.toml takes it from here

# Public name -> where it is defined. Imported when it is first used, so that the package itself takes no time.
_API = {
    "Binarization": "networks.structure:Binarization",
    "Engine": "native.runtime:Engine",
    "Network": "networks.network:Network",
    "Structure": "networks.structure:Structure",
    "Trained": "runs.trained:Trained",
    "Unit": "networks.structure:Unit",
    "UserError": "errors:UserError",
    "convert": "export.convert:convert",
    "cost": "api:cost",
    "evaluate": "api:evaluate",
    "families": "networks.families",
    "load": "runs.trained:load",
    "predict": "export.predict:predict",
    "train": "api:train",
    "untrained": "api:untrained",
}


def __getattr__(name: str):
    if name not in _API:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, attribute = _API[name].partition(":")
    found = importlib.import_module(f"{__name__}.{module}")
    globals()[name] = getattr(found, attribute) if attribute else found
    return globals()[name]


def __dir__():
    return sorted({*globals(), *_API})
