"""Also that files of others are data: reading them runs nothing that they name."""

import contextlib
import dataclasses
import functools
import os
import pickle
import tarfile
from pathlib import Path

import data_files
import numpy as np
import pytest
from data_files import CIFAR10, FASHION_MNIST, assert_holds

from onebnet_jax.data import load as data
from onebnet_jax.errors import UserError


@pytest.fixture(autouse=True)
def isolated(tmp_path, monkeypatch):
    data_files.isolate(tmp_path, monkeypatch)


@dataclasses.dataclass
class Calls:
    """Unpickles by calling `function`."""

    function: object
    arguments: tuple

    def __reduce__(self):
        return self.function, self.arguments


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("subfolder", [".", "FashionMNIST/raw"])
def test_reads_idx_files(tmp_path, packed, subfolder):
    data_files.write_fashion_mnist(tmp_path / subfolder, FASHION_MNIST, packed)
    dataset = data.open("fashion_mnist", "files", str(tmp_path))
    assert_holds(dataset, FASHION_MNIST)
    assert str(tmp_path) in dataset.source and "NOT the full set" in dataset.source


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("kind", ["bin", "py"])
def test_reads_cifar10_files(tmp_path, kind, packed):
    data_files.write_cifar10(tmp_path, CIFAR10, kind, packed)
    assert_holds(data.open("cifar10", "files", str(tmp_path)), CIFAR10)
    if not packed:  # the folder of the batches itself may be named too
        assert_holds(data.open("cifar10", "files", str(tmp_path / f"cifar-10-batches-{kind}")), CIFAR10)


def test_cifar10_python_fixture_is_a_pickle_that_numpy_reads():
    batch = pickle.loads(data_files.python_batch(*CIFAR10[:2]), encoding="bytes")
    np.testing.assert_array_equal(batch[b"data"], CIFAR10[0].transpose(0, 3, 1, 2).reshape(-1, 3072))
    assert batch[b"labels"] == list(CIFAR10[1])


@pytest.mark.parametrize("place", ["pixels", "labels", "beside", "whole", "by INST"])
@pytest.mark.parametrize("protocol", [0, 3, 5])
def test_what_a_cifar10_pickle_names_does_not_run(tmp_path, place, protocol):
    marker = tmp_path / "marker"
    call = Calls(os.mkdir, (str(marker),))
    batch = pickle.loads(data_files.python_batch(*CIFAR10[:2]), encoding="bytes")
    batch = {
        "pixels": {**batch, b"data": call},
        "labels": {**batch, b"labels": call},
        "beside": {**batch, b"more": call},
    }.get(place, call)
    payload = f"(V{marker}\nios\nmkdir\n.".encode() if place == "by INST" else pickle.dumps(batch, protocol)
    data_files.write_cifar10(tmp_path, CIFAR10, "py", packed=False)
    (tmp_path / "cifar-10-batches-py/data_batch_1").write_bytes(payload)
    with contextlib.nullcontext() if place == "beside" and protocol == 3 else pytest.raises(UserError, match="batch_1"):
        data.open("cifar10", "files", str(tmp_path))
    assert not marker.exists()
    pickle.loads(payload)
    assert marker.exists()  # it would have run


@pytest.mark.parametrize(
    "batch, message",
    [
        ({b"data": np.float64(1), b"labels": []}, "not a python batch"),
        ({b"data": np.zeros((1, 3072), object), b"labels": [0]}, "O8"),
        ({b"data": np.zeros((1, 3072), np.float32), b"labels": [0]}, "f4"),
        ({b"data": np.zeros((1, 3071), np.uint8), b"labels": [0]}, r"\(1, 3071\)"),
        ({b"data": np.zeros((2, 3072), np.uint8), b"labels": [0]}, "for 1 labels"),
        ({b"data": np.zeros((1, 3072), np.uint8)}, "labels"),
        ([], "not a python batch"),
    ],
)
def test_other_pickles_are_refused(tmp_path, batch, message):
    for name in data_files.cifar10_files(CIFAR10, "py"):
        (tmp_path / name).write_bytes(pickle.dumps(batch, protocol=3))
    with pytest.raises(UserError, match=f"data_batch_1.*{message}"):
        data.open("cifar10", "files", str(tmp_path))


def test_pickles_in_an_npz_file_are_not_read(tmp_path):
    marker = tmp_path / "marker"
    names = [f"{split}_{part}" for split in ("train", "test") for part in ("images", "labels")]
    arrays = {name: np.array([Calls(os.mkdir, (str(marker),))], object) for name in names}
    path = tmp_path / "fashion_mnist_mini.npz"
    np.savez(path, **arrays)
    with pytest.raises(UserError, match=f"{path}.*allow_pickle=False"):
        data.open("fashion_mnist_mini", directory=str(tmp_path))
    assert not marker.exists()
    np.load(path, allow_pickle=True)["train_images"]
    assert marker.exists()  # it would have run


def cut(path, size=-20):
    path.write_bytes(path.read_bytes()[:size])


def put(content):
    return lambda path: path.write_bytes(content)


@pytest.mark.parametrize(
    "packed, name, damage, message",
    [
        (True, "train-images-idx3-ubyte.gz", cut, "cannot be read"),
        (True, "t10k-labels-idx1-ubyte.gz", put(b""), "magic number missing"),
        (False, "train-images-idx3-ubyte", cut, "announces"),
        (False, "train-labels-idx1-ubyte", put(data_files.idx(FASHION_MNIST[1]) + b"more"), "announces"),
        (False, "t10k-images-idx3-ubyte", put(data_files.idx(FASHION_MNIST[1])), "magic number 00000801"),
        (False, "train-labels-idx1-ubyte", put(data_files.idx(FASHION_MNIST[1][:-1])), "29 labels"),
        (False, "train-labels-idx1-ubyte", put(data_files.idx(FASHION_MNIST[1] + 1)), "from 1 to 10"),
        (False, "train-images-idx3-ubyte", put(data_files.idx(FASHION_MNIST[0][:, :27, :, 0])), r"\(30, 27, 28, 1\)"),
    ],
)
def test_damaged_idx_files_are_named(tmp_path, packed, name, damage, message):
    data_files.write_fashion_mnist(tmp_path, FASHION_MNIST, packed)
    damage(tmp_path / name)
    for source in ("files", "auto"):  # "auto" does not pass over damage in silence
        with pytest.raises(UserError, match=f"{tmp_path}.*{message}"):
            data.open("fashion_mnist", source, str(tmp_path))


@pytest.mark.parametrize(
    "kind, packed, name, damage",
    [
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
        data.open("cifar10", "files", str(tmp_path))


def test_archive_members_are_read_from_the_right_folder_and_never_extracted(tmp_path, monkeypatch):
    outside = tmp_path / "outside.bin"
    outside.write_bytes(data_files.binary_batch(*CIFAR10[2:]))
    monkeypatch.chdir(tmp_path)
    with tarfile.open(tmp_path / "cifar-10-binary.tar.gz", "w:gz") as tar:
        for index in range(1, 6):
            tar.add(outside, f"cifar-10-batches-bin/data_batch_{index}.bin")
        tar.add(outside, "../cifar-10-batches-bin/test_batch.bin")
        link = tarfile.TarInfo("cifar-10-batches-bin/test_batch.bin")
        link.type, link.linkname = tarfile.SYMTYPE, str(outside)
        tar.addfile(link)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match="lacks test_batch.bin"):
        data.open("cifar10", "files", str(tmp_path))
    assert sorted(tmp_path.rglob("*")) == before
