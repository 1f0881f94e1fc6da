"""The C program of docs/native_engine.md answers as Python does."""

import re
import subprocess

import engines
import numpy as np
import pytest
from PIL import Image
from small_runs import ROOT

from onebnet_jax.export import predict
from onebnet_jax.native import runtime

MODEL = ROOT / "results" / "imagenette64" / "scratch" / "model.onb"
PAGE = (ROOT / "docs" / "native_engine.md").read_text()


@pytest.mark.slow
@engines.needs_engine
def test_the_example_names_a_frame_as_python_does(tmp_path):
    (tmp_path / "frame.c").write_text(re.search(r"^```c\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)[1])
    command = re.search(r"^gcc (.*?) -o frame$", PAGE, re.MULTILINE | re.DOTALL)[1]
    command = command.replace("frame.c", str(tmp_path / "frame.c"))
    compiler = " ".join(runtime.compiler())
    subprocess.run(["bash", "-c", f"{compiler} {command} -o {tmp_path}/frame"], cwd=ROOT, check=True)
    for seed in range(3):
        small = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
        frame = Image.fromarray(small).resize((640, 480), Image.Resampling.BICUBIC)
        frame.save(tmp_path / "frame.png")
        (tmp_path / "frame.rgb").write_bytes(np.asarray(frame).tobytes())
        (expected,) = predict.predict(MODEL, [tmp_path / "frame.png"])
        given = [tmp_path / "frame", MODEL, tmp_path / "frame.rgb"]
        printed = subprocess.run(given, capture_output=True, text=True, check=True).stdout
        assert printed == f"{expected.label} {expected.probability:.4f}\n"


@engines.needs_engine
def test_the_example_is_compiled_without_a_warning_of_its_own(tmp_path):
    (tmp_path / "frame.c").write_text(re.search(r"^```c\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)[1])
    flags = ["-std=c11", "-Wall", "-Wextra", "-Wno-unused-function", "-Werror", "-fsyntax-only"]
    given = [*runtime.compiler(), *flags, f"-I{runtime.SOURCES}", str(tmp_path / "frame.c")]
    subprocess.run(given, check=True)
