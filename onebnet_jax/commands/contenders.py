"""Times the native engine against what else runs such networks here: onebnet contenders

TypeII at 224x224 by the native engine and by Larq Compute Engine, and ResNet18, the network that it replaces, by
TensorFlow Lite with XNNPACK and by ONNX Runtime, as FP32 and as int8. All take turns in one process, one image at a
time. All parameters are random: they change no time. With several threads the engine also runs on one, and on several
images side by side, of which the time of one is given.
"""

import ctypes
import importlib.util
import os
import pathlib
import platform
import tempfile
import time
from collections.abc import Callable

import numpy as np

from onebnet_jax.commands import arguments
from onebnet_jax.errors import UserError, cli, quietly
from onebnet_jax.native import build, runtime
from onebnet_jax.tables import show

EXAMPLES = """examples:
  onebnet contenders --threads=2 --rounds=20
  onebnet contenders --held-to=avx2
"""
BEFORE = 3  # inferences that do not count, as caches and frequencies settle
REST = 0.2  # seconds before each turn, in which the threads of the one before stop looking for work
HELD_TO = ("avx512", "avx2")
SIDE_BY_SIDE = 4  # images for each thread

Run = tuple[Callable[[], object], int]  # and how many images a call takes


def main(argv: list[str]) -> None:
    parser = arguments.parser("contenders", __doc__, EXAMPLES)
    parser.add_argument("--threads", type=int, default=1, help="within an image (default 1)")
    parser.add_argument("--rounds", type=int, default=10, help="each contender runs 5 times in each (default 10)")
    parser.add_argument(
        "--held-to", choices=HELD_TO, help="hide what the CPU has beyond: AMX, or AVX-512 and all VNNI too (Linux)"
    )
    parser.add_argument("--markdown", action="store_true", help="print a Markdown table")
    args = parser.parse_args(argv)
    for name in ("threads", "rounds"):
        if getattr(args, name) < 1:
            parser.error(f"--{name} must be 1 or more")
    if args.held_to:
        hold(args.held_to)
    with quietly():  # what runs them has much to say of how
        runs = contenders(args.threads)
    times = in_turn(runs, args.rounds)
    first = np.median(next(iter(times.values())))
    rows = [["", "median (ms)", "shortest", "slower than the first by"]]
    rows += [
        [name, f"{np.median(each):.2f}", f"{min(each):.2f}", f"{np.median(each) / first:.2f}"]
        for name, each in times.items()
    ]
    held = f" held to {args.held_to}" if args.held_to else ""
    title = f"{processor()}{held}, {args.threads} threads, {5 * args.rounds} inferences each, batch 1, 224x224"
    note = "LCE's x86 kernels are reference code: this says nothing about the two on ARM."
    show(title, rows, note, markdown=args.markdown)


def contenders(threads: int) -> dict[str, Run]:
    """What runs images of each, by its name. Raises UserError where the engine, TensorFlow or LCE is missing."""
    from onebnet_jax.export import keras, lce, native
    from onebnet_jax.export.convert import make_plan
    from onebnet_jax.runs import config, trained

    image = np.random.default_rng(0).standard_normal((1, 224, 224, 3)).astype(np.float32)
    binary, resnet = (make_plan(trained.untrained(config.load(f"imagenet_{name}"))) for name in ("typeII", "fp32"))
    file, lce_file = native.pack(binary, native.pixel_table(binary, None), {}), lce.convert(keras.keras_model(binary))
    result = {}
    for name in (None, "avx2"):
        try:
            engine = runtime.Engine(file, threads, name)
        except UserError:
            if name is None:
                raise
            continue
        result[f"TypeII, native engine, {engine.instruction_set}"] = lambda engine=engine: engine.logits(image), 1
    if threads > 1:
        alone, several = runtime.Engine(file), runtime.Engine(file, threads)
        images = np.repeat(image, SIDE_BY_SIDE * threads, 0)
        result["TypeII, native engine, one thread"] = lambda: alone.logits(image), 1
        result[f"TypeII, native engine, {threads} images side by side"] = lambda: several.logits(images), len(images)
    for name, options in (("default", {}), ("indirect", {"use_indirect_bgemm": True})):
        run = lce.executable(lce_file, num_threads=threads, use_xnnpack=True, **options)
        result[f"TypeII, LCE, {name} kernel"] = lambda run=run: run(images=image), 1
    return result | by_tflite(resnet, image, threads) | by_onnx_runtime(resnet, image, threads)


