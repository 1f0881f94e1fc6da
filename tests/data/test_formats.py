import dataclasses
import functools
import importlib.util
import os
import pickle
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import data_files
import numpy as np
import pytest
from data_files import ARRAYS, CIFAR10, FASHION_MNIST, assert_holds

from onebnet_jax.data import formats as data_formats
from onebnet_jax.data import load as data
from onebnet_jax.errors import UserError

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def isolated(tmp_path, monkeypatch):
    data_files.isolate(tmp_path, monkeypatch)


# Original files.


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("subfolder", [".", "FashionMNIST/raw"])
def test_reads_fashion_mnist_files(tmp_path, packed, subfolder):
    data_files.write_fashion_mnist(tmp_path / subfolder, FASHION_MNIST, packed)
    dataset = data.load("fashion_mnist", "files", str(tmp_path))
    assert_holds(dataset, FASHION_MNIST)
    assert str(tmp_path) in dataset.source and "NOT the full set" in dataset.source


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("kind", ["bin", "py"])
def test_reads_cifar10_files(tmp_path, kind, packed):
    data_files.write_cifar10(tmp_path, CIFAR10, kind, packed)
    assert_holds(data.load("cifar10", "files", str(tmp_path)), CIFAR10)
    if not packed:  # the folder of the batches itself may be named too
        assert_holds(data.load("cifar10", "files", str(tmp_path / f"cifar-10-batches-{kind}")), CIFAR10)


def test_cifar10_python_fixture_is_a_pickle_that_numpy_reads():
    batch = pickle.loads(data_files.python_batch(*CIFAR10[:2]), encoding="bytes")
    np.testing.assert_array_equal(batch[b"data"], CIFAR10[0].transpose(0, 3, 1, 2).reshape(-1, 3072))
    assert batch[b"labels"] == list(CIFAR10[1])


@dataclasses.dataclass
class Calls:
    """Unpickles by calling `function`."""

    function: object
    arguments: tuple

    def __reduce__(self):
        return self.function, self.arguments


@pytest.mark.parametrize("packed", [True, False])
def test_malicious_cifar10_pickle_is_refused(tmp_path, packed):
    marker = tmp_path / "marker"
    payload = pickle.dumps({b"data": Calls(os.mkdir, (str(marker),)), b"labels": [0]}, protocol=3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data_files, "python_batch", lambda images, labels: payload)
        data_files.write_cifar10(tmp_path, CIFAR10, "py", packed)
    with pytest.raises(UserError, match="data_batch_1.*mkdir"):
        data.load("cifar10", "files", str(tmp_path))
    assert not marker.exists()
    pickle.loads(payload)
    assert marker.exists()  # it would have run


@pytest.mark.parametrize(
    "batch, message",
    [
        ({b"data": Calls(eval, ("1",)), b"labels": []}, "builtins.eval"),
        ({b"data": Calls(getattr, ("", "join")), b"labels": []}, "builtins.getattr"),
        ({b"data": np.float64(1), b"labels": []}, "multiarray.scalar"),
        ({b"data": np.zeros((1, 3072), object), b"labels": [0]}, "O8"),
        ({b"data": np.zeros((1, 3072), np.float32), b"labels": [0]}, "f4"),
        ({b"data": np.zeros((1, 3071), np.uint8), b"labels": [0]}, r"\(1, 3071\)"),
        ({b"data": np.zeros((2, 3072), np.uint8), b"labels": [0]}, "for 1 labels"),
        ({b"data": np.zeros((1, 3072), np.uint8)}, "labels"),
        ({b"data": b"", b"labels": []}, "matrix"),
        ([], "not a python batch"),
    ],
)
def test_other_pickles_are_refused(tmp_path, batch, message):
    for name in data_files.cifar10_files(CIFAR10, "py"):
        (tmp_path / name).write_bytes(pickle.dumps(batch, protocol=3))
    with pytest.raises(UserError, match=f"data_batch_1.*{message}"):
        data.load("cifar10", "files", str(tmp_path))


def cut(path, size=-20):
    path.write_bytes(path.read_bytes()[:size])


def put(content):
    return lambda path: path.write_bytes(content)


