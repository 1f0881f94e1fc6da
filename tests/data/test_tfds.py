import contextlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import data_files
import pytest
from data_files import ARRAYS, CIFAR10, FASHION_MNIST, assert_holds

from onebnet_jax.data import load as data
from onebnet_jax.data import tfds as tfds_reader
from onebnet_jax.errors import UserError
from onebnet_jax.native import build

REPOSITORY = Path(__file__).parents[2]
EVIL = "evil_module.Feature"


@pytest.fixture(autouse=True)
def isolated(tmp_path, monkeypatch):
    data_files.isolate(tmp_path, monkeypatch)


@pytest.mark.parametrize("file_format", ["array_record", "parquet", "tfrecord"])
@pytest.mark.parametrize("name", ARRAYS)
def test_reads_a_prepared_directory(name, file_format):
    if file_format == "parquet":  # a version of pyarrow for another NumPy fails to import
        pytest.importorskip("pyarrow", exc_type=ImportError)
    dataset = data.open(name, "tfds", str(data_files.tfds_directory(name, file_format)))
    assert_holds(dataset, ARRAYS[name], any_order=True)
    assert "TFDS" in dataset.source and "NOT the full set" in dataset.source


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("tensorflow") is None, reason="TensorFlow writes the files")
@pytest.mark.parametrize("name", ARRAYS)
def test_reads_what_tfds_prepares_with_tensorflow(name, tmp_path):
    """By default TFDS writes tfrecord, with TensorFlow: the directories that most users have."""
    originals = data_files.write_tfds_originals(name, tmp_path / "originals")
    code = (
        "import sys, pathlib, data_files; data_files.prepare_tfds(sys.argv[1], pathlib.Path(sys.argv[2]), "
        "pathlib.Path(sys.argv[3]), None, tensorflow=True)"
    )
    command = [sys.executable, "-c", code, name, str(tmp_path), str(originals)]
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tests" / "helpers")]))
    subprocess.run(command, env=environment, check=True)
    assert list(tmp_path.glob(f"{name}/*/*.tfrecord-*"))
    assert_holds(data.open(name, "tfds", str(tmp_path)), ARRAYS[name], any_order=True)


def test_the_newest_version_is_found(tmp_path):
    for version in ("3.0.1", "10.0.0", "9.0.0", "incomplete.ABC_11.0.0"):
        (tmp_path / "cifar10" / version).mkdir(parents=True)
        (tmp_path / "cifar10" / version / "dataset_info.json").touch()
    assert tfds_reader.find(str(tmp_path), "cifar10").name == "10.0.0"


def test_no_data_set_in_memory_imports_tensorflow(tmp_path):
    folders = [data_files.tfds_directory(name, format) for name in ARRAYS for format in ("array_record", "tfrecord")]
    files = tmp_path / "files"
    data_files.write_fashion_mnist(files, FASHION_MNIST)
    data_files.write_cifar10(files, CIFAR10, "py", packed=True)
    (tmp_path / "tensorflow.py").write_text("raise SystemExit('TensorFlow was imported')")
    code = f"""
from onebnet_jax.data import load as data
data.open("fashion_mnist_mini")
for folder in {list(map(str, folders))}:
    data.open("cifar10" if "cifar10" in folder else "fashion_mnist", "tfds", folder)
for name in ("fashion_mnist", "cifar10"):
    data.open(name, "files", {str(files)!r})
"""
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join([str(tmp_path), str(REPOSITORY)]))
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    # The stand-in works: importing TensorFlow would have been seen.
    assert subprocess.run([sys.executable, "-c", "import tensorflow"], env=environment, stderr=-3).returncode == 1


# Damage.


def copy_of_directory(file_format, folder):
    """Copies the prepared FashionMNIST into `folder` and returns the folder of its version."""
    version = next(data_files.tfds_directory("fashion_mnist", file_format).glob("fashion_mnist/*"))
    return Path(shutil.copytree(version, folder / "fashion_mnist" / version.name))


def assert_refused(folder, message):
    with pytest.raises(UserError, match=message):
        data.open("fashion_mnist", "tfds", str(folder))


@pytest.mark.parametrize("file_format", ["array_record", "tfrecord"])
@pytest.mark.parametrize("damaged", ["*-train.*", "dataset_info.json", "features.json"])
def test_a_damaged_directory_is_named(tmp_path, file_format, damaged):
    version = copy_of_directory(file_format, tmp_path)
    path = next(version.glob(damaged))
    path.write_bytes(path.read_bytes()[:-20])
    assert_refused(tmp_path, str(version))


def test_damaged_records_are_noticed(tmp_path):
    path = next(copy_of_directory("tfrecord", tmp_path).glob("*-train.*"))
    records = path.read_bytes()
    for size in (-1, -4, 5):  # the last checksum, and the first length
        path.write_bytes(records[:size])
        assert_refused(tmp_path, f"{path} ends in the middle of a record")
    for position in (records.index(b"label"), records.index(b"IDAT") + 200):
        damaged = bytearray(records)
        damaged[position] ^= 16
        path.write_bytes(damaged)
        assert_refused(tmp_path, "cannot be read")
    length = 16 + int.from_bytes(records[:8], "little")
    for content, count in ((records[length:], 29), (records + records[:length], 31), (b"", 0)):
        path.write_bytes(content)
        assert_refused(tmp_path, f"30 examples of 'train', not {count}")


# Directories of others are data: nothing that they name is run.


CHANGES = {
    "in camel case": lambda features: features.update(pythonClassName=EVIL),
    "in snake case": lambda features: features.update(python_class_name=features.pop("pythonClassName") and EVIL),
    "of one feature": lambda features: features["featuresDict"]["features"]["label"].update(pythonClassName=EVIL),
    "of an old version": lambda features: features.update(type=EVIL, content={}),
    "in a string": lambda features: features.update(
        jsonFeature={"json": json.dumps({"image": {"type": EVIL, "content": "{}"}})}, featuresDict=None
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_nothing_is_imported_that_a_directory_names(change, tmp_path, monkeypatch):
    folder = copy_of_directory("array_record", tmp_path)
    path, proof = folder / "features.json", tmp_path / "it ran"
    features = json.loads(path.read_text())
    CHANGES[change](features)
    path.write_text(json.dumps(features))
    (tmp_path / "evil_module.py").write_text(f"import os\nos.makedirs({str(proof)!r}, exist_ok=True)\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert_refused(tmp_path, f"features.json asks for the code of '{EVIL}'")
    assert not proof.exists() and "evil_module" not in sys.modules

    import tensorflow_datasets as tfds

    with contextlib.suppress(Exception):
        tfds.builder_from_directory(folder)
    sys.modules.pop("evil_module", None)
    assert proof.exists()  # TFDS alone would have


def test_a_user_without_a_home_has_a_data_directory(monkeypatch):
    """As in a container whose user is none of its system's."""
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # what it then does
    assert str(tfds_reader.root("")) == "tensorflow_datasets"
    assert [str(folder) for folder in build.folders() if "~" in str(folder)] == []
