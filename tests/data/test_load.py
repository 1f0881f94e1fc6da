import dataclasses
import gzip
import hashlib
import http.server
import subprocess
import sys
import threading
from pathlib import Path

import data_files
import numpy as np
import pytest
from data_files import ARRAYS, CIFAR10, FASHION_MNIST, assert_holds

from onebnet_jax.data import load as data
from onebnet_jax.data.catalog import DATASETS, Info
from onebnet_jax.data.embedded import build
from onebnet_jax.errors import UserError

CATALOG = dict(DATASETS)  # as it is, without what `isolated` changes


@pytest.fixture(autouse=True)
def isolated(tmp_path, monkeypatch):
    data_files.isolate(tmp_path, monkeypatch)


# What is known without reading.


def test_importing_data_loads_no_framework():
    code = (
        "import sys, onebnet_jax.data.load; "
        "print(sorted({'jax', 'flax', 'tensorflow_datasets', 'tensorflow', 'PIL'} & set(sys.modules)))"
    )
    root = Path(__file__).parents[2]
    result = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize("name", CATALOG)
def test_info_is_consistent(name):
    info = CATALOG[name]
    assert info.name == name
    assert len(info.mean) == len(info.std) == info.shape[2]
    assert all(0 < value < 1 for value in info.mean + info.std)
    assert info.num_classes == len(set(info.class_names)) or not info.class_names
    assert ("download" in info.sources) == bool(info.originals)
    assert (info.read is None) == (info.streamed or not info.num_classes)


@pytest.mark.parametrize("name", ARRAYS)
def test_downloads_are_those_that_tfds_records(name):
    import tensorflow_datasets as tfds

    recorded = {url: record.checksum for url, record in tfds.builder_cls(name).url_infos.items()}
    assert recorded == dict(CATALOG[name].originals)


def test_an_entry_is_all_that_a_new_data_set_needs(tmp_path, monkeypatch):
    arrays = data_files.random_arrays((5, 4, 2))
    info = Info("new", "A new one", (5, 4, 2), 10, (), (0.5, 0.5), (0.2, 0.2), 30, 10, "", read=lambda _: (arrays, "x"))
    monkeypatch.setitem(DATASETS, "new", info)
    dataset = data.open("new")
    assert_holds(dataset, arrays)
    assert (dataset.info, dataset.train_size, dataset.test_size) == (info, 30, 10)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"mean": (0.5,)}, r"2 values each in mean and std.* not \(0.5,\) and \(0.2, 0.2\)"),
        ({"std": (0.2, 0.0)}, "above 0 in std"),
        ({"class_names": ("a", "b")}, "has 2 class_names for 10 classes"),
    ],
)
def test_an_entry_that_does_not_fit_its_images_is_refused(fields, words, monkeypatch):
    arrays = data_files.random_arrays((5, 4, 2))
    info = Info("new", "A new one", (5, 4, 2), 10, (), (0.5, 0.5), (0.2, 0.2), 30, 10, "", read=lambda _: (arrays, "x"))
    monkeypatch.setitem(DATASETS, "new", dataclasses.replace(info, **fields))
    with pytest.raises(UserError, match=words):
        data.open("new")


def test_labels_that_are_no_whole_numbers_are_refused(monkeypatch):
    images, labels, *test = data_files.random_arrays((5, 4, 1))
    arrays = images, labels.astype(np.float32), *test
    info = Info("new", "A new one", (5, 4, 1), 10, (), (0.5,), (0.2,), 30, 10, "", read=lambda _: (arrays, "x"))
    monkeypatch.setitem(DATASETS, "new", info)
    with pytest.raises(UserError, match="labels of float32, not whole numbers"):
        data.open("new")


# The embedded set.


