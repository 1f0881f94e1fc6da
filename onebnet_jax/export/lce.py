"""Larq Compute Engine: a Keras model as a .tflite file, what is in such a file, and running it."""

import collections
import contextlib
import dataclasses
import tempfile
import time
from collections.abc import Callable, Iterator

import numpy as np
from flatbuffers import flexbuffers

from onebnet_jax.errors import check_numpy, quietly
from onebnet_jax.export.keras2 import larq_compute_engine, schema, tf

BUILTIN_NAMES = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}


@dataclasses.dataclass(frozen=True)
class Operator:
    """One operator of a .tflite file."""

    kind: str  # "CONV_2D", "LceBconv2d", and so on
    tensor: str  # name of its output, in which the converter keeps the names of the Keras layers
    shapes: tuple[tuple[int, ...], ...]  # of its inputs
    options: dict  # of a custom operator, such as LceBconv2d's padding and strides; empty for others


def convert(model: tf.keras.Model) -> bytes:
    """The .tflite file of a Keras model, as LCE's converter makes it for ARM, with batches of one.

    LCE's convert_keras_model traces every layer many times and takes five times as long, for the same file.
    """
    with saved(model) as folder:
        return larq_compute_engine.convert_saved_model(folder)


@contextlib.contextmanager
def saved(model: tf.keras.Model) -> Iterator[str]:
    """The folder of a Keras model for batches of one, as TensorFlow saves it; there only within the context."""
    inputs = zip(model.input_names, model.inputs, strict=True)
    specs = [tf.TensorSpec((1, *tensor.shape[1:]), tensor.dtype, name) for name, tensor in inputs]

    @tf.function(input_signature=specs)
    def serve(*inputs):
        outputs = model(inputs if len(inputs) > 1 else inputs[0], training=False)
        return outputs if isinstance(outputs, dict) else {model.output_names[0]: outputs}

    module = tf.Module()
    module.variables_of_model, module.serve = model.variables, serve
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder, signatures=serve)
        yield folder


def executable(tflite: bytes, **options) -> Callable[..., dict[str, np.ndarray]]:
    """The file as a function of batches, run by LCE's interpreter: one argument per input, results by name.

    Inputs and outputs are named after the Keras layers: run(images=x)["head"]. On x86-64 the binary kernels are
    LCE's reference code: right, and slow. Options: num_threads, use_reference_bconv, use_indirect_bgemm, use_xnnpack.
    """
    model = schema.ModelT.InitFromPackedBuf(tflite)
    graph, signature = model.subgraphs[0], model.signatureDefs[0]
    names = {tensor.tensorIndex: tensor.name.decode() for tensor in [*signature.inputs, *signature.outputs]}
    interpreter = _interpreter(tflite, **options)

    def run(**inputs):
        ordered = [np.asarray(inputs[names[index]], np.float32) for index in graph.inputs]
        outputs = interpreter.predict(ordered if len(ordered) > 1 else ordered[0])
        outputs = outputs if len(graph.outputs) > 1 else [outputs]
        return {names[index]: output for index, output in zip(graph.outputs, outputs, strict=True)}

    return run


def _interpreter(tflite: bytes, **options):
    """LCE's interpreter. Raises UserError beside a NumPy of which its compiled code reads arrays as empty."""
    check_numpy()
    with quietly():
        return larq_compute_engine.testing.Interpreter(tflite, **options)


def timings(tflite: bytes, count: int, **options) -> list[float]:
    """Milliseconds to load a file, then of each of `count` inferences on floats in [0, 1), or on integers of 0.

    Options as above. Raises RuntimeError or ValueError for a file that the interpreter cannot run.
    """
    start = time.perf_counter()
    interpreter = _interpreter(tflite, **options)
    milliseconds, rng = [1e3 * (time.perf_counter() - start)], np.random.default_rng(0)
    kinds = zip(interpreter.input_shapes, interpreter.input_types, strict=True)
    inputs = [rng.random(shape).astype(dtype) for shape, dtype in kinds]
    for _ in range(count):
        start = time.perf_counter()
        interpreter.predict(inputs)
        milliseconds.append(1e3 * (time.perf_counter() - start))
    return milliseconds


def operators(tflite: bytes) -> list[Operator]:
    """The operators of a file, in order."""
    model, result = schema.ModelT.InitFromPackedBuf(tflite), []
    graph = model.subgraphs[0]
    for operator in graph.operators:
        code, custom = model.operatorCodes[operator.opcodeIndex], operator.customOptions
        kind = BUILTIN_NAMES[max(code.builtinCode, code.deprecatedBuiltinCode)]
        if kind == "CUSTOM":
            kind = code.customCode.decode()
        options = flexbuffers.Loads(bytes(custom)) if custom is not None and len(custom) else {}
        shapes = tuple(tuple(map(int, graph.tensors[i].shape)) for i in operator.inputs if i >= 0)
        result.append(Operator(kind, graph.tensors[operator.outputs[0]].name.decode(), shapes, options))
    return result


def histogram(operators: list[Operator]) -> dict[str, int]:
    """How many there are of each kind."""
    return dict(sorted(collections.Counter(operator.kind for operator in operators).items()))
