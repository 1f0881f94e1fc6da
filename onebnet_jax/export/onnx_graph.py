"""An FP32 network as ONNX, and that as int8: what ONNX Runtime, the other runtime for CPUs, is timed with."""

import tempfile
from pathlib import Path

import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper

from onebnet_jax.errors import UserError
from onebnet_jax.export.plan import Conv, Pads, Plan

OPSET, IR_VERSION = 17, 9  # what ONNX Runtime has read since 1.16


def graph(plan: Plan) -> bytes:
    """An ONNX file that takes "images", float32 [1, C, H, W], and gives "logits". UserError for binarized networks."""
    nodes, constants, maps = [], [], ["images"]  # maps[k]: what unit number k takes

    def node(kind: str, inputs: list[str], **attributes) -> str:
        nodes.append(helper.make_node(kind, inputs, [f"{kind}_{len(nodes)}"], **attributes))
        return nodes[-1].output[0]

    def constant(values: np.ndarray) -> str:
        values = np.ascontiguousarray(values, np.float32)
        constants.append(numpy_helper.from_array(values, f"constant_{len(constants)}"))
        return constants[-1].name

    def conv(x: str, of: Conv) -> str:
        arrays = [constant(of.kernel.transpose(3, 2, 0, 1)), constant(of.bias)]
        return node("Conv", [x, *arrays], kernel_shape=of.kernel.shape[:2], strides=of.strides, **padding(of.pads))

    for unit in plan.units:
        shifts = (unit.affine, unit.threshold, unit.gamma, unit.beta, unit.zeta)
        if unit.sign or any(values is not None for values in shifts):
            raise UserError(f"Only FP32 networks become ONNX graphs; {unit.name} is binarized.")
        y = conv(maps[-1], unit.conv)
        if shortcut := unit.shortcut:
            x = maps[-shortcut.span]
            if shortcut.pool != (1, 1):
                x = node("AveragePool", [x], kernel_shape=shortcut.pool, strides=shortcut.pool, auto_pad="SAME_UPPER")
            y = node("Add", [y, conv(x, shortcut.conv) if shortcut.conv else x])
        y = node("Relu", [y]) if unit.relu else y
        if unit.max_pool:
            y = node("MaxPool", [y], kernel_shape=(3, 3), strides=(2, 2), **padding(unit.pool_pads))
        maps.append(y)
    means = node("Flatten", [node("GlobalAveragePool", [maps[-1]])])
    nodes.append(helper.make_node("Gemm", [means, constant(plan.head_kernel), constant(plan.head_bias)], ["logits"]))
    height, width, channels = plan.image_shape
    taken = helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, channels, height, width])
    given = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, plan.head_bias.size])
    whole = helper.make_graph(nodes, "network", [taken], [given], constants)
    model = helper.make_model(whole, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    checker.check_model(model, full_check=True)
    return model.SerializeToString()


def padding(pads: Pads | None) -> dict:
    """A plan's padding as attributes of an ONNX operator."""
    return {"auto_pad": "SAME_UPPER"} if pads is None else {"pads": [pads[0][0], pads[1][0], pads[0][1], pads[1][1]]}


def int8(model: bytes, images: np.ndarray, signed: bool = False, reduced: bool = False) -> bytes:
    """The same network by ONNX Runtime's static quantization: a scale for each output channel of a kernel.

    images: float32 [N, C, H, W], of which the ranges of the maps are taken. signed: whether maps are signed, as ARM
    multiplies them; x86 (VNNI) multiplies unsigned maps with signed weights. reduced: weights of 7 bits, as with 8 sums
    overflow on x86 without VNNI.
    """
    from onnxruntime import quantization

    class Reader(quantization.CalibrationDataReader):
        rest = iter([{"images": image[None]} for image in images])

        def get_next(self):
            return next(self.rest, None)

    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder, "float.onnx"), Path(folder, "int8.onnx")
        before.write_bytes(model)
        kinds = {"weight_type": quantization.QuantType.QInt8}
        kinds["activation_type"] = quantization.QuantType.QInt8 if signed else quantization.QuantType.QUInt8
        quantization.quantize_static(before, after, Reader(), per_channel=True, reduce_range=reduced, **kinds)
        return after.read_bytes()
