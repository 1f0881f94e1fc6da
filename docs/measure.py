"""Measures what README's picture and the cards show of networks that we trained, and keeps it as JSON.

    .venv/bin/python docs/measure.py [IMAGENETTE RUN ...]     # writes docs/pictures/measured.json; some minutes

IMAGENETTE is the folder `all` of results/imagenette64, RUN the runs there that learned it, which are not kept; without
them these networks keep their figures. Each network is scored on all test images and timed with one thread, one image
at a time, all in turn. int8 is the FP32 network, quantized after training as `onebnet convert --int8` does it. OpenVINO
is in requirements-onnx.txt.
"""

import json
import os
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
os.environ["ONEBNET_NATIVE"] = "0"  # training's kernels are not needed
from onebnet_jax.commands import images, rivals
from onebnet_jax.commands.contenders import in_turn, processor
from onebnet_jax.commands.convert import CALIBRATION
from onebnet_jax.errors import quietly
from onebnet_jax.export import card, convert, int8, keras, lce
from onebnet_jax.native.runtime import Engine
from onebnet_jax.runs import trained
from results import cards

ROOT = Path(__file__).parents[1]
OUTPUT = ROOT / "docs" / "pictures" / "measured.json"
RUNTIMES = {"TFLite + XNNPACK": rivals.by_tflite, "OpenVINO": rivals.by_openvino}  # of networks that are not binarized


def main(imagenette: str = "", *photo_runs: str) -> None:
    found = json.loads(OUTPUT.read_text())
    runs = {}
    with quietly():
        for folder in cards.kept():
            measure(trained.load(folder), folder.name, found, runs)
        for folder in map(Path, photo_runs):
            network = trained.load(folder, "last").with_data([f"--config.data.dir={imagenette}"])
            measure(network, f"imagenette64/{folder.name}", found, runs)
        for (name, runtime), times in in_turn(runs, rounds=20, times=50).items():
            found[name].setdefault("ms", {})[runtime] = float(np.median(times))
            found[name]["processor"] = processor()
    OUTPUT.write_text(json.dumps(found, indent=2) + "\n")
    print(OUTPUT.read_text())


def measure(network: trained.Trained, name: str, found: dict, runs: dict) -> None:
    """Adds size and score of a network to `found`, of an FP32 one as int8 too; and to `runs` what runs it where."""
    stored = images.opened(network)

    def score(file: bytes) -> float:
        return int8.score(network, file, False, images.of_test(stored, 0)[1], lambda count: None)[0]

    image = card.normalize(stored.test_images[:1], network.info.mean, network.info.std)
    if network.structure.binary:
        made = convert.convert(network)
        engine, tflite = Engine(made.onb), made.tflite
        answers = engine.logits(stored.test_images).argmax(1)
        top1 = 100 * float(np.mean(answers == stored.test_labels))
        found[name] = {"bytes": len(made.onb), "top1": top1}
        runs[name, "native engine"] = rivals.Contender(lambda: engine.logits(image), len(made.onb))
        run = lce.executable(tflite, num_threads=1, use_xnnpack=True, use_indirect_bgemm=True)
        runs[name, "LCE"] = rivals.Contender(lambda: run(images=image), len(tflite))
        return
    files = {
        "FP32": int8.tflite(keras.keras_model(convert.make_plan(network))),
        "int8": int8.quantize(network, images.of_training(network, stored, CALIBRATION)),
    }
    for kind, file in files.items():
        found[f"{name} {kind}"] = {"bytes": len(file), "top1": score(file)}
        for runtime, made_by in RUNTIMES.items():
            runs[f"{name} {kind}", runtime] = made_by(file, image, threads=1)


if __name__ == "__main__":
    main(*sys.argv[1:])
