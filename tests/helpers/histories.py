"""Work directories as training leaves them, less their checkpoints."""

import json

from onebnet_jax.runs import config

IN_STAGES = ["--config.stages=('step1', 'step2')", "--config.step1.epochs=2", "--config.step2.epochs=2"]


def make(workdir, overrides=(), **stages):
    """Of configs/quickstart.py; stages: name -> [(seconds, train Top-1, test Top-1 or None)] by epoch."""
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