@pytest.mark.parametrize(
    "packed, name, damage, message",
    [
        (True, "train-images-idx3-ubyte.gz", cut, "cannot be read"),
        (True, "train-images-idx3-ubyte.gz", put(b"<html>not found</html>"), "cannot be read"),
        (True, "t10k-labels-idx1-ubyte.gz", put(b""), "magic number missing"),
        (False, "train-images-idx3-ubyte", cut, "announces"),
        (False, "train-labels-idx1-ubyte", put(data_files.idx(FASHION_MNIST[1]) + b"more"), "announces"),
        (False, "t10k-images-idx3-ubyte", put(data_files.idx(FASHION_MNIST[1])), "magic number 00000801"),
        (False, "train-labels-idx1-ubyte", put(data_files.idx(FASHION_MNIST[1][:-1])), "29 labels"),
        (False, "train-labels-idx1-ubyte", put(data_files.idx(FASHION_MNIST[1] + 1)), "from 1 to 10"),
        (False, "train-images-idx3-ubyte", put(data_files.idx(FASHION_MNIST[0][:, :27, :, 0])), r"\(30, 27, 28, 1\)"),
    ],
)
def test_damaged_fashion_mnist_files_are_named(tmp_path, packed, name, damage, message):
    data_files.write_fashion_mnist(tmp_path, FASHION_MNIST, packed)
    damage(tmp_path / name)
    for source in ("files", "auto"):  # "auto" does not pass over damage in silence
        with pytest.raises(UserError, match=message) as error:
            data.load("fashion_mnist", source, str(tmp_path))
        assert str(tmp_path) in str(error.value)


@pytest.mark.parametrize(
    "kind, packed, name, damage",
    [
        ("bin", False, "cifar-10-batches-bin/data_batch_3.bin", cut),
        ("bin", False, "cifar-10-batches-bin/test_batch.bin", put(b"")),
        ("py", False, "cifar-10-batches-py/data_batch_3", cut),
        ("bin", True, "cifar-10-binary.tar.gz", cut),
        ("py", True, "cifar-10-python.tar.gz", functools.partial(cut, size=2000)),
        ("bin", True, "cifar-10-binary.tar.gz", put(b"<html>not found</html>")),
    ],
)
def test_damaged_cifar10_files_are_named(tmp_path, kind, packed, name, damage):
    data_files.write_cifar10(tmp_path, CIFAR10, kind, packed)
    damage(tmp_path / name)
    with pytest.raises(UserError, match=Path(name).name):
        data.load("cifar10", "files", str(tmp_path))


def test_archive_members_are_read_from_the_right_folder_and_never_extracted(tmp_path, monkeypatch):
    outside = tmp_path / "outside.bin"
    outside.write_bytes(data_files.binary_batch(*CIFAR10[2:]))
    monkeypatch.chdir(tmp_path)
    with tarfile.open(tmp_path / "cifar-10-binary.tar.gz", "w:gz") as tar:
        tar.add(outside, "../cifar-10-batches-bin/test_batch.bin")
        link = tarfile.TarInfo("cifar-10-batches-bin/test_batch.bin")
        link.type, link.linkname = tarfile.SYMTYPE, str(outside)
        tar.addfile(link)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match="not found"):
        data.load("cifar10", "files", str(tmp_path))
    assert sorted(tmp_path.rglob("*")) == before


# TFDS directories.


@pytest.mark.parametrize("file_format", ["array_record", "parquet", "tfrecord"])
@pytest.mark.parametrize("name", ["fashion_mnist", "cifar10"])
def test_reads_tfds_directory(name, file_format):
    if file_format == "parquet":  # a version of pyarrow for another NumPy fails to import
        pytest.importorskip("pyarrow", exc_type=ImportError)
    dataset = data.load(name, "tfds", str(data_files.tfds_directory(name, file_format)))
    assert_holds(dataset, ARRAYS[name], any_order=True)
    assert "TFDS" in dataset.source and "NOT the full set" in dataset.source


@pytest.mark.parametrize("file_format", ["array_record", "tfrecord"])
def test_finds_tfds_by_its_environment_variable(monkeypatch, file_format):
    monkeypatch.setenv("TFDS_DATA_DIR", str(data_files.tfds_directory("fashion_mnist", file_format)))
    assert "TFDS" in data.load("fashion_mnist").source


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("tensorflow") is None, reason="TensorFlow writes the files")
@pytest.mark.parametrize("name", ["fashion_mnist", "cifar10"])
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
    assert_holds(data.load(name, "tfds", str(tmp_path)), ARRAYS[name], any_order=True)


