"""What is installed: its files, what it declares, its one command, and what that imports before it has work to do."""

import ast
import importlib.metadata
import os
import pathlib
import pkgutil
import re
import shutil
import subprocess
import sys
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import onebnet_jax
from onebnet_jax.__main__ import COMMANDS, main
from onebnet_jax.errors import UserError

ROOT = pathlib.Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
DEPENDENCIES = [Requirement(text) for text in PYPROJECT["project"]["dependencies"]]
EXTRAS = {
    name: [Requirement(text) for text in texts] for name, texts in PYPROJECT["project"]["optional-dependencies"].items()
}
# Where a package may be imported that only an extra declares.
PLACES = {
    "deploy": re.compile("onebnet_jax/export/.*"),
    "gcs": re.compile("onebnet_jax/runs/gcs.py"),
    "imagenet": re.compile("onebnet_jax/data/imagenet/pipeline.py"),
    "onnx": re.compile("onebnet_jax/(commands/rivals|export/onnx_graph).py"),
    "plots": re.compile("onebnet_jax/(commands/figures|paper/(diagrams|plots|report_figures)).py"),
    "torch": re.compile("onebnet_jax/runs/torch_weights.py"),
}

# The command line -------------------------------------------------------------------------------------------------

HEAVY = {"absl", "etils", "flax", "jax", "jaxlib", "keras", "larq", "larq_compute_engine", "matplotlib"}
HEAVY |= {"ml_collections", "optax", "orbax", "scipy", "tensorflow", "tensorflow_datasets", "tf_keras"}
PROGRAM = """
import atexit, runpy, sys
atexit.register(lambda: print(*sys.modules, file=sys.stderr))
runpy.run_module("onebnet_jax", run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize(
    "words",
    [["--help"], ["--version"], ["train"], ["train", "--mode=x"], *([command, "--help"] for command in COMMANDS)],
    ids=" ".join,
)
def test_nothing_heavy_is_imported_before_there_is_work(words):
    result = subprocess.run([sys.executable, "-c", PROGRAM, *words], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == (0 if words[-1] in ("--help", "--version") else 2)
    imported = result.stderr.splitlines()[-1].split()
    assert HEAVY & {name.partition(".")[0] for name in imported} == set()
    assert words[0] not in COMMANDS or f"onebnet_jax.{COMMANDS[words[0]][0]}" in imported
    if words[0] in COMMANDS and words[-1] == "--help":
        *_, examples = result.stdout.partition("\nexamples:\n")
        assert re.search(rf"^  onebnet {words[0]} \S.*\Z", examples, re.MULTILINE | re.DOTALL)


def test_help_lists_every_command(capsys):
    outputs = []
    for words in ([], ["-h"], ["--help"]):
        main(words)
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1] == outputs[2]
    assert re.findall(r"^  (\w+) ", outputs[0], re.MULTILINE) == list(COMMANDS)
    files = (ROOT / "onebnet_jax" / "commands").glob("*.py")
    modules = {f"commands.{path.stem}" for path in files if "cli(main)" in path.read_text()}
    assert {module for module, _ in COMMANDS.values()} == {"main", *modules}


@pytest.mark.parametrize(("word", "closest"), [("trian", "train"), ("Cost", "cost"), ("eval", "evaluate")])
def test_an_unknown_command_is_refused_with_the_closest(word, closest):
    with pytest.raises(UserError, match=f"{word!r}.* {closest}\\b"):
        main([word])


def test_the_words_behind_a_command_are_its_own(tmp_path, monkeypatch, capsys):
    with pytest.raises(UserError, match="nowhere/config.json"):
        main(["evaluate", f"--workdir={tmp_path}/nowhere", "--mode=train"])
    with pytest.raises(UserError, match="nothing.py"):
        main(["train", "--config=nothing.py"])
    monkeypatch.chdir(tmp_path)
    main(["cost", "quickstart"])
    assert "quickstart" in capsys.readouterr().out


def test_no_module_takes_the_place_of_a_public_name():
    """Importing a module sets its name in the package, so that a module convert would hide the function convert."""
    before = {name: getattr(onebnet_jax, name) for name in onebnet_jax._API}
    for module in pkgutil.iter_modules(onebnet_jax.__path__, "onebnet_jax."):
        importlib.import_module(module.name)
    assert {name: getattr(onebnet_jax, name) for name in before} == before


# What is declared -------------------------------------------------------------------------------------------------


def third_party_imports():
    """(file, package) for each import of the package and its configs that is neither theirs nor Python's."""
    for path in sorted([*ROOT.glob("onebnet_jax/**/*.py"), *ROOT.glob("configs/*.py")]):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
            for name in {name.partition(".")[0] for name in names} - {"onebnet_jax"} - sys.stdlib_module_names:
                yield str(path.relative_to(ROOT)), name


