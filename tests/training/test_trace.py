"""Where the time of a trace went."""

import gzip
import json

import jax.numpy as jnp
import pytest

from onebnet_jax.training import trace


def test_time_is_told_apart_by_kernel_and_kind(tmp_path):
    def span(name, microseconds, thread=1):
        return {"ph": "X", "pid": 7, "tid": thread, "name": name, "dur": microseconds}

    names = [
        {"ph": "M", "pid": 7, "tid": tid, "name": "thread_name", "args": {"name": name}}
        for tid, name in [(1, "tf_XLAEigen/3"), (2, "python")]
    ]
    spans = [span("ffi_call.3", 5e5), span("ffi_call.3", 5e5), span("convolution.1", 2e5), span("dot.4", 1e5)]
    spans += [span("add_fusion", 1e5), span("ffi_call.9", 4e5), span("a function", 9e6, thread=2), {"name": "counter"}]
    spans += [span("ThunkExecutor::Execute", 9e6), span("call.5", 9e6)]  # hold others
    events = json.dumps({"traceEvents": [*names, *spans]})
    (tmp_path / "perfetto_trace.json.gz").write_bytes(gzip.compress(events.encode()))
    compiled = """
      %ffi_call.3 = s16[2]{0} custom-call(f32[2]{0} %x), custom_call_target="onebnet_forward", api_version=4
      ffi_call.9 = (f32[2]{0}) custom-call(f32[2]{0} x), custom_call_target="onebnet_tail_forward"
    """
    assert list(trace.spent(tmp_path, compiled).items()) == [
        ("kernel forward", 1.0),
        ("kernel tail_forward", 0.4),
        ("XLA: convolutions and matrix products", 0.30000000000000004),
        ("XLA: everything else", 0.1),
    ]


def test_tensorflow_works_during_and_after_a_trace(tmp_path):
    """JAX's profiler and TensorFlow share a module."""
    tf = pytest.importorskip("tensorflow")

    @tf.function
    def padded(x):
        return tf.pad(x, ((0, 1),))

    trace.start(tmp_path)
    jnp.ones(3).block_until_ready()
    assert padded(tf.ones(2)).shape == (3,)
    trace.stop()
    assert padded(tf.ones(3)).shape == (4,)