def copy_of_tfds_directory(file_format, folder):
    """Copies the prepared FashionMNIST into `folder` and returns the folder of its version."""
    version = next(data_files.tfds_directory("fashion_mnist", file_format).glob("fashion_mnist/*"))
    return Path(shutil.copytree(version, folder / "fashion_mnist" / version.name))


@pytest.mark.parametrize("file_format", ["array_record", "tfrecord"])
@pytest.mark.parametrize("damaged", ["*-train.*", "dataset_info.json", "features.json"])
def test_damaged_tfds_directory_is_named(tmp_path, file_format, damaged):
    version = copy_of_tfds_directory(file_format, tmp_path)
    cut(next(version.glob(damaged)))
    with pytest.raises(UserError, match=str(version)):
        data.load("fashion_mnist", "tfds", str(tmp_path))


def test_tfrecord_file_that_lacks_its_last_bytes_is_named(tmp_path):
    records = next(copy_of_tfds_directory("tfrecord", tmp_path).glob("*-test.*"))
    for size in (-1, -4, 5):  # the last checksum, and the first length
        content = records.read_bytes()
        cut(records, size)
        with pytest.raises(UserError, match=f"{records} ends in the middle of a record"):
            data.load("fashion_mnist", "tfds", str(tmp_path))
        records.write_bytes(content)


def test_damaged_tfrecord_data_are_noticed(tmp_path):
    path = next(copy_of_tfds_directory("tfrecord", tmp_path).glob("*-train.*"))
    records = path.read_bytes()
    for position in (records.index(b"label"), records.index(b"IDAT") + 200):
        damaged = bytearray(records)
        damaged[position] ^= 16
        path.write_bytes(damaged)
        with pytest.raises(UserError, match="cannot be read"):
            data.load("fashion_mnist", "tfds", str(tmp_path))


def test_tfds_directory_with_another_number_of_records_than_announced_is_refused(tmp_path):
    path = next(copy_of_tfds_directory("tfrecord", tmp_path).glob("*-train.*"))
    records = path.read_bytes()
    length = 16 + int.from_bytes(records[:8], "little")
    for content, count in ((records[length:], 29), (records + records[:length], 31), (b"", 0)):
        path.write_bytes(content)
        with pytest.raises(UserError, match=f"30 examples of 'train' but holds {count}"):
            data.load("fashion_mnist", "tfds", str(tmp_path))


def test_the_newest_prepared_version_is_read(tmp_path):
    for version in ("3.0.1", "10.0.0", "9.0.0", "incomplete.ABC_11.0.0"):
        (tmp_path / "cifar10" / version).mkdir(parents=True)
        (tmp_path / "cifar10" / version / "dataset_info.json").touch()
    assert data_formats.find_tfds(tmp_path, "cifar10").name == "10.0.0"


# TensorFlow stays out.


def test_no_reader_imports_tensorflow(tmp_path):
    folders = [data_files.tfds_directory(name, format) for name in ARRAYS for format in ("array_record", "tfrecord")]
    files = tmp_path / "files"
    data_files.write_fashion_mnist(files, FASHION_MNIST)
    data_files.write_cifar10(files, CIFAR10, "py", packed=True)
    (tmp_path / "tensorflow.py").write_text("raise SystemExit('TensorFlow was imported')")
    code = f"""
from onebnet_jax.data import load as data
data.load("fashion_mnist_mini")
for folder in {list(map(str, folders))}:
    data.load("cifar10" if "cifar10" in folder else "fashion_mnist", "tfds", folder)
for name in ("fashion_mnist", "cifar10"):
    data.load(name, "files", {str(files)!r})
    assert len(data._originals(name)) in (1, 4)
"""
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join([str(tmp_path), str(REPOSITORY)]))
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    # The stand-in works: importing TensorFlow would have been seen.
    assert subprocess.run([sys.executable, "-c", "import tensorflow"], env=environment, stderr=-3).returncode == 1
