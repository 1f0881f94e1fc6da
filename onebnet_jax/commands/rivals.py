"""What the native engine is timed against: networks that are not binarized, by the usual runtimes for CPUs."""

import dataclasses
import importlib.util
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

MOBILENETS = "MobileNetV2", "MobileNetV3Small"  # of Keras


@dataclasses.dataclass(frozen=True)
class Contender:
    """A network in a runtime."""

    run: Callable[[], object]
    bytes: int  # of the network's file
    images: int = 1  # that a call of `run` takes

    @property
    def mib(self) -> float:
        return self.bytes / 2**20


def all_of(resnet, image: np.ndarray, threads: int) -> dict[str, Contender]:
    """ResNet18 of an FP32 plan, and MOBILENETS, as FP32 and as int8 by each runtime that is installed.

    image: float32 [1, 224, 224, 3]. Prints what to install for a runtime that is not.
    """
    from onebnet_jax.export import int8, keras

    models = {"ResNet18": keras.keras_model(resnet)} | {name: int8.mobilenet(name) for name in MOBILENETS}
    files = {}
    for name, model in models.items():
        files[f"{name} FP32"] = int8.tflite(model)
        files[f"{name} int8"] = int8.tflite(model, np.repeat(image, 4, 0))
    result = {f"{name}, TFLite + XNNPACK": by_tflite(file, image, threads) for name, file in files.items()}
    graphs = onnx_files(resnet, image) if _installed("ONNX Runtime", "onnx", "onnxruntime") else {}
    result |= {f"{name}, ONNX Runtime": by_onnx_runtime(file, image, threads) for name, file in graphs.items()}
    if _installed("OpenVINO", "openvino"):
        mobile = {name: file for name, file in files.items() if name.startswith(MOBILENETS)}
        result |= {f"{name}, OpenVINO": by_openvino(file, image, threads) for name, file in (mobile | graphs).items()}
    return result


def _installed(title: str, *packages: str) -> bool:
    """Whether packages are there; says so where one is not."""
    there = all(importlib.util.find_spec(package) for package in packages)
    if not there:
        print(f"{title} is left out: pip install {' '.join(packages)} (requirements-onnx.txt has tested versions).")
    return there


def onnx_files(resnet, image: np.ndarray) -> dict[str, bytes]:
    """ResNet18 as ONNX graphs, which take [1, 3, 224, 224]."""
    from onebnet_jax.export import onnx_graph

    graph = onnx_graph.graph(resnet)
    return {"ResNet18 FP32": graph, "ResNet18 int8": onnx_graph.int8(graph, image.transpose(0, 3, 1, 2))}


def by_tflite(file: bytes, image: np.ndarray, threads: int) -> Contender:
    from onebnet_jax.export.keras2 import tf

    interpreter = tf.lite.Interpreter(model_content=file, num_threads=threads)
    interpreter.allocate_tensors()
    (taken,) = interpreter.get_input_details()
    interpreter.set_tensor(taken["index"], image.astype(taken["dtype"]))
    return Contender(interpreter.invoke, len(file))


def by_onnx_runtime(file: bytes, image: np.ndarray, threads: int) -> Contender:
    from onnxruntime import InferenceSession, SessionOptions

    options = SessionOptions()
    options.intra_op_num_threads = threads
    session, images = InferenceSession(file, options, providers=["CPUExecutionProvider"]), image.transpose(0, 3, 1, 2)
    return Contender(lambda: session.run(None, {"images": images}), len(file))


def by_openvino(file: bytes, image: np.ndarray, threads: int) -> Contender:
    """Of an ONNX graph or a .tflite file."""
    import openvino

    core, settings = openvino.Core(), {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    settings["INFERENCE_PRECISION_HINT"] = "f32"  # of what is not int8, which would else be bfloat16 beside AMX
    with tempfile.TemporaryDirectory() as folder:  # a .tflite file is read by its name only
        path = Path(folder, "network.tflite" if file[4:8] == b"TFL3" else "network.onnx")
        path.write_bytes(file)
        request = core.compile_model(core.read_model(path), "CPU", settings).create_infer_request()
    taken = request.model_inputs[0]
    images = image if taken.shape[-1] == image.shape[-1] else image.transpose(0, 3, 1, 2)
    images = images.astype(taken.element_type.to_dtype())
    return Contender(lambda: request.infer({0: images}), len(file))
