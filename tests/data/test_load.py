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

from onebnet_jax.data import catalog as data_info
from onebnet_jax.data import load as data
from onebnet_jax.data.embedded import build
from onebnet_jax.errors import UserError

REPOSITORY = Path(__file__).parents[2]
needs_debian = pytest.mark.skipif(
    not Path(data.DEBIAN_FOLDER).is_dir(), reason="needs Debian's package dataset-fashion-mnist"
)


@pytest.fixture(autouse=True)
def isolated(tmp_path, monkeypatch):
    data_files.isolate(tmp_path, monkeypatch)


# What is known without reading.


def test_importing_data_loads_no_framework():
    code = (
        "import sys, onebnet_jax.data.load; "
        "print(sorted({'jax', 'flax', 'tensorflow_datasets', 'tensorflow', 'PIL'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize("name", data_info.DATASETS)
def test_info_is_consistent(name):
    info = data_info.DATASETS[name]
    assert len(info.mean) == len(info.std) == info.shape[2]
    assert info.num_classes == (1000 if info.streamed else len(set(info.class_names)))
    assert all(0 < value < 1 for value in info.mean + info.std)


# The embedded set.


def test_embedded_set_is_class_balanced_and_small():
    dataset = data.load("fashion_mnist_mini")
    info = dataset.info
    assert dataset.train_images.shape == (info.train_size, *info.shape)
    assert dataset.test_images.shape == (info.test_size, *info.shape)
    np.testing.assert_array_equal(np.bincount(dataset.train_labels), [info.train_size // 10] * 10)
    np.testing.assert_array_equal(np.bincount(dataset.test_labels), [info.test_size // 10] * 10)
    assert "part of FashionMNIST" in dataset.source
    assert data.EMBEDDED_FILE.stat().st_size < 3e6
    assert "Zalando SE" in (data.EMBEDDED_FILE.parent / "LICENSE").read_text()


def test_embedded_set_has_no_source_to_choose(tmp_path):
    for source, directory in (("files", ""), ("auto", str(tmp_path))):
        with pytest.raises(UserError, match="fashion_mnist_mini"):
            data.load("fashion_mnist_mini", source, directory)


@needs_debian
def test_full_set_embedded_part_and_recorded_statistics_agree(monkeypatch):
    monkeypatch.undo()
    full = data.load("fashion_mnist", "files")
    assert len(full.train_images) == full.info.train_size and len(full.test_images) == full.info.test_size
    assert "NOT the full set" not in full.source and "/usr/share/datasets/fashion-mnist" in full.source
    mean, std = build.statistics(full.train_images)
    np.testing.assert_allclose((mean, std), (full.info.mean, full.info.std), atol=5e-5)
    scaled = full.train_images.astype(np.float64) / 255
    np.testing.assert_allclose((mean[0], std[0]), (scaled.mean(), scaled.std()), rtol=1e-9)

    mini = data.load("fashion_mnist_mini")
    for split in ("train", "test"):
        images, labels = getattr(full, f"{split}_images"), getattr(full, f"{split}_labels")
        with np.load(data.EMBEDDED_FILE) as file:
            indices = file[f"{split}_indices"]
        per_class = getattr(mini.info, f"{split}_size") // 10
        np.testing.assert_array_equal(indices, build.choose(labels, per_class))
        np.testing.assert_array_equal(getattr(mini, f"{split}_images"), images[indices])
        np.testing.assert_array_equal(getattr(mini, f"{split}_labels"), labels[indices])


# Downloads.


@pytest.fixture
def server(tmp_path):
    """(folder served over HTTP, address, list of the paths that were asked for)."""
    folder, asked = tmp_path / "served", []
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(folder))

        def log_message(self, *_):
            asked.append(self.path)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{httpd.server_address[1]}", asked
        httpd.shutdown()


def publish(server, monkeypatch):
    folder, address, _ = server
    data_files.write_fashion_mnist(folder, FASHION_MNIST)
    sums = {f"{address}/{path.name}": hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    monkeypatch.setattr(data, "_originals", lambda name: sums)


def test_downloads_once(server, tmp_path, monkeypatch):
    publish(server, monkeypatch)
    assert_holds(data.load("fashion_mnist"), FASHION_MNIST)  # "auto" comes to it last
    assert len(server[2]) == 4
    assert (tmp_path / "tfds_default/downloads/fashion_mnist/train-images-idx3-ubyte.gz").exists()
    for source in ("auto", "files", "download"):
        assert_holds(data.load("fashion_mnist", source), FASHION_MNIST)
    assert len(server[2]) == 4


def test_download_into_a_named_folder_completes_it(server, tmp_path, monkeypatch):
    publish(server, monkeypatch)
    folder = tmp_path / "new"
    data.load("fashion_mnist", "download", str(folder))
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    assert "downloaded" in data.load("fashion_mnist", "auto", str(folder)).source
    assert server[2][4:] == ["/t10k-labels-idx1-ubyte.gz"]
    assert len(list(folder.iterdir())) == 4


def test_a_download_with_a_wrong_checksum_is_refused_and_not_kept(server, tmp_path, monkeypatch):
    publish(server, monkeypatch)
    (server[0] / "train-images-idx3-ubyte.gz").write_bytes(b"another file")
    with pytest.raises(UserError, match="SHA-256"):
        data.load("fashion_mnist", "download", str(tmp_path / "new"))
    assert not list((tmp_path / "new").glob("train-images*"))


def test_a_download_does_not_overwrite_files(server, tmp_path, monkeypatch):
    publish(server, monkeypatch)
    mine = tmp_path / "t10k-images-idx3-ubyte.gz"
    mine.write_bytes(b"mine")
    with pytest.raises(UserError, match=str(mine)):
        data.load("fashion_mnist", "download", str(tmp_path))
    assert mine.read_bytes() == b"mine"


def test_a_page_that_is_gone_is_named(server, tmp_path, monkeypatch):
    monkeypatch.setattr(data, "_originals", lambda name: {f"{server[1]}/gone.gz": "0" * 64})
    with pytest.raises(UserError, match="gone.gz to .*404"):
        data.load("fashion_mnist", "download", str(tmp_path))


def test_tfds_records_the_files_that_the_readers_look_for(monkeypatch):
    monkeypatch.undo()
    names = {name: {url.rpartition("/")[2] for url in data._originals(name)} for name in ARRAYS}
    assert names["cifar10"] == {"cifar-10-binary.tar.gz"}
    assert names["fashion_mnist"] == {
        f"{split}-{kind}-ubyte.gz" for split in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")
    }


# The choice of the source.


def test_auto_takes_tfds_before_files(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(data_files.tfds_directory("fashion_mnist", "array_record")))
    data_files.write_fashion_mnist(Path(data.DEBIAN_FOLDER), FASHION_MNIST)
    assert "TFDS" in data.load("fashion_mnist").source
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "empty"))
    assert "original files in" in data.load("fashion_mnist").source


@pytest.mark.parametrize("name", ["fashion_mnist", "cifar10"])
@pytest.mark.parametrize("directory", [False, True])
def test_missing_data_name_every_way_to_get_them(name, directory, tmp_path):
    with pytest.raises(UserError) as error:
        data.load(name, "auto", str(tmp_path) if directory else "")
    message = str(error.value)
    assert "\n" not in message
    remedies = ["data.dir", "TFDS", "data.source='download'", "tfds_default" if not directory else str(tmp_path)]
    remedies += ["apt install dataset-fashion-mnist"] if name == "fashion_mnist" else ["cifar-10-python.tar.gz"]
    for remedy in remedies:
        assert remedy in message
    assert "127.0.0.1" in message  # the download was tried too
    assert not list(tmp_path.iterdir())  # and left nothing behind


@pytest.mark.parametrize("source", ["tfds", "files", "download"])
def test_a_chosen_source_that_is_missing_says_where_it_looked(source, tmp_path):
    with pytest.raises(UserError, match=str(tmp_path)) as error:
        data.load("cifar10", source, str(tmp_path))
    assert ("127.0.0.1" in str(error.value)) == (source == "download")


def test_incomplete_files_are_listed(tmp_path):
    data_files.write_fashion_mnist(tmp_path, FASHION_MNIST)
    (tmp_path / "t10k-images-idx3-ubyte.gz").unlink()
    with pytest.raises(UserError, match="lacks t10k-images-idx3-ubyte"):
        data.load("fashion_mnist", "files", str(tmp_path))
    data_files.write_cifar10(tmp_path, CIFAR10, "bin", packed=False)
    (tmp_path / "cifar-10-batches-bin/data_batch_2.bin").unlink()
    with pytest.raises(UserError, match="lacks data_batch_2.bin"):
        data.load("cifar10", "files", str(tmp_path))


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("mnist",), "data.name='mnist' is unknown.*'fashion_mnist'"),
        (("cifar10", "kaggle"), "data.source='kaggle' is unknown.*'auto', 'tfds'"),
        (("cifar10", "auto", "no/such/folder"), "data.dir='no/such/folder' is not a folder"),
        (("cifar10", "files", "x" * 300), "data.dir='xxx.*' is not a folder"),
        (("cifar10", "tfds", "~nobody-by-this-name/x"), "is not a folder"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(UserError, match=message):
        data.load(*arguments)


def test_what_the_operating_system_refuses_is_a_user_error(monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", "x" * 300)
    with pytest.raises(UserError, match="CIFAR-10 cannot be read: .*File name too long"):
        data.load("cifar10")