def test_every_import_is_declared():
    """By the dependencies, or by an extra where that may be imported: one that is not declared may be missing."""
    distributions = importlib.metadata.packages_distributions() | {"google": ["google-cloud-storage"]}  # of many
    found = set(third_party_imports())
    undeclared = []
    for file, package in found:
        declared = [
            *DEPENDENCIES,
            *(one for name, place in PLACES.items() if place.fullmatch(file) for one in EXTRAS[name]),
        ]
        names = {canonicalize_name(name) for name in distributions.get(package, [package])}
        if not names & {canonicalize_name(one.name) for one in declared}:
            undeclared.append((file, package))
    assert found and undeclared == []


def pins(file):
    """Distribution -> version, of a requirements file."""
    lines = re.findall(r"^([\w-]+)(?:\[\w+\])?==([\w.]+)", (ROOT / file).read_text(), re.MULTILINE)
    return {canonicalize_name(name): version for name, version in lines}


def test_what_the_tests_run_with_is_what_the_package_asks_for():
    pinned = pins("requirements-train.txt")
    assert pinned.keys() == {canonicalize_name(one.name) for one in DEPENDENCIES}
    pinned |= pins("requirements.txt")
    needed = [*DEPENDENCIES, *EXTRAS["deploy"], *EXTRAS["plots"], *EXTRAS["dev"]]
    assert pinned.keys() == {canonicalize_name(one.name) for one in needed}
    assert [str(one) for one in needed if pinned[canonicalize_name(one.name)] not in one.specifier] == []


def test_every_folder_of_modules_is_installed():
    folders = {path.parent.relative_to(ROOT) for path in ROOT.glob("onebnet_jax/**/*.py")}
    packages = {".".join(folder.parts) for folder in folders} | {"onebnet_jax.configs"}
    assert set(PYPROJECT["tool"]["setuptools"]["packages"]) == packages


# Installed --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_an_empty_environment_needs_nothing_but_pip_install(tmp_path):
    """Into a new environment, from the network or a cache; the commands run in another folder."""
    source, elsewhere = tmp_path / "source", tmp_path / "elsewhere"
    for name in ("onebnet_jax", "configs"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, source)
    elsewhere.mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV", "XLA"))}

    def run(*command):
        command = [tmp_path / "venv" / "bin" / command[0], *command[1:]]
        done = subprocess.run(command, cwd=elsewhere, env=kept, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    run("python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", source)
    run("python", "-m", "pip", "check")
    assert run("onebnet", "--version").split()[-1] == onebnet_jax.__version__
    assert "train_benchmark" in run("onebnet", "--help")
    assert "quickstart" in run("onebnet", "cost", "quickstart")
    small = ["--config.train.epochs=1", "--config.train.batch_size=2000", "--config.model.width_multiplier=0.25"]
    run("onebnet", "train", "--config=quickstart", *small)
    assert "step 2:" in run("onebnet", "evaluate", "--workdir=runs/quickstart")
    assert "quickstart" in run("onebnet", "compare", "runs/quickstart")
    if shutil.which("cc") or shutil.which("gcc"):
        assert [*(tmp_path / "venv").glob("lib/*/site-packages/onebnet_jax/native/lib/engine-*.so")]
        run("onebnet", "convert", "--workdir=runs/quickstart", "--native=model.onb")
        run("python", "-c", "from PIL import Image; Image.new('RGB', (50, 40)).save('a.png')")
        assert "a.png" in run("onebnet", "predict", "model.onb", "a.png")
