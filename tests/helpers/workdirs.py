"""Work directories as training leaves them."""

import json

from onebnet_jax.runs import checkpoint, config
from onebnet_jax.runs.trained import random_variables

IN_STAGES = ["--config.stages=('step1', 'step2')", "--config.step1.epochs=2", "--config.step2.epochs=2"]
SMALL = ["--config.model.depth=8", "--config.model.width_multiplier=0.5"]


def measured(workdir, overrides=(), **stages):
    """Without checkpoints; stages: name -> [(seconds, train Top-1, test Top-1 or None)] by epoch."""
    fields = config.override(config.load("configs/quickstart.py"), overrides)
    workdir.mkdir(exist_ok=True)
    for name, epochs in stages.items():
        (workdir / name).mkdir()
        lines = []
        for epoch, (seconds, train, test) in enumerate(epochs, start=1):
            lines.append({"step": epoch, "split": "train", "epoch": epoch, "top1": train, "seconds": seconds})
            if test is not None:
                lines.append({"step": epoch, "split": "test", "epoch": epoch, "top1": test})
        (workdir / name / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (workdir / "config.json").write_text(fields.to_json())
    return workdir


def trained(workdir, overrides=(), stage="train", step=7, seed=0, name=checkpoint.BEST):
    """With a checkpoint of a small network, its parameters random."""
    fields = config.override(config.load("configs/quickstart.py"), [*SMALL, *overrides])
    workdir.mkdir(exist_ok=True)
    (workdir / "config.json").write_text(fields.to_json())
    run = config.experiment(fields)
    checkpoints = checkpoint.Checkpoints(workdir / stage)
    checkpoints.save(name, step, random_variables(run.structure, run.data.info.shape, seed), {"epoch": 1, "top1": 12.5})
    checkpoints.close()
    return workdir
