"""What a command meets on a machine: variables that other libraries read, other versions first on the path, addresses.

Every command passes here before its work and, where something unforeseen breaks it, after. Sentences are returned, not
raised: `errors` makes a UserError of each.
"""

import contextlib
import errno
import importlib.metadata
import importlib.util
import os
import re
import signal
import subprocess
import sys
import sysconfig
import traceback
from pathlib import Path

# Switches of JAX that change numbers or types. Commands set them; `hosts.check_devices` refuses others in a program.
NUMERIC = {
    "JAX_ENABLE_X64": False,
    "JAX_DEFAULT_PRNG_IMPL": "threefry2x32",
    "JAX_THREEFRY_PARTITIONABLE": True,
    "JAX_RANDOM_SEED_OFFSET": 0,
    "JAX_NUMPY_DTYPE_PROMOTION": "standard",
    "JAX_NUMPY_RANK_PROMOTION": "allow",
}
# Switches of JAX with which its programs break later, without a word of them.
_HINDERING = re.compile(r"JAX_(TRANSFER_GUARD\w*|NO_TRACING|DYNAMIC_SHAPES)")
_HARMLESS = ("", "0", "false", "f", "no", "n", "off", "allow", "log", "log_explicit")
_OF_OTHERS = re.compile(r"(JAX|XLA|TF|TFDS|KERAS|LIBTPU|CUDA|NCCL|OMP|TQDM)_\w+|MPLBACKEND|TMPDIR")
# Where libraries read variables that their complaints do not name, and how the names of these begin.
_READERS = {os.path.join("jax", "_src", "config.py"): "JAX_", os.path.join("tqdm", "utils.py"): "TQDM_"}
# And by which words of JAX such a variable is known.
_SIGNS = {"JAX_DEFAULT_DEVICE": "Unknown backend", "PJRT_NAMES_AND_LIBRARY_PATHS": "Failed to open"}
_FAKE_DEVICES = re.compile(r"(\s*--xla_force_host_platform_device_count=\d+)*\s*")
# On CPUs these versions of XLA leave many sums and products to YNNPACK, which takes twice the time for a training step.
_YNNPACK = "--xla_cpu_experimental_ynn_fusion_type"
_SINCE, _BEFORE = (0, 8, 2), (0, 13)  # of jaxlib; an unknown flag ends a process, so later ones have to be tried first
_PARSE_FLAGS = "from jaxlib import xla_client; xla_client.CompileOptions()"


