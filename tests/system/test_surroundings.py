"""Any surroundings: a command gives what it always gives, or ends with status 2 and one sentence, before any work."""

import contextlib
import io
import os
import pathlib
import subprocess
import sys
import tempfile
import textwrap

import jax
import numpy as np
import pytest
import workdirs
from small_runs import PROGRAM, QUICK, ROOT, environment, lines

from onebnet_jax import errors, main, surroundings
from onebnet_jax.commands import agree, benchmark, compare
from onebnet_jax.native import library
from onebnet_jax.training import hosts

# The imports stand within `errors.cli`, which answers for what they raise, and in the command's order: small_runs last.
_BODY = "\nfrom onebnet_jax.runs import config" + PROGRAM.replace("errors.cli(main.main)", "main.main(argv)")
TRAIN = f"from onebnet_jax import errors\ndef train(argv):{textwrap.indent(_BODY, '    ')}\nerrors.cli(train)"
HINDERING = {"JAX_TRANSFER_GUARD": "disallow", "JAX_NO_TRACING": "1", "JAX_DYNAMIC_SHAPES": "1"}
NOWHERE, NONSENSE = "/proc/nowhere", "--xla_nonsense=1"
# (variables, what the sentence names where the command may not run as usual). PYTHONPATH: a folder of `shadows`.
CHEAP = [
    ({"XLA_FLAGS": NONSENSE}, "XLA_FLAGS"),
    ({"PYTHONPATH": "protobuf"}, "PYTHONPATH"),
    ({"JAX_LOG_COMPILES": "banana", "HOME": NOWHERE}, "JAX_LOG_COMPILES"),
    ({"MPLBACKEND": "module://nowhere", "PYTHONIOENCODING": "ascii", "TMPDIR": NOWHERE}, None),
]
ALL = [
    *({"JAX_PLATFORMS": value} for value in ("cuda", "gpu", "nonsense", "cuda,cpu")),
    {"JAX_ENABLE_X64": "1", "JAX_DEFAULT_PRNG_IMPL": "rbg", "JAX_RANDOM_SEED_OFFSET": "3"},
    {"JAX_PLATFORM_NAME": "cuda", "JAX_PLATFORMS": ""},
    {"JAX_NUM_CPU_DEVICES": "banana"},
    {"JAX_NUMPY_RANK_PROMOTION": "raise", "JAX_NUMPY_DTYPE_PROMOTION": "strict", "JAX_THREEFRY_PARTITIONABLE": "0"},
    {"JAX_DEBUG_NANS": "1"},
    {"JAX_DEFAULT_DEVICE": "gpu"},
    {"JAX_DUMP_IR_TO": NOWHERE},
    {"PJRT_NAMES_AND_LIBRARY_PATHS": f"x:{NOWHERE}"},
    *({name: value} for name, value in HINDERING.items()),
    {"TQDM_MININTERVAL": "banana"},
    {"JAX_COMPILATION_CACHE_DIR": NOWHERE},
    *({"XLA_FLAGS": f"--xla_force_host_platform_device_count={count}"} for count in ("x", "0")),
    {"TF_CPP_MIN_LOG_LEVEL": "banana", "TF_USE_LEGACY_KERAS": "0", "KERAS_BACKEND": "nonsense", "KERAS_HOME": NOWHERE},
    {"MPLCONFIGDIR": NOWHERE, "XDG_CACHE_HOME": NOWHERE},
    {"OMP_NUM_THREADS": "banana"},
    {"HOME": NOWHERE},
    {"TMPDIR": NOWHERE, "PYTHONIOENCODING": "ascii"},
    {"TFDS_DATA_DIR": "gs://bucket"},
    {"PYTHONPATH": "protobuf"},
    {"PYTHONPATH": "numpy"},
]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A run to read, and folders with other versions of libraries."""
    folder = tmp_path_factory.mktemp("surroundings")
    workdirs.measured(folder / "rün", train=[(1.0, 50.0, 60.0)])
    for name, package in (("protobuf", "google/protobuf"), ("numpy", "numpy")):
        (folder / name / package).mkdir(parents=True)
        (folder / name / package / "__init__.py").write_text('__version__ = "0.9"\n')
    return folder


def run(place, command, output, variables=None):
    """The finished process of a command, whose files go to the folder `output`."""
    commands = {
        "compare": ["-m", "onebnet_jax", "compare", place / "rün", f"--plot={output}/curves.png"],
        "train": ["-c", TRAIN, "--config=quickstart", f"--workdir={output}", "--config.train.epochs=1"],
        "convert": ["-m", "onebnet_jax", "convert", "--config=quickstart", f"--output={output}/m.tflite"],
    }
    output.mkdir(exist_ok=True)
    if command == "train":
        commands[command] += [f"--config.{name}={value}" for name, value in QUICK.items() if name != "train.epochs"]
    usual = environment(devices=1)
    changed = usual | {"JAX_ENABLE_X64": "0"} | (variables or {})
    if "PYTHONPATH" in (variables or {}):
        changed["PYTHONPATH"] = f"{place / variables['PYTHONPATH']}{os.pathsep}{usual['PYTHONPATH']}"
    words = [sys.executable, *map(str, commands[command])]
    return subprocess.run(words, env=changed, cwd=ROOT, capture_output=True, text=True, timeout=900)


def escaped(text):
    return text.encode("ascii", "backslashreplace").decode()


def left(command, output, done):
    """What a command gives: what it prints or the files that it leaves, without clocks."""
    if command == "compare":
        assert (output / "curves.png").stat().st_size > 1000
        return escaped(done.stdout)
    return lines(output / "train") if command == "train" else (output / "m.tflite").read_bytes()


@pytest.fixture(scope="module")
def usual(place):
    """What the commands give where nothing is odd, each run once and when first asked for."""
    kept = {}

    def of(command):
        if command == "compare" and command not in kept:
            with contextlib.redirect_stdout(io.StringIO()) as out:
                compare.main([str(place / "rün")])
            kept[command] = escaped(out.getvalue())
        if command not in kept:
            done = run(place, command, place / f"usual {command}")
            assert done.returncode == 0, done.stderr
            kept[command] = left(command, place / f"usual {command}", done)
        return kept[command]

    return of


def assert_usual_or_refused(place, usual, output, command, variables, named):
    done = run(place, command, output, variables)
    if done.returncode == 0:
        assert left(command, output, done) == usual(command)
        return True
    assert done.returncode == errors.USER_ERROR, done.stderr
    said = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(said) == 1 and done.stderr.splitlines()[-1] == said[0] and said[0].endswith("."), done.stderr
    assert any(str(name) in said[0] for name in named), said
    assert list(output.iterdir()) == []
    return False


@pytest.mark.parametrize(("variables", "named"), CHEAP, ids=str)
def test_a_variable_changes_nothing_or_is_named(place, usual, tmp_path, variables, named):
    ran = assert_usual_or_refused(place, usual, tmp_path / "output", "compare", variables, [named])
    assert ran == (named is None)


@pytest.mark.slow
@pytest.mark.parametrize("command", ["compare", "train", "convert"])
@pytest.mark.parametrize("variables", ALL, ids=str)
def test_any_variable_changes_nothing_or_is_named(place, usual, tmp_path, command, variables):
    assert_usual_or_refused(place, usual, tmp_path / "output", command, variables, variables)


def test_a_fault_of_one_long_word_is_cut_and_not_lost():
    assert surroundings.in_short("x" * 400) == "x" * 294 + " [...]"
    assert surroundings.in_short("one\n two.") == "one two"


def test_no_temporary_folder_is_said(monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: [NOWHERE])
    with pytest.raises(FileNotFoundError) as error:
        tempfile.gettempdir()
    assert "TMPDIR" in surroundings.blame(error.value)


@pytest.mark.parametrize(("folder", "remedy"), [(None, "pip install"), ("else/numpy", "else, .* off PYTHONPATH")])
def test_a_numpy_that_lce_cannot_read_is_refused_before_any_work(folder, remedy, tmp_path, monkeypatch):
    pytest.importorskip("larq_compute_engine")
    monkeypatch.setattr(np, "__version__", "2.2.6")
    if folder:
        monkeypatch.setattr(np, "__file__", str(tmp_path / folder / "__init__.py"))
    missing = str(tmp_path / "missing.tflite")
    for use in (lambda: agree.main([missing]), lambda: benchmark._time(missing, b"", 1, "default", True, 1)):
        with pytest.raises(errors.UserError, match=f"^Larq .* NumPy 2.2.6: .*{remedy}"):
            use()


def test_what_no_variable_explains_is_not_blamed_on_one(monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    with pytest.raises(TypeError) as error:
        jax.numpy.reshape(jax.numpy.zeros(3), (2, 2))
    assert surroundings.blame(error.value) is None


@pytest.mark.parametrize(
    ("name", "said"),
    [("JAX_DEFAULT_DEVICE", "Unknown backend: 'x'"), ("PJRT_NAMES_AND_LIBRARY_PATHS", "INTERNAL: Failed to open x")],
)
def test_what_jax_says_of_a_variable_without_its_name(name, said, monkeypatch):
    assert surroundings.blame(RuntimeError(said)) is None
    monkeypatch.setenv(name, "x")
    assert surroundings.blame(RuntimeError(said)).startswith(f"{name}='x' will not do")


def test_only_what_is_nowhere_is_missing(place, monkeypatch):
    with pytest.raises(ImportError) as error:
        import onebnet_nowhere  # noqa: F401
    assert surroundings.import_fault(error.value, "do this") == "onebnet_nowhere is missing; do this"
    with pytest.raises(ImportError) as error:
        from yaml import nothing  # noqa: F401
    said = surroundings.import_fault(error.value, "do this")
    assert "missing" not in said and "cannot import name 'nothing'" in said and sys.modules["yaml"].__version__ in said


@pytest.mark.parametrize(
    ("name", "other", "sentence"),
    [
        ("jax_enable_x64", True, "jax_enable_x64=True; set False"),
        ("jax_default_prng_impl", "rbg", "jax_default_prng_impl='rbg'; set 'threefry2x32'"),
        ("jax_platforms", "cuda,cpu", r"JAX_PLATFORMS=cuda,cpu asks for a device .*it would use the CPU"),
    ],
)
def test_devices_and_numbers_that_are_not_those_asked_for_are_refused(name, other, sentence):
    before = getattr(jax.config, name)
    jax.config.update(name, other)
    try:
        with pytest.raises(errors.UserError, match=sentence):
            hosts.check_devices()
    finally:
        jax.config.update(name, before)


def test_a_misspelt_set_of_kernels_is_refused(monkeypatch):
    monkeypatch.setenv(library.VARIABLE, "axv2")
    for use in (hosts.check_devices, library.available):
        with pytest.raises(errors.UserError, match=f"{library.VARIABLE}='axv2' .* 0 .* plain; unset"):
            use()


@pytest.mark.parametrize(("name", "value"), HINDERING.items())
def test_a_switch_with_which_jax_breaks_later_is_refused_at_once(name, value, monkeypatch):
    monkeypatch.setenv(name, "0")
    assert surroundings.prepare() is None
    monkeypatch.setenv(name, value)
    assert surroundings.prepare().startswith(f"{name}={value} ")


def test_switches_of_numbers_are_set_and_said(monkeypatch, capsys):
    monkeypatch.setenv("JAX_ENABLE_X64", "True")
    monkeypatch.setenv("JAX_THREEFRY_PARTITIONABLE", "1")
    assert surroundings.prepare() is None
    assert os.environ["JAX_ENABLE_X64"] == "false" and os.environ["JAX_THREEFRY_PARTITIONABLE"] == "true"
    (said,) = capsys.readouterr().err.splitlines()
    assert "JAX_ENABLE_X64=True" in said


# Addresses -----------------------------------------------------------------------------------------------------

ADDRESSES = ("gs://bucket", "s3://bucket/run", "gs:/bucket/run", "hdfs://host/run", "file:///tmp/run")


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_is_refused_wherever_a_path_is_wanted(address, tmp_path, monkeypatch, capsys):
    from onebnet_jax.data import load as data
    from onebnet_jax.runs import config, trained
    from onebnet_jax.runs.workdir import Workdir

    monkeypatch.chdir(tmp_path)
    quickstart, loaded = str(ROOT / "configs" / "quickstart.py"), config.load("quickstart")
    fields = [f"--config.data.dir={address}", f"--config.init={address}"]
    fields += [f"--config.teacher={address}"]
    attempts = [lambda field=field: config.load(quickstart, [field]) for field in fields]
    attempts += [lambda: config.load(f"{address}/config.py"), lambda: trained.load(address)]
    attempts += [lambda: Workdir(pathlib.Path(address), loaded).check()]
    attempts += [lambda: data.open("cifar10", "auto", address)]
    for attempt in attempts:
        with pytest.raises(errors.UserError, match=f"{address.partition(':')[0]}:// cannot be used here; "):
            attempt()
    monkeypatch.setenv("TFDS_DATA_DIR", address)
    with pytest.raises(errors.UserError, match="^TFDS_DATA_DIR: "):
        data.open("cifar10")
    with pytest.raises(SystemExit):
        main.main([f"--config={quickstart}", f"--workdir={address}"])
    assert "cannot be used" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", ["runs/a", "/gs/a", "a:b", "./gs:/x", "~/x", "C:/x"])
def test_a_path_is_no_address(path):
    assert surroundings.remote(path) is None


@pytest.mark.parametrize(
    ("version", "plugins", "given", "then"),
    [
        ("0.7.1", [], "--a=1", "--a=1"),
        ("0.10.2", [], "--a=1", "--a=1 --xla_cpu_experimental_ynn_fusion_type="),
        ("0.10.2", [], "--xla_cpu_experimental_ynn_fusion_type=X", "--xla_cpu_experimental_ynn_fusion_type=X"),
        ("0.10.2", ["cuda"], "--a=1", "--a=1"),
        ("1.0.0.dev2", [], "--a=1", "--a=1"),
    ],
)
def test_slow_parts_of_xla_are_spared_where_that_can_be_said(version, plugins, given, then, monkeypatch):
    monkeypatch.setattr("importlib.metadata.version", lambda name: version)
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: plugins)
    monkeypatch.setenv("XLA_FLAGS", given)
    surroundings.spare_ynnpack()
    surroundings.spare_ynnpack()
    assert os.environ["XLA_FLAGS"] == then
