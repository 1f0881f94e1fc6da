"""Another name of `python -m onebnet_jax.table1`."""

import runpy

if __name__ == "__main__":
    runpy.run_module("onebnet_jax.commands.table1", run_name="__main__")