def prepare() -> str | None:
    """Makes the surroundings the usual ones, and returns a sentence where that cannot be. Imports nothing heavy."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # of text that the terminal's encoding lacks
    for name, ours in NUMERIC.items():
        given, wanted = os.environ.get(name), str(ours).lower()
        if given is not None and given.lower() not in (wanted, {"true": "1", "false": "0"}.get(wanted)):
            print(f"note: {name}={given} is not taken over; onebnet_jax computes with {wanted}.", file=sys.stderr)
        if given is not None:
            os.environ[name] = wanted
    for name, value in os.environ.items():
        if _HINDERING.fullmatch(name) and value.lower() not in _HARMLESS:
            return f"{name}={value} keeps JAX from what training and converting need; unset it."
    fault = _refused_flags()
    spare_ynnpack()
    return fault


def spare_ynnpack() -> None:
    """Has XLA compute on CPUs without YNNPACK, if it is not asked for and JAX has not started yet."""
    flags = os.environ.get("XLA_FLAGS", "")
    if _YNNPACK in flags or not _has_ynnpack():
        return
    # A plugin for another device reads the flags too, and may not know this one.
    if not importlib.metadata.entry_points(group="jax_plugins") and not importlib.util.find_spec("libtpu"):
        os.environ["XLA_FLAGS"] = f"{flags} {_YNNPACK}=".strip()


def _has_ynnpack() -> bool:
    try:
        version = importlib.metadata.version("jaxlib")
    except importlib.metadata.PackageNotFoundError:
        return False
    return _SINCE <= tuple(map(int, re.findall(r"\d+", version)[:3])) < _BEFORE


def _refused_flags() -> str | None:
    """What XLA says of XLA_FLAGS, asked in another process, as it ends one for those that it does not know."""
    flags = os.environ.get("XLA_FLAGS", "")
    if _FAKE_DEVICES.fullmatch(flags.replace(f"{_YNNPACK}=", "") if _has_ynnpack() else flags):  # these are known
        return None
    asked = subprocess.run([sys.executable, "-c", _PARSE_FLAGS], stderr=subprocess.PIPE, text=True, errors="replace")
    aborted = asked.returncode == -signal.SIGABRT  # jaxlib 0.12 ends with status 1 instead
    if not aborted and not (asked.returncode and "parse_flags" in asked.stderr):
        return None
    said = asked.stderr.partition("\n")[0].partition("] ")[2].rstrip(".")
    return f"XLA_FLAGS={flags!r} will not do for this version of JAX{said and f' ({said})'}; unset or mend it."


def blame(error: Exception) -> str | None:
    """A sentence, where what broke a command is a variable of the environment or a library; None for all else."""
    places, start = came_through(error), _start_of_jax()
    importing = "<module>" in {place.name for place in places}
    said = str(start or error)
    for name, words in _SIGNS.items():
        if words in said and os.environ.get(name):
            return f"{name}={os.environ[name]!r} will not do: {in_short(start or error)}; unset or mend it."
    platforms = {name: os.environ[name] for name in ("JAX_PLATFORMS", "JAX_PLATFORM_NAME") if os.environ.get(name)}
    flags = os.environ.get("XLA_FLAGS")
    if start and flags and {*platforms.values()} <= {"cpu"}:  # which is always there
        return f"XLA_FLAGS={flags!r} will not do: {in_short(start)}; unset or mend it."
    for name, value in os.environ.items() if start or importing else ():
        if _OF_OTHERS.fullmatch(name) and re.search(rf"\b{name}\b", said, re.IGNORECASE):
            return f"{name}={value!r} will not do: {in_short(start or error)}; unset or mend it."
    if start and platforms:
        return platform_fault(", ".join(map("=".join, platforms.items())), in_short(start))
    for where, prefix in _READERS.items() if importing else ():
        names = sorted(name for name in os.environ if name.startswith(prefix))
        if names and any(place.filename.endswith(where) for place in places):
            fault = f"{prefix[:-1]} cannot use one of {', '.join(names)} as it is set"
            return f"{fault}: {in_short(error)}; unset or mend it."
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        place = f"{error.filename}{named_by(str(error.filename))}" if error.filename else "Standard output or a file"
        return f"{place} cannot be written: {error.strerror}; make room there."
    if isinstance(error, OSError) and (named := named_by(str(error.filename))):
        return f"{error.filename}{named} cannot be used: {error.strerror}; unset or mend that variable."
    if "No usable temporary directory" in said:
        return f"No temporary folder can be written ({in_short(error)}); set TMPDIR to one that can."
    if importing and (isinstance(error, ImportError) or _first_on_path(error)):
        return f"A library cannot be used: {import_fault(error)}."
    return None


def _start_of_jax() -> Exception | None:
    """Why an imported JAX cannot start on the devices asked for; asked again, as it hides where it failed."""
    try:
        if backend := getattr(sys.modules.get("jax"), "default_backend", None):
            backend()
    except Exception as error:
        return error
    return None


def hush_tensorflow() -> None:
    """Lets TensorFlow, which is imported next, write no log: its errors come as exceptions. What a user has set stays.

    1 is what JAX sets where nothing is set; beside it TensorFlow writes of graphics drivers that are not there.
    """
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL", "1") == "1":
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"


def platform_fault(asked: str, words: str) -> str:
    """The sentence for a device that was asked for and is not there; words: what JAX says or uses instead."""
    name = " and unset JAX_PLATFORM_NAME" if os.environ.get("JAX_PLATFORM_NAME") else ""
    remedy = f"mend its driver or JAX's plugin for it, or set JAX_PLATFORMS=cpu{name} for the CPU"
    remedy += " (launch/gpu.sh and its like set it themselves: call onebnet)"
    return f"{asked} asks for a device that JAX cannot use here ({words}); {remedy}."


def import_fault(error: Exception, install: str = "pip install -r requirements-train.txt") -> str:
    """Why an import failed and what helps, without a full stop: "missing" is only what is nowhere."""
    if isinstance(error, ModuleNotFoundError) and error.name and "." not in error.name:
        return f"{error.name} is missing; {install}"
    if found := _first_on_path(error):
        return (
            f"{in_short(error)}; PYTHONPATH puts {found} first: take it off, or {install} in an environment of its own"
        )
    module = sys.modules.get(getattr(error, "name", None) or "")
    version = getattr(module, "__version__", "")
    return f"{in_short(error)}{version and f' ({module.__name__} {version})'}; {install} in a new environment"


def _first_on_path(error: Exception) -> str:
    """A package that a folder of PYTHONPATH puts before the one of this environment, with its version; or ""."""
    installed = Path(sysconfig.get_path("purelib"))
    files = {getattr(module, "__file__", None): module for module in list(sys.modules.values())}
    for folder in filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)):
        for file in sorted(filter(None, {*files, *(place.filename for place in came_through(error))})):
            if Path(file).is_relative_to(Path(folder).absolute()):
                place = Path(file).relative_to(Path(folder).absolute())
                place = place.parent if place.name == "__init__.py" else place
                if place.parts[0] != "onebnet_jax" and (installed / place).exists():
                    version = getattr(files.get(file), "__version__", "of an unknown version")
                    return f"{str(place).replace(os.sep, '.')} {version} in {folder}"
    return ""


def numpy_fault() -> str | None:
    """A sentence, without a full stop, where Larq Compute Engine cannot run beside the NumPy that was found."""
    import numpy

    if numpy.__version__.startswith(("0.", "1.")):
        return None
    folder, remedy = Path(numpy.__file__).parents[1], 'pip install "numpy<2", or install requirements.txt'
    if folder != Path(sysconfig.get_path("platlib")):
        remedy = f"it comes from {folder}, before that of this environment; take this folder off PYTHONPATH"
    return f"Larq Compute Engine 0.16 cannot run beside NumPy {numpy.__version__}: {remedy}"


def named_by(path: str) -> str:
    """The variables of other libraries that name this path or a folder around it, in brackets; "" without any."""
    others = {name: value for name, value in os.environ.items() if _OF_OTHERS.fullmatch(name)}
    names = sorted(name for name, value in others.items() if value.startswith("/") and path.startswith(value))
    return f" ({' and '.join(names)})" if names else ""


def remote(address: object) -> str | None:
    """A sentence for the address of a bucket or of the network where a folder or file of this machine is needed."""
    found = re.match(r"([A-Za-z][A-Za-z0-9+.-]+):/", str(address))  # pathlib makes one slash of two
    if not found:
        return None
    runs = "only a run's work directory can be one, as gs://BUCKET/DIR; else mount the bucket (gcsfuse BUCKET FOLDER)"
    ways = {"gs": runs, "s3": "mount the bucket (mount-s3 BUCKET FOLDER)"}
    way = "leave file:// away" if found[1] == "file" else ways.get(found[1], "copy it here") + " and name the folder"
    return f"{str(address)!r} is no path of this machine, and {found[1]}:// cannot be used here; {way}"


def in_bucket(address: object) -> bool:
    """Whether this is gs://BUCKET/DIR, which only the work directory of a run may be; a str, as Path spoils it."""
    return isinstance(address, str) and bool(re.fullmatch(r"gs://[a-z0-9][a-z0-9._-]+(/[^/\x00-\x1f]+)+/?", address))


def in_short(error: object) -> str:
    """What an exception says, for the middle of a sentence."""
    words = " ".join((str(error) or type(error).__name__).split())
    return (words if len(words) <= 300 else f"{words[:294]} [...]").rstrip(".")


def of_kind(error: BaseException) -> str:
    """The same, behind the exception's type."""
    return type(error).__name__ + (f": {in_short(error)}" if str(error) else "")


def came_through(error: BaseException) -> traceback.StackSummary:
    """The lines of files, and functions in them, that an exception came through."""
    return traceback.extract_tb(error.__traceback__)


def version(package: str) -> str:
    """The version of a package that is installed, or "not installed"."""
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(package)
    return "not installed"


def commit() -> str:
    """The commit of the clone that this package runs from, with "-dirty" where its files differ; "" without a clone."""
    clone = Path(__file__).parents[1]
    if not (clone / ".git").exists():  # nor does a clone further up have it
        return ""
    words = ["git", "-C", str(clone), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    with contextlib.suppress(OSError):
        return subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout.strip()
    return ""