def test_embedded_set_is_class_balanced_and_small():
    dataset = data.open("fashion_mnist_mini")
    info = dataset.info
    assert (dataset.train_size, dataset.test_size) == (info.train_size, info.test_size)
    np.testing.assert_array_equal(np.bincount(dataset.train_labels), [info.train_size // 10] * 10)
    np.testing.assert_array_equal(np.bincount(dataset.test_labels), [info.test_size // 10] * 10)
    assert build.FILE.stat().st_size < 3e6
    assert "Zalando SE" in (build.FILE.parent / "LICENSE").read_text()


@pytest.mark.skipif(
    not Path(*CATALOG["fashion_mnist"].folders).is_dir(), reason="needs Debian's package dataset-fashion-mnist"
)
def test_full_set_embedded_part_and_recorded_statistics_agree(monkeypatch):
    monkeypatch.setitem(DATASETS, "fashion_mnist", CATALOG["fashion_mnist"])
    full = data.open("fashion_mnist", "files")
    assert "NOT the full set" not in full.source and "/usr/share/datasets/fashion-mnist" in full.source
    scaled = full.train_images / np.float32(255)
    np.testing.assert_allclose((scaled.mean(dtype=float), scaled.std(dtype=float)), (0.2860, 0.3530), atol=5e-5)
    assert (full.info.mean, full.info.std) == ((0.2860,), (0.3530,))
    with np.load(build.FILE) as file:
        for name, array in build.part(full).items():
            np.testing.assert_array_equal(file[name], array)


# Downloads.


@pytest.fixture
def server(tmp_path, monkeypatch):
    """FashionMNIST served over HTTP: (folder that is served, list of the paths that were asked for)."""
    folder, asked = data_files.write_fashion_mnist(tmp_path / "served", FASHION_MNIST), []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(folder))

        def log_message(self, *_):
            asked.append(self.path)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        threading.Thread(target=httpd.serve_forever, args=(0.01,), daemon=True).start()
        address = f"http://127.0.0.1:{httpd.server_address[1]}"
        originals = tuple((f"{address}/{p.name}", hashlib.sha256(p.read_bytes()).hexdigest()) for p in folder.iterdir())
        info = dataclasses.replace(DATASETS["fashion_mnist"], originals=originals)
        monkeypatch.setitem(DATASETS, "fashion_mnist", info)
        yield folder, asked
        httpd.shutdown()


def test_downloads_once(server, tmp_path):
    assert_holds(data.open("fashion_mnist"), FASHION_MNIST)  # "auto" comes to it last
    assert len(server[1]) == 4
    assert (tmp_path / "tfds_default/downloads/fashion_mnist/train-images-idx3-ubyte.gz").exists()
    for source in ("auto", "files", "download"):
        assert_holds(data.open("fashion_mnist", source), FASHION_MNIST)
    assert len(server[1]) == 4


def test_download_into_a_named_folder_completes_it(server, tmp_path):
    folder = tmp_path / "new"
    data.open("fashion_mnist", "download", str(folder))
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    assert "downloaded" in data.open("fashion_mnist", "auto", str(folder)).source
    assert server[1][4:] == ["/t10k-labels-idx1-ubyte.gz"]
    assert len(list(folder.iterdir())) == 4


def test_a_download_keeps_no_wrong_file_and_overwrites_none(server, tmp_path):
    folder, name = tmp_path / "new", "train-images-idx3-ubyte.gz"
    (server[0] / name).write_bytes(b"another file")
    with pytest.raises(UserError, match=f"http.*{name}.*SHA-256"):
        data.open("fashion_mnist", "download", str(folder))
    assert not list(folder.glob("train-images*"))
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"mine")
    with pytest.raises(UserError, match=f"{folder / name}.*SHA-256"):
        data.open("fashion_mnist", "download", str(folder))
    assert (folder / name).read_bytes() == b"mine"


def test_a_page_that_is_gone_is_named(server, tmp_path):
    (server[0] / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(UserError, match="t10k-labels-idx1-ubyte.gz to .*404"):
        data.open("fashion_mnist", "download", str(tmp_path))


# The choice of the source.


def test_auto_takes_tfds_before_files(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(data_files.tfds_directory("fashion_mnist", "array_record")))
    data_files.write_fashion_mnist(Path(*DATASETS["fashion_mnist"].folders), FASHION_MNIST)
    assert "TFDS" in data.open("fashion_mnist").source
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "empty"))
    assert "original files in" in data.open("fashion_mnist").source


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize("directory", [False, True])
def test_missing_data_name_every_way_to_get_them(name, directory, tmp_path):
    with pytest.raises(UserError) as error:
        data.open(name, "auto", str(tmp_path) if directory else "")
    message = str(error.value)
    assert "\n" not in message and DATASETS[name].remedy in message
    assert (str(tmp_path) if directory else "tfds_default") in message
    assert "127.0.0.1" in message  # the download was tried too
    assert not list(tmp_path.iterdir())  # and left nothing behind


@pytest.mark.parametrize("source", ["tfds", "files", "download"])
def test_nothing_but_the_chosen_source_is_tried(source, tmp_path):
    with pytest.raises(UserError, match=str(tmp_path)) as error:
        data.open("cifar10", source, str(tmp_path))
    assert ("127.0.0.1" in str(error.value)) == (source == "download")


def test_incomplete_files_are_listed(tmp_path):
    data_files.write_fashion_mnist(tmp_path, FASHION_MNIST)
    (tmp_path / "t10k-images-idx3-ubyte.gz").unlink()
    with pytest.raises(UserError, match="lacks t10k-images-idx3-ubyte"):
        data.open("fashion_mnist", "files", str(tmp_path))
    data_files.write_cifar10(tmp_path, CIFAR10, "bin", packed=False)
    (tmp_path / "cifar-10-batches-bin/data_batch_2.bin").unlink()
    with pytest.raises(UserError, match="lacks data_batch_2.bin"):
        data.open("cifar10", "files", str(tmp_path))


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("cifar10", "kaggle"), "data.source='kaggle'.*'auto', 'tfds'"),
        (("fashion_mnist_mini", "download"), "data.source='download'"),
        (("fashion_mnist_mini", "auto", "."), "no fashion_mnist_mini.npz in .*data.dir"),
        (("imagenet2012", "download"), "data.source='download'"),
        (("cifar10", "auto", "no/such/folder"), "data.dir='no/such/folder'"),
        (("cifar10", "files", "x" * 300), "data.dir='xxx"),
        (("imagenet2012", "tfds", "~nobody-by-this-name/x"), "data.dir="),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(UserError, match=message):
        data.open(*arguments)


