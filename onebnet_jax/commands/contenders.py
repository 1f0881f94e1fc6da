"""Times the native engine against what else runs such networks here: onebnet contenders

TypeII at 224x224 by the native engine and by Larq Compute Engine, and ResNet18, the network that it replaces, by
TensorFlow Lite with XNNPACK as FP32 and as int8. All take turns in one process, one image at a time. All parameters are
random: they change no time.
"""

import platform
import time
from collections.abc import Callable

import numpy as np

from onebnet_jax.commands import arguments
from onebnet_jax.errors import UserError, cli
from onebnet_jax.tables import show

EXAMPLES = """examples:
  onebnet contenders --threads=2 --rounds=20
"""
BEFORE = 3  # inferences that do not count, as caches and frequencies settle


def main(argv: list[str]) -> None:
    parser = arguments.parser("contenders", __doc__, EXAMPLES)
    parser.add_argument("--threads", type=int, default=1, help="within an image (default 1)")
    parser.add_argument("--rounds", type=int, default=10, help="each contender runs 5 times in each (default 10)")
    parser.add_argument("--markdown", action="store_true", help="print a Markdown table")
    args = parser.parse_args(argv)
    for name in ("threads", "rounds"):
        if getattr(args, name) < 1:
            parser.error(f"--{name} must be 1 or more")
    times = in_turn(contenders(args.threads), args.rounds)
    first = np.median(next(iter(times.values())))
    rows = [["", "median (ms)", "shortest", "slower than the first by"]]
    rows += [
        [name, f"{np.median(each):.2f}", f"{min(each):.2f}", f"{np.median(each) / first:.2f}"]
        for name, each in times.items()
    ]
    title = f"{processor()}, {args.threads} threads, {5 * args.rounds} inferences each, batch 1, 224x224"
    note = "LCE's x86 kernels are reference code: this says nothing about the two on ARM."
    show(title, rows, note, markdown=args.markdown)


def contenders(threads: int) -> dict[str, Callable[[], object]]:
    """What runs one image of each, by its name. Raises UserError where the engine, TensorFlow or LCE is missing."""
    from onebnet_jax.export import keras, lce, native
    from onebnet_jax.export.convert import make_plan
    from onebnet_jax.export.keras2 import tf
    from onebnet_jax.native.runtime import Engine
    from onebnet_jax.runs import config, trained

    image = np.random.default_rng(0).standard_normal((1, 224, 224, 3)).astype(np.float32)

    def plan(name):
        return make_plan(trained.untrained(config.load(name)))

    binary, resnet = plan("imagenet_typeII"), keras.keras_model(plan("imagenet_fp32"))
    file, tflite = native.pack(binary, native.pixel_table(binary, None), {}), lce.convert(keras.keras_model(binary))
    result = {}
    for name in (None, "avx2"):
        try:
            engine = Engine(file, threads, name)
        except UserError:
            if name is None:
                raise
            continue
        result[f"TypeII, native engine, {engine.instruction_set}"] = lambda engine=engine: engine.logits(image)
    for name, options in (("default", {}), ("indirect", {"use_indirect_bgemm": True})):
        run = lce.executable(tflite, num_threads=threads, use_xnnpack=True, **options)
        result[f"TypeII, LCE, {name} kernel"] = lambda run=run: run(images=image)

    @tf.function(input_signature=[tf.TensorSpec(image.shape, tf.float32)])
    def serve(images):
        return resnet(images, training=False)

    for name in ("FP32", "int8"):
        converter = tf.lite.TFLiteConverter.from_concrete_functions([serve.get_concrete_function()], resnet)
        if name == "int8":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = lambda: ([image] for _ in range(4))
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.inference_input_type = converter.inference_output_type = tf.int8
        interpreter = tf.lite.Interpreter(model_content=converter.convert(), num_threads=threads)
        interpreter.allocate_tensors()
        (taken,) = interpreter.get_input_details()
        interpreter.set_tensor(taken["index"], image.astype(taken["dtype"]))
        result[f"ResNet18 {name}, TFLite + XNNPACK"] = interpreter.invoke
    return result


def in_turn(runs: dict[str, Callable[[], object]], rounds: int, times: int = 5) -> dict[str, list[float]]:
    """Milliseconds of each of `rounds` x `times` calls; in each round every contender runs `times` in a row."""
    for run in runs.values():
        for _ in range(BEFORE):
            run()
    result = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            run()
            for _ in range(times):
                start = time.perf_counter()
                run()
                result[name].append(1e3 * (time.perf_counter() - start))
    return result


def processor() -> str:
    """Its name, where the system tells."""
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.split(":")[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


if __name__ == "__main__":
    cli(main)
