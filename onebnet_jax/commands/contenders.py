"""Times the native engine against what else runs such networks here: onebnet contenders

TypeII at 224x224 by the native engine and by Larq Compute Engine; ResNet18, the network that it replaces, and the
MobileNets, which were designed for small devices, as FP32 and as int8 by TensorFlow Lite with XNNPACK, by ONNX Runtime
and by OpenVINO. All take turns in one process, one image at a time. All parameters are random: they change no time.
With several threads the engine also runs on one, and on several images side by side, of which the time of one is given.
"""

import ctypes
import os
import pathlib
import platform
import tempfile
import time

import numpy as np

from onebnet_jax.commands import arguments, rivals
from onebnet_jax.commands.rivals import Contender
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
    rows = [["", "file (MiB)", "median (ms)", "shortest", "slower than the first by"]]
    for name, each in times.items():
        median = np.median(each)
        rows.append([name, f"{runs[name].mib:.1f}", f"{median:.2f}", f"{min(each):.2f}", f"{median / first:.2f}"])
    held = f" held to {args.held_to}" if args.held_to else ""
    title = f"{processor()}{held}, {args.threads} threads, {5 * args.rounds} inferences each, batch 1, 224x224"
    note = "LCE's x86 kernels are reference code: this says nothing about the two on ARM."
    show(title, rows, note, markdown=args.markdown)


def contenders(threads: int) -> dict[str, Contender]:
    """What runs images, by its name. Raises UserError where the engine, TensorFlow or LCE is missing."""
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
        run = lambda engine=engine: engine.logits(image)  # noqa: E731
        result[f"TypeII, native engine, {engine.instruction_set}"] = Contender(run, len(file))
    if threads > 1:
        alone, several = runtime.Engine(file), runtime.Engine(file, threads)
        images = np.repeat(image, SIDE_BY_SIDE * threads, 0)
        result["TypeII, native engine, one thread"] = Contender(lambda: alone.logits(image), len(file))
        name = f"TypeII, native engine, {threads} images side by side"
        result[name] = Contender(lambda: several.logits(images), len(file), len(images))
    for name, options in (("default", {}), ("indirect", {"use_indirect_bgemm": True})):
        run = lce.executable(lce_file, num_threads=threads, use_xnnpack=True, **options)
        result[f"TypeII, LCE, {name} kernel"] = Contender(lambda run=run: run(images=image), len(lce_file))
    return result | rivals.all_of(resnet, image, threads)


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


def in_turn(runs: dict[str, Contender], rounds: int, times: int = 5) -> dict[str, list[float]]:
    """Milliseconds an image of `rounds` x `times` calls; in each round every contender runs `times` in a row."""
    for contender in runs.values():
        for _ in range(BEFORE):
            contender.run()
    result = {name: [] for name in runs}
    for _ in range(rounds):
        for name, contender in runs.items():
            time.sleep(REST)
            contender.run()
            for _ in range(times):
                start = time.perf_counter()
                contender.run()
                result[name].append(1e3 * (time.perf_counter() - start) / contender.images)
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