def test_what_the_operating_system_refuses_is_a_user_error(monkeypatch):
    def refuse(_):
        raise PermissionError(13, "Permission denied", "/data")

    monkeypatch.setitem(DATASETS, "cifar10", dataclasses.replace(DATASETS["cifar10"], read=refuse))
    with pytest.raises(UserError, match="CIFAR-10.*Permission denied: '/data'"):
        data.open("cifar10", "files")


@pytest.mark.parametrize("packed", [True, False])
def test_files_are_compared_with_the_sums_that_are_known(packed, tmp_path, monkeypatch):
    folder = data_files.write_fashion_mnist(tmp_path / "files", FASHION_MNIST, packed)

    def said():
        return data.open("fashion_mnist", "files", str(folder)).source

    assert "NOT those that were published, by SHA-256: t10k-images-idx3-ubyte" in said()
    contents = {path.name.removesuffix(".gz"): path.read_bytes() for path in folder.iterdir()}
    contents = {name: gzip.decompress(content) if packed else content for name, content in contents.items()}
    sums = tuple((name, hashlib.sha256(content).hexdigest()) for name, content in contents.items())
    monkeypatch.setitem(DATASETS, "fashion_mnist", dataclasses.replace(DATASETS["fashion_mnist"], published=sums))
    assert "(as published, by SHA-256)" in said()
    monkeypatch.setitem(DATASETS, "fashion_mnist", dataclasses.replace(DATASETS["fashion_mnist"], published=()))
    assert "no published SHA-256" in said()


def test_the_embedded_images_are_those_that_are_published():
    assert "(as published, by SHA-256)" in data.open("fashion_mnist_mini").source