def by_tflite(resnet, image: np.ndarray, threads: int) -> dict[str, Run]:
    """An FP32 network's plan, as it is and as int8."""
    from onebnet_jax.export import keras
    from onebnet_jax.export.keras2 import tf

    model, result = keras.keras_model(resnet), {}
    for name, calibration in (("FP32", None), ("int8", np.repeat(image, 4, 0))):
        file = tflite(model, image.shape[1:], calibration)
        interpreter = tf.lite.Interpreter(model_content=file, num_threads=threads)
        interpreter.allocate_tensors()
        (taken,) = interpreter.get_input_details()
        interpreter.set_tensor(taken["index"], image.astype(taken["dtype"]))
        result[f"ResNet18 {name}, TFLite + XNNPACK"] = interpreter.invoke, 1
    return result


def tflite(model, shape: tuple[int, ...], calibration: np.ndarray | None = None) -> bytes:
    """A Keras model as an ordinary .tflite file for one image, as int8 where there are images to calibrate with.

    shape is (H, W, C) of an image; calibration float32 [N, H, W, C].
    """
    from onebnet_jax.export.keras2 import tf

    @tf.function(input_signature=[tf.TensorSpec((1, *shape), tf.float32)])
    def serve(images):
        return model(images, training=False)

    converter = tf.lite.TFLiteConverter.from_concrete_functions([serve.get_concrete_function()], model)
    if calibration is not None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([image[None]] for image in calibration)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
    return converter.convert()


def by_onnx_runtime(resnet, image: np.ndarray, threads: int) -> dict[str, Run]:
    """The same; {} and a sentence where it is not installed."""
    if not all(importlib.util.find_spec(name) for name in ("onnx", "onnxruntime")):
        print("ONNX Runtime is left out: pip install onnx onnxruntime (requirements-onnx.txt has tested versions).")
        return {}
    from onnxruntime import InferenceSession, SessionOptions

    from onebnet_jax.export import onnx_graph

    options = SessionOptions()
    options.intra_op_num_threads = threads
    images, result = image.transpose(0, 3, 1, 2), {}
    model = onnx_graph.graph(resnet)
    for name, file in (("FP32", model), ("int8", onnx_graph.int8(model, images))):
        session = InferenceSession(file, options, providers=["CPUExecutionProvider"])
        run = lambda session=session: session.run(None, {"images": images})  # noqa: E731
        result[f"ResNet18 {name}, ONNX Runtime"] = run, 1
    return result


def hold(instruction_set: str) -> None:
    """From now on this process, and what it loads, finds no instructions of the CPU beyond one of HELD_TO.

    Raises UserError where cpuid cannot be trapped, see native/cpuid.c.
    """
    with tempfile.TemporaryDirectory() as folder:
        library = pathlib.Path(folder, "cpuid.so")
        source = pathlib.Path(build.__file__).with_name("cpuid.c")
        try:
            build.run([*runtime.compiler(), *runtime.FLAGS, "-shared", str(source), "-o", str(library)])
            refused = ctypes.CDLL(str(library)).hold(instruction_set == "avx2")
        except build.BuildError as error:
            raise UserError(f"Instructions cannot be hidden here: {error}; or drop --held-to.") from error
    if refused:
        raise UserError(
            f"Instructions cannot be hidden here: {os.strerror(refused)} (it takes Linux and a CPU, or a virtual "
            "machine, with CPUID faulting); drop --held-to."
        )


def in_turn(runs: dict[str, Run], rounds: int, times: int = 5) -> dict[str, list[float]]:
    """Milliseconds an image of `rounds` x `times` calls; in each round every contender runs `times` in a row."""
    for run, _ in runs.values():
        for _ in range(BEFORE):
            run()
    result = {name: [] for name in runs}
    for _ in range(rounds):
        for name, (run, images) in runs.items():
            time.sleep(REST)
            run()
            for _ in range(times):
                start = time.perf_counter()
                run()
                result[name].append(1e3 * (time.perf_counter() - start) / images)
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
