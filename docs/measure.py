"""Measures what README's picture and table show of the networks in results/, and keeps it as JSON.

    .venv/bin/python docs/measure.py [IMAGENETTE FP32]     # writes docs/pictures/measured.json; some minutes

IMAGENETTE is the folder `all` of results/imagenette64, FP32 the run there that is too large to be kept; without them
these networks keep their figures. Each network is scored on all test images and timed with one thread, one image at a
time, all in turn. int8 is the FP32 network, quantized after training by TensorFlow Lite with 500 training images.
"""

import dataclasses
import json
import os
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
os.environ["ONEBNET_NATIVE"] = "0"  # training's kernels are not needed
from onebnet_jax.commands.contenders import in_turn, processor
from onebnet_jax.commands.rivals import Contender
from onebnet_jax.errors import quietly
from onebnet_jax.export import card, convert, int8, keras, lce
from onebnet_jax.export.keras2 import tf
from onebnet_jax.native.runtime import Engine
from onebnet_jax.runs import trained

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results"
OUTPUT = ROOT / "docs" / "pictures" / "measured.json"


class Interpreter:
    """TensorFlow Lite with XNNPACK and one thread."""

    def __init__(self, file: bytes):
        self.inner = tf.lite.Interpreter(model_content=file, num_threads=1)
        self.inner.allocate_tensors()
        (self.taken,), (self.given,) = self.inner.get_input_details(), self.inner.get_output_details()

    def __call__(self, image: np.ndarray) -> int:
        """The class of a float32 image [1, H, W, C]."""
        scale, zero = self.taken["quantization"]
        if scale:
            image = np.clip(np.round(image / scale + zero), -128, 127).astype(self.taken["dtype"])
        self.inner.set_tensor(self.taken["index"], image)
        self.inner.invoke()
        return int(self.inner.get_tensor(self.given["index"])[0].argmax())


def main(imagenette: str = "", fp32: str = "") -> None:
    found = json.loads(OUTPUT.read_text())["networks"]
    runs = {}
    with quietly():
        ours = "fashionmnist_ds32_64", "fashionmnist_conv64_ds64"
        measure("ResNet20", RESULTS / "fashionmnist_fp32", ours, found, runs)
        if imagenette:
            measure("ResNet10", Path(fp32), ("imagenette64/scratch",), found, runs, imagenette)
        for name, times in in_turn(runs, rounds=20).items():
            found[name]["ms"] = float(np.median(times))
    OUTPUT.write_text(json.dumps({"processor": processor(), "networks": found}, indent=2) + "\n")
    print(OUTPUT.read_text())


def measure(title: str, reference: Path, folders: tuple[str, ...], found: dict, runs: dict, place: str = "") -> None:
    """Adds sizes and scores of an FP32 network, as int8 too, and of 1-bit ones to `found`; to `runs` what runs them.

    place: the folder of images, where it is not the run's own.
    """
    fp32 = trained.load(reference)
    data = dataclasses.replace(fp32.data, **({"dir": place} if place else {})).open()
    pixels = data.test_images, data.train_images[:500]
    images, calibration = (card.normalize(each, fp32.info.mean, fp32.info.std) for each in pixels)

    def add(name: str, size: int, answers, run) -> None:
        found[name] = {"bytes": size, "top1": 100 * float(np.mean(np.asarray(answers) == data.test_labels))}
        runs[name] = Contender(run, size)

    model = keras.keras_model(convert.make_plan(fp32))
    for name, sample in (("FP32", None), ("int8", calibration)):
        file = int8.tflite(model, sample)
        interpreter = Interpreter(file)
        answers = [interpreter(image[None]) for image in images]
        add(f"{title} {name}, TFLite + XNNPACK", len(file), answers, interpreter.inner.invoke)
    for folder in folders:
        ours = trained.load(RESULTS / folder)
        engine_images = card.normalize(pixels[0], ours.info.mean, ours.info.std)
        file = (RESULTS / folder / "model.onb").read_bytes()
        engine = Engine(file)
        run = lambda engine=engine, image=engine_images[:1]: engine.logits(image)  # noqa: E731
        add(f"{folder}, native engine", len(file), engine.logits(engine_images).argmax(1), run)
        file = (RESULTS / folder / "model.tflite").read_bytes()
        found[f"{folder}, LCE"] = {"bytes": len(file)}
        run = lce.executable(file, num_threads=1, use_xnnpack=True, use_indirect_bgemm=True)
        call = lambda run=run, image=engine_images[:1]: run(images=image)  # noqa: E731
        runs[f"{folder}, LCE"] = Contender(call, len(file))


if __name__ == "__main__":
    main(*sys.argv[1:])
