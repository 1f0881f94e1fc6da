"""Measures what README's picture and table show of the FashionMNIST networks in results/, and keeps it as JSON.

    .venv/bin/python docs/measure.py          # writes docs/pictures/measured.json; some minutes

Each network is scored on all 10,000 test images and timed with one thread, one image at a time, all in turn. int8 is
the FP32 network, quantized after training by TensorFlow Lite with 500 training images.
"""

import json
import os
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
os.environ["ONEBNET_NATIVE"] = "0"  # training's kernels are not needed
from onebnet_jax.commands.contenders import in_turn, processor, tflite
from onebnet_jax.errors import quietly
from onebnet_jax.export import card, convert, keras, lce, native
from onebnet_jax.export.keras2 import tf
from onebnet_jax.native.runtime import Engine
from onebnet_jax.runs import trained

ROOT = Path(__file__).parents[1]
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


def main() -> None:
    fp32 = trained.load(ROOT / "results" / "fashionmnist_fp32")
    data = fp32.data.open()
    pixels = data.test_images, data.train_images[:500]
    images, calibration = (card.normalize(each, fp32.info.mean, fp32.info.std) for each in pixels)
    labels, runs, found = data.test_labels, {}, {}

    def add(name: str, size: int, correct: float, run) -> None:
        found[name] = {"bytes": size, "top1": 100 * float(correct)}
        runs[name] = run, 1

    with quietly():
        model = keras.keras_model(convert.make_plan(fp32))
        for name, sample in (("FP32", None), ("int8", calibration)):
            file = tflite(model, fp32.info.shape, sample)
            interpreter = Interpreter(file)
            score = np.mean([interpreter(image[None]) == label for image, label in zip(images, labels)])
            add(f"ResNet20 {name}, TFLite + XNNPACK", len(file), score, interpreter.inner.invoke)
        for folder in ("fashionmnist_ds32_64", "fashionmnist_conv64_ds64"):
            ours = trained.load(ROOT / "results" / folder)
            file = native.pack(*native.convert(ours))
            engine = Engine(file)
            score = np.mean(engine.logits(images).argmax(1) == labels)
            add(f"{folder}, native engine", len(file), score, lambda engine=engine: engine.logits(images[:1]))
            file = (ROOT / "results" / folder / "model.tflite").read_bytes()
            found[f"{folder}, LCE"] = {"bytes": len(file)}
            run = lce.executable(file, num_threads=1, use_xnnpack=True, use_indirect_bgemm=True)
            runs[f"{folder}, LCE"] = lambda run=run: run(images=images[:1]), 1
        for name, times in in_turn(runs, rounds=20).items():
            found[name]["ms"] = float(np.median(times))
    OUTPUT.write_text(json.dumps({"processor": processor(), "networks": found}, indent=2) + "\n")
    print(OUTPUT.read_text())


if __name__ == "__main__":
    main()
