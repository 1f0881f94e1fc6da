"""The shared library with the kernels: compiled once with the C++ compiler at hand, then kept.

    python -m onebnet_jax.native.build      builds it now, rather than when training first needs it

A build holds the kernels for every instruction set of the architecture and chooses when it is loaded, so nodes with
different CPUs can share it.
"""

import hashlib
import importlib.util
import os
import pathlib
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable

SOURCES = pathlib.Path(__file__).parent / "src"
FLAGS = ["-std=c++17", "-O3", "-ffp-contract=fast", "-fPIC", "-pthread"]
KERNELS = ["-fno-exceptions", "-fno-rtti", "-Wno-psabi"]
# Name of an instruction set and what a compiler needs to hear for it.
AVX2 = ["-mavx2", "-mfma", "-mpopcnt"]
AVX512 = [*AVX2, "-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mprefer-vector-width=512"]
SETS = {"plain": []}
if platform.machine().lower() in ("x86_64", "amd64"):
    SETS = {"avx512": [*AVX512, "-mavx512vpopcntdq"], "avx512bw": AVX512, "avx2": AVX2, "plain": []}
TIMEOUT = 600  # seconds for one file; it takes about 10


class BuildError(Exception):
    """No library; the message is a sentence that says why and what to do."""


def compiler(variable: str = "CXX", usual: tuple[str, ...] = ("c++", "g++", "clang++")) -> list[str]:
    """The command of the C++ compiler, or another: what the variable says, or the first of the usual ones.

    Raises BuildError where there is none.
    """
    for command in (shlex.split(os.environ.get(variable, "")), *([name] for name in usual)):
        if command and shutil.which(command[0]):
            return command
    package = usual[1]
    raise BuildError(
        f"there is no {usual[0]} or other compiler; install {package} (apt install {package}) or set {variable}"
    )


def folders() -> list[pathlib.Path]:
    """Where libraries are kept, in the order in which they are looked for."""
    cache = os.path.expanduser(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    own, shared = pathlib.Path(__file__).parent / "lib", pathlib.Path(cache) / "onebnet_jax"
    return [own] if cache.startswith("~") else [own, shared]  # a user without a home


def headers() -> str:
    """The folder of XLA's FFI headers, as jax.ffi.include_dir() without importing JAX."""
    return str(pathlib.Path(importlib.util.find_spec("jaxlib").origin).parent / "include")


def file_name(include: str) -> str:
    """Name of the library that these sources give for this version of XLA's interface; another after any change."""
    interface = (pathlib.Path(include) / "xla" / "ffi" / "api" / "c_api.h").read_text()
    version = re.findall(r"#define XLA_FFI_API_M\w+ \d+", interface)
    return named("kernels", SOURCES, FLAGS, KERNELS, SETS, version)


def named(kind: str, sources: pathlib.Path, *facts) -> str:
    """Name of a library of a kind, another for other sources, for other facts such as flags, and on other systems."""
    digest = hashlib.sha256(repr((*facts, platform.machine(), platform.system())).encode())
    for path in sorted(sources.iterdir()):
        digest.update(path.name.encode() + path.read_bytes())
    return f"{kind}-{digest.hexdigest()[:16]}.so"


def library(include: str) -> pathlib.Path:
    """The library, built if it is not there yet. Several processes may ask at the same time.

    Args:
      include: folder of XLA's FFI headers.

    Raises:
      BuildError: it is not there and cannot be built or written.
    """
    return kept(file_name(include), lambda folder: build(compiler(), SOURCES / "ffi.cc", folder, [f"-I{include}"]))


def kept(name: str, make: Callable[[pathlib.Path], pathlib.Path]) -> pathlib.Path:
    """The library of a name; where there is none, `make(scratch folder)` gives the path of a new one.

    Raises BuildError if it cannot be built or written.
    """
    for folder in folders():
        if (folder / name).exists():
            return folder / name
    with tempfile.TemporaryDirectory() as scratch:
        built = make(pathlib.Path(scratch))
        refused = []
        for folder in folders():
            try:
                folder.mkdir(parents=True, exist_ok=True)
                # Under a name of its own first: whoever looks for it finds a whole file or none.
                with tempfile.NamedTemporaryFile(dir=folder, prefix=".kernels-", delete=False) as part:
                    part.write(built.read_bytes())
                os.chmod(part.name, 0o755)
                os.replace(part.name, folder / name)
                return folder / name
            except OSError as error:
                refused.append(f"{folder} ({error.strerror})")
    raise BuildError(f"{name} could not be written to {' or '.join(refused)}; set XDG_CACHE_HOME")


def build(command, entry: pathlib.Path, folder: pathlib.Path, flags=(), link=("-shared",)) -> pathlib.Path:
    """Compiles the kernels and one more source file into `folder`, and links them.

    Args:
      command: of the compiler.
      entry: the source file that uses the kernels.
      flags: for the compiler, everywhere.
      link: for the linker; the default makes a shared library.

    Raises:
      BuildError: with the compiler's first complaint.
    """
    jobs = {"entry": [entry, f"-I{SOURCES}"], "train": [SOURCES / "train.cc"]}
    jobs |= {name: [SOURCES / "kernels.cc", f"-DFLAVOR={name}", *KERNELS, *of_set] for name, of_set in SETS.items()}
    running = []
    try:
        for name, arguments in jobs.items():
            line = [*command, *FLAGS, *flags, *map(str, arguments), "-c", "-o", str(folder / f"{name}.o")]
            running.append(_start(line))
            if len(running) >= (os.cpu_count() or 1):
                _finish(running.pop(0))
        while running:
            _finish(running.pop(0))
    finally:
        for process in running:
            process.kill()
            process.wait()
    built = folder / "built"
    objects = [str(folder / f"{name}.o") for name in jobs]
    run([*command, *FLAGS, *flags, *link, *objects, "-o", str(built)])
    return built


def run(line: list) -> None:
    """Runs a compiler. Raises BuildError with its first complaint."""
    _finish(_start(line))


def _start(line):
    return subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def _finish(process):
    try:
        complaints = process.communicate(timeout=TIMEOUT)[1]
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        complaints = f"took more than {TIMEOUT} seconds"
    if process.returncode:
        errors = [text for text in complaints.splitlines() if "error" in text] or complaints.splitlines() or ["failed"]
        raise BuildError(f"{process.args[0]} could not compile: {errors[0].strip()}")


if __name__ == "__main__":
    try:
        print(f"kernels for training on a CPU: {library(headers())}")
    except BuildError as error:
        print(f"Training on a CPU will be slower than it could be, as {error}.", file=sys.stderr)
