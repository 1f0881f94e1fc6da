"""Builds docs/demo/index.html: the native engine as WebAssembly, a trained network and a page around them, in one file.

    python -m launch.demo.build [OUTPUT]      run in the clone's folder; apt install clang lld wasi-libc

Open the file in a browser, from the disk or from a server; it loads nothing else.
"""

import argparse
import base64
import json
import pathlib
import re
import tempfile

import numpy as np

from onebnet_jax.errors import UserError, cli
from onebnet_jax.export import native
from onebnet_jax.native import build, runtime
from onebnet_jax.runs import trained

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[1]
PAGE = ROOT / "docs" / "demo" / "index.html"
RUN = "results/fashionmnist_ds32_64"
EMBEDDED = ROOT / "onebnet_jax" / "data" / "embedded"
EXPORTS = ("describe", "shape", "memory", "init", "run", "look", "set", "error")
MISSED = 2  # samples that the network gets wrong


def main(argv: list[str]) -> None:
    """Writes the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", nargs="?", type=pathlib.Path, default=PAGE, metavar="OUTPUT")
    output = parser.parse_args(argv).output
    network = trained.load(ROOT / RUN)
    network.origin["workdir"] = RUN  # as a card names it: no path of this machine
    file = native.pack(*native.convert(network))
    text = page(facts(network, file, compiled()))
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(text)
    print(f"{output}: {len(text.encode()) / 1024:.0f} KiB")


def compiled() -> bytes:
    """The engine as WebAssembly. Raises UserError where no compiler or library for it is installed."""
    flags = [flag for flag in runtime.FLAGS if flag != "-fPIC"]
    names = (f"-Wl,--export=onebnet_{name}" for name in EXPORTS)
    with tempfile.TemporaryDirectory() as scratch:
        output = pathlib.Path(scratch, "engine.wasm")
        target = ["clang", "--target=wasm32-wasi", "-mexec-model=reactor", "-msimd128"]
        link = [*names, "-Wl,--export=__heap_base", "-Wl,--strip-all", "-o", output]
        try:
            build.run([*target, *flags, *runtime.sources(), *link])
        except (build.BuildError, OSError) as error:
            raise UserError(f"No WebAssembly: {error} (apt install clang lld wasi-libc)") from error
        return output.read_bytes()


def facts(network: trained.Trained, file: bytes, wasm: bytes) -> dict:
    """What the page is made of, JSON values: the network's `file`, the engine, samples and the names of units."""
    units = [unit for unit in network.structure.units if unit.binary]
    return {
        "run": network.origin["workdir"],
        "bytes": len(file),
        "file": base64.b64encode(file).decode(),
        "wasm": base64.b64encode(wasm).decode(),
        "units": [{"name": unit.name, "text": _words(unit)} for unit in units],
        "samples": samples(runtime.Engine(file, instruction_set="plain")),
    }


def samples(engine: runtime.Engine) -> list[dict]:
    """The first test image of each class that the network gets right, and of all the first that it gets wrong."""
    stored = np.load(EMBEDDED / "fashion_mnist_mini.npz")
    images, labels = stored["test_images"], stored["test_labels"]
    right = engine.logits(images[..., None]).argmax(1) == labels
    chosen = [np.flatnonzero(right & (labels == label))[0] for label in range(engine.classes)]
    chosen += list(np.flatnonzero(~right)[:MISSED])
    names, pixels = engine.card["classes"], (base64.b64encode(images[i].tobytes()).decode() for i in chosen)
    return [{"label": names[labels[i]], "pixels": text, "missed": not right[i]} for i, text in zip(chosen, pixels)]


def page(model: dict) -> str:
    """The page of `facts`."""
    parts = {name: (HERE / name).read_text().rstrip() for name in ("page.css", "engine.js", "picture.js", "page.js")}
    parts |= {"LICENSE": (EMBEDDED / "LICENSE").read_text().rstrip(), "MODEL": json.dumps(model, default=bool)}
    return re.sub(r"{{([\w.]+)}}", lambda match: parts[match[1]], (HERE / "page.html").read_text())


def model(text: str) -> dict:
    """The `facts` that a page was made of."""
    return json.loads(re.search(r"^const MODEL = (.*);$", text, re.MULTILINE)[1])


def _words(unit) -> str:
    """A unit as "3×3, 16 channels to 32, stride 2"."""
    size, strides = ("×".join(map(str, pair)) for pair in (unit.kernel, unit.strides))
    return f"{size}, {unit.in_channels} channels to {unit.out_channels}" + (
        f", stride {strides}" if max(unit.strides) > 1 else ""
    )


if __name__ == "__main__":
    cli(main)
