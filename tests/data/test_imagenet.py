"""The streamed input on real image files made on the spot, in folders and through TFDS's own builder."""

import functools
import importlib.util
import io
import itertools
import re
import sys
from pathlib import Path

import image_files
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from image_files import needs_tensorflow
from PIL import Image

import onebnet_jax
from onebnet_jax.commands import data_benchmark
from onebnet_jax.data import load as data
from onebnet_jax.data.catalog import DATASETS
from onebnet_jax.data.imagenet import reader
from onebnet_jax.data.imagenet.reader import Share
from onebnet_jax.errors import UserError

ROOT = Path(__file__).parents[2]
TRAIN, VAL = (9, 7, 7), (3, 4, 4)  # images of each class: 23 and 11


# Which images a process takes, and in which order: without TensorFlow.


@given(st.integers(1, 200), st.integers(1, 9), st.integers(1, 4))
def test_processes_share_every_image_once(size, batch_size, count):
    shares = [reader.Share(batch_size, index, count) for index in range(count)]
    positions = [share.positions(size) for share in shares]
    np.testing.assert_array_equal(np.sort(np.concatenate(positions)), np.arange(size))
    for step in range(shares[0].steps(size) + 1):
        for share, all_positions in zip(shares, positions):
            np.testing.assert_array_equal(share.positions(size, step), all_positions[step * batch_size :])
    batches = np.concatenate(positions) // (batch_size * count)
    assert batches.max() + 1 == shares[0].steps(size)


def records(lengths, *arguments):
    """What the windows hold, as (shard, record in the shard)."""
    wanted = []
    for *pieces, order in reader.windows_of(np.arange(len(lengths)), lengths, *arguments):
        window = [(shard, skip + i) for shard, skip, take in zip(*pieces) for i in range(take)]
        wanted += [window[place] for place in order]
    return wanted


@given(st.data())
def test_windows_hold_each_record_once_and_resume_anywhere(data):
    lengths = np.array(data.draw(st.lists(st.integers(1, 12), min_size=1, max_size=6)))
    start, stop = sorted(data.draw(st.tuples(*[st.integers(0, int(lengths.sum()))] * 2)))
    window = data.draw(st.integers(1, 20))
    key = data.draw(st.none() | st.tuples(st.integers(0, 9), st.integers(0, 9)))
    stored = [(shard, record) for shard, length in enumerate(lengths) for record in range(length)][start:stop]
    all_records = records(lengths, key, start, stop, start, window)
    if key is None:
        assert all_records == stored
    for begin in range(0, len(stored), window):
        assert sorted(all_records[begin : begin + window]) == stored[begin : begin + window]
    first = data.draw(st.integers(start, stop))
    assert records(lengths, key, start, stop, first, window) == all_records[first - start :]


def test_windows_are_shuffled_anew():
    orders = {tuple(records(np.array([50]), key, 0, 50, 0, 25)) for key in [(0, 0), (0, 1), (1, 0), (1, 1)]}
    assert len(orders) == 4
    windows = [order for *_, order in reader.windows_of(np.arange(1), np.array([50]), (0, 0), 0, 50, 0, 25)]
    assert windows[0].tolist() != windows[1].tolist()


# Where the data are.


def open_(source="auto", directory="", **fields):
    return data.open("imagenet2012", source, str(directory), **{"image_size": 16, "threads": 2, **fields})


@pytest.mark.parametrize("source", ["auto", "tfds", "files"])
def test_names_all_ways_to_get_missing_data(source, tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "none"))
    for directory in ("", tmp_path):
        with pytest.raises(UserError, match=r"^ImageNet .*_val\.tar.*download_and_prepare.*train/CLASS") as error:
            open_(source, directory)
        assert "\n" not in str(error.value)


def test_refuses_folders_that_would_give_wrong_labels(tmp_path):
    image_files.write_folders(tmp_path, (1, 1), (1, 1, 1))
    with pytest.raises(UserError, match=image_files.CLASSES[2]):
        open_("files", tmp_path)
    flat = tmp_path / "flat"
    image_files.write_folders(flat, (1, 1), ())
    (flat / "val").mkdir()
    (flat / "val" / "ILSVRC2012_val_00000001.JPEG").write_bytes(b"")
    with pytest.raises(UserError, match="flat/val has no class folders"):
        open_("files", flat)


def test_says_that_tensorflow_is_missing(tmp_path, monkeypatch):
    image_files.write_folders(tmp_path, (1,), (1,))
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    monkeypatch.delitem(sys.modules, "onebnet_jax.data.imagenet.pipeline", raising=False)
    monkeypatch.delattr(onebnet_jax.data.imagenet, "pipeline", raising=False)
    with pytest.raises(UserError, match="TensorFlow, which is not installed: pip install (.*)") as error:
        open_("files", tmp_path)
    assert str(error.value).split()[-1] in (ROOT / "requirements.txt").read_text().split()


def test_labels_have_names():
    info = DATASETS["imagenet2012"]
    known = {0: "tench", 207: "golden retriever", 281: "tabby", 497: "church", 999: "toilet tissue"}
    assert {label: info.class_names[label] for label in known} == known
    recorded = Path(importlib.util.find_spec("tensorflow_datasets").origin).parent / "datasets/imagenet2012/labels.txt"
    assert info.class_folders == tuple(recorded.read_text().split())


# Whole epochs, of folders and of what TFDS's builder makes of ILSVRC's tar files.


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("imagenet")
    image_files.write_folders(root, TRAIN, VAL)
    return root


@pytest.fixture(scope="module")
def tars(tmp_path_factory):
    """ILSVRC's tar files, and the labels that TFDS gives the validation images."""
    from tensorflow_datasets.datasets.imagenet2012 import imagenet_common

    folder = tmp_path_factory.mktemp("tars") / "manual"
    lines = Path(imagenet_common.tfds.core.tfds_path(imagenet_common._VALIDATION_LABELS_FNAME)).read_text().split()
    # The colour says the place; the labels are those of ImageNet's own first images.
    image_files.write_tars(folder, TRAIN, [image_files.encode(image_files.plain(0, i)) for i in range(sum(VAL))])
    names = Path(imagenet_common.tfds.core.tfds_path(imagenet_common._LABELS_FNAME)).read_text().split()
    return folder, [names.index(line) for line in lines[: sum(VAL)]]


def build(tars, directory, shards=4, **fields):
    """What the command in the error message does, in a few files."""
    import tensorflow_datasets as tfds

    builder = tfds.builder("imagenet2012", data_dir=directory, **fields)
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(manual_dir=str(tars[0]), num_shards=shards)
    )


@pytest.fixture(scope="module")
def tfds_directory(tars, tmp_path_factory):
    directory = tmp_path_factory.mktemp("tfds")
    build(tars, directory)
    return directory


class Opened:
    """A data set of tiny images, its batches for one process."""

    def __init__(self, source, directory, batch_size=4, seed=0, process_index=0, process_count=1, **fields):
        self.dataset = open_(source, directory, **fields)
        self._share, self._seed = Share(batch_size, process_index, process_count), seed

    def train(self, epoch, first_step=0):
        return self.dataset.train_batches(self._share, self._seed, epoch, first_step)

    def test(self):
        return self.dataset.test_batches(self._share)


@pytest.fixture(params=["files", "tfds"])
def make(request, monkeypatch):
    """Opens either source, records in windows of 8."""
    monkeypatch.setattr(reader, "WINDOW", 8)
    directory = request.getfixturevalue({"files": "folders", "tfds": "tfds_directory"}[request.param])
    make = functools.partial(Opened, request.param, directory)
    make.source = request.param
    return make


def identities(batches):
    """(label, index) of all images that count; the labels are right."""
    found = []
    for batch in batches:
        assert batch["images"].dtype == np.uint8 and batch["labels"].dtype == np.int32
        assert batch["images"].shape[1:] == (16, 16, 3)
        for image, label, mask in zip(batch["images"], batch["labels"], batch["mask"], strict=True):
            if mask:
                found.append(image_files.identify(image))
                assert found[-1][0] == label
            else:
                assert not image.any()
    return found


def assert_equal(batches, expected):
    for batch, other in itertools.zip_longest(batches, expected):
        for name in ("images", "labels", "mask"):
            np.testing.assert_array_equal(batch[name], other[name])


ALL = [(label, index) for label, count in enumerate(TRAIN) for index in range(count)]


@needs_tensorflow
def test_every_epoch_has_every_image_once_in_an_order_of_its_own(make):
    opened = make()
    dataset = opened.dataset
    assert (dataset.train_size, dataset.test_size, dataset.info.shape) == (sum(TRAIN), sum(VAL), (16, 16, 3))
    assert "23 training and 11 test images" in dataset.source and "NOT the full set" in dataset.source
    epochs = [identities(opened.train(epoch)) for epoch in range(2)]
    epochs.append(identities(make(seed=5).train(2)))
    assert all(sorted(epoch) == ALL for epoch in epochs)
    assert len(set(map(tuple, epochs))) == 3 and ALL not in epochs
    # In the order that it always had, or kept runs would not go on as they began.
    first = {"files": [(2, 3), (0, 5), (1, 3), (2, 5)], "tfds": [(2, 1), (1, 6), (1, 0), (1, 5)]}
    assert epochs[2][:4] == first[make.source]


@pytest.mark.slow
@needs_tensorflow
def test_processes_share_an_epoch_and_its_number_of_batches(make):
    parts = [list(make(4, process_index=index, process_count=5).train(0)) for index in range(5)]
    assert [[int(batch["mask"].sum()) for batch in part] for part in parts] == [[4, 3]] + [[4, 0]] * 4
    assert sorted(identities(itertools.chain(*parts))) == ALL
    parts = [list(make(6, process_index=index, process_count=3).test()) for index in range(3)]
    assert [[int(batch["mask"].sum()) for batch in part] for part in parts] == [[6], [5], [0]]


@pytest.mark.slow
@needs_tensorflow
def test_goes_on_at_any_step_as_if_never_stopped(make):
    whole = list(make(lighting=0.1).train(3))
    assert len(whole) == 6
    for first in (1, 5, 6):
        assert_equal(make(lighting=0.1, threads=1 + first % 3).train(3, first), whole[first:])
    part = dict(process_index=1, process_count=2)
    assert_equal(make(3, **part).train(1, 2), list(make(3, **part).train(1))[2:])


@pytest.mark.slow
@needs_tensorflow
def test_global_batches_of_folders_do_not_depend_on_the_processes(folders):
    def batches(count):
        readers = [Opened("files", folders, 8 // count, process_index=i, process_count=count) for i in range(count)]
        for parts in zip(*(part.train(2) for part in readers), strict=True):
            yield {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    assert_equal(batches(4), batches(1))


@needs_tensorflow
def test_validation_has_each_image_once_in_order(make, tars):
    batches = list(make(4).test())
    assert [batch["mask"].tolist() for batch in batches] == [[1] * 4, [1] * 4, [1, 1, 1, 0]]
    if make.source == "files":
        assert identities(batches) == [(label, index) for label, count in enumerate(VAL) for index in range(count)]
        return
    # TFDS stores them in an order of its own.
    images, labels = (np.concatenate([batch[name] for batch in batches])[:11] for name in ("images", "labels"))
    places = [image_files.identify(image)[1] for image in images]
    assert sorted(places) == list(range(11))
    assert [tars[1][place] for place in places] == labels.tolist()


@needs_tensorflow
def test_a_share_of_the_training_images_is_for_validation(make):
    """Of folders a fifth of each class, of four files of records one."""
    opened = make(4)
    whole = opened.dataset
    opened.dataset = data.with_validation(whole, 0.2, seed=3)
    held = identities(opened.dataset.test_batches(Share(4), "validation"))
    assert sorted(held + identities(opened.train(0))) == ALL and opened.dataset.validates and not whole.validates
    assert opened.dataset.train_size + len(held) == whole.train_size == sum(TRAIN)
    assert f"; {len(held)} of the training images" in opened.dataset.source and opened.dataset.test_size == sum(VAL)
    if make.source == "files":
        assert sorted(label for label, _ in held) == [0, 0, 1, 2]
    others = [data.with_validation(whole, 0.2, seed).test_batches(Share(4), "validation") for seed in (3, 1)]
    assert identities(others[0]) == held != identities(others[1])
    with pytest.raises(UserError, match="data.validation=0.2 must be 0"):
        data.with_validation(opened.dataset, 0.2, seed=0)


@needs_tensorflow
def test_one_file_of_records_cannot_be_shared(tars, tmp_path):
    build(tars, tmp_path, shards=1)
    with pytest.raises(UserError, match="data.validation=0.5 .* one from the TFDS directory"):
        data.with_validation(open_("tfds", tmp_path), 0.5, seed=0)


@needs_tensorflow
def test_refuses_a_tfds_format_that_cannot_be_streamed(tars, tmp_path):
    build(tars, tmp_path, file_format="array_record")
    with pytest.raises(UserError, match="array_record.*tfrecord"):
        open_("tfds", tmp_path)


# The images.


@pytest.fixture(scope="module")
def pipeline():
    return pytest.importorskip("onebnet_jax.data.imagenet.pipeline")


def pillow(content):
    return Image.open(io.BytesIO(content)).convert("RGB")


def assert_close(image, reference, greatest):
    """Pillow rounds between its two passes."""
    difference = np.abs(np.asarray(image, int) - np.asarray(reference, int))
    assert difference.mean() < 0.3 and difference.max() <= greatest, (difference.mean(), difference.max())


SHAPES = [(60, 90), (90, 60), (64, 64), (41, 57), (20, 31), (200, 333), (30, 300)]


@pytest.mark.parametrize("shape", SHAPES)
def test_central_view_equals_torchvision_on_pillow(shape, pipeline):
    size, short = 28, 32  # as 224 and 256
    content = image_files.encode(image_files.photo(*shape))
    reference = pillow(content)
    width, height = reference.size
    resized = (short, short * height // width) if width < height else (short * width // height, short)
    reference = reference.resize(resized, Image.BILINEAR)
    left, top = (round((side - size) / 2) for side in resized)
    reference = reference.crop((left, top, left + size, top + size))
    assert_close(pipeline.central_view(pipeline.tf.constant(content), size), reference, greatest=1)


def reference_window(shape, draws):
    """RandomResizedCrop of torchvision.transforms, get_params, from given uniform draws."""
    height, width = shape
    for area, ratio in zip(draws[:10], draws[10:20]):
        target = height * width * (0.08 + 0.92 * area)
        ratio = np.exp(np.log(3 / 4) + ratio * (np.log(4 / 3) - np.log(3 / 4)))
        w, h = round(np.sqrt(target * ratio)), round(np.sqrt(target / ratio))
        if 0 < w <= width and 0 < h <= height:
            return int(draws[20] * (height - h + 1)), int(draws[21] * (width - w + 1)), h, w
    if width / height < 3 / 4:
        w, h = width, round(width / (3 / 4))
    elif width / height > 4 / 3:
        w, h = round(height * (4 / 3)), height
    else:
        w, h = width, height
    return (height - h) // 2, (width - w) // 2, h, w


@pytest.mark.parametrize("shape", [*SHAPES, (1, 1), (1, 500), (375, 500)])
def test_random_window_equals_torchvision(shape, pipeline):
    rng = np.random.default_rng(0)
    for draws in [*rng.random((30, 22)), np.zeros(22), np.full(22, np.nextafter(1, 0))]:
        window = pipeline.random_window(np.array(shape, np.int32), draws)
        assert tuple(window.numpy()) == reference_window(shape, draws)


def test_random_view_is_the_window_resized_and_flipped_by_half(pipeline):
    content = image_files.encode(image_files.photo(75, 100))
    reference = pillow(content)
    flipped, windows = 0, set()
    for index in range(40):
        draws = pipeline.tf.random.stateless_uniform([23], (5, index), dtype=pipeline.tf.float64, alg="philox").numpy()
        top, left, height, width = reference_window((75, 100), draws[:22])
        expected = reference.crop((left, top, left + width, top + height)).resize((24, 24), Image.BILINEAR)
        mirrored = expected.transpose(Image.FLIP_LEFT_RIGHT)
        view = pipeline.random_view(pipeline.tf.constant(content), 24, np.array([5, index]), 0.0).numpy()
        distances = [np.abs(view - np.asarray(image, float)).mean() for image in (expected, mirrored)]
        flipped += distances[1] < distances[0]
        windows.add((top, left, height, width))
        # At the edge of a window JPEG's colours are not smoothed with those of the next pixel.
        assert_close(view, mirrored if distances[1] < distances[0] else expected, greatest=6)
    assert len(windows) == 40 and 10 < flipped < 30


def test_lighting_follows_the_principal_components(pipeline):
    content = pipeline.tf.constant(image_files.encode(np.full((16, 16, 3), 128, np.uint8)))
    views = [pipeline.random_view(content, 8, np.array([0, index]), 0.1).numpy().astype(float) for index in range(150)]
    assert all(view.std((0, 1)).max() == 0 for view in views)
    shifts = np.array([view[0, 0] for view in views]) - 128
    components = shifts @ np.array(pipeline._EIGENVECTORS)
    deviations = 0.1 * 255 * np.array(pipeline._EIGENVALUES)
    # Rounding to whole pixels adds a deviation of 0.29.
    np.testing.assert_allclose(components.std(0), np.sqrt(deviations**2 + 1 / 12), rtol=0.25)
    assert (pipeline.random_view(content, 8, np.array([0, 1]), 0.0).numpy() == 128).all()


# What is not as it should be.


@pytest.fixture
def faulty(tmp_path):
    """20 images of one class, to be spoilt, and a validation image."""
    image_files.write_folders(tmp_path, (20,), (1,))
    return sorted((tmp_path / "train").rglob("*.JPEG"))


def read(paths, **fields):
    return Opened("files", paths[0].parents[2], 8, **fields)


@needs_tensorflow
def test_unreadable_images_are_left_out_named_and_counted_once(faulty, capsys):
    faulty[3].write_bytes(b"")
    faulty[5].write_bytes(b"not an image")
    content = image_files.encode(image_files.photo(200, 200))
    faulty[8].write_bytes(content[: len(content) // 8])
    opened = read(faulty, max_unreadable=3)
    for epoch in range(2):
        batches = list(opened.train(epoch))
        assert sum(batch["mask"].sum() for batch in batches) == 17
        assert sorted(identities(batches)) == [(0, i) for i in range(20) if i not in (3, 5, 8)]
    assert opened.dataset.unreadable == {str(faulty[i]) for i in (3, 5, 8)}
    assert capsys.readouterr().err.count("cannot be decoded") == 3
    with pytest.raises(UserError, match=r"3 images of ImageNet cannot be decoded, such as .*_03\.JPEG, where 2 may"):
        list(read(faulty, max_unreadable=2).train(0))


@pytest.mark.parametrize("chunk", [1, 16])
def test_the_others_stay_where_they_are_among_unreadable_images(faulty, chunk, pipeline, monkeypatch):
    monkeypatch.setattr(pipeline, "CHUNK", chunk)
    whole = list(read(faulty).train(0))
    for path in faulty[3:8]:
        path.write_bytes(b"\xff\xd8\xff broken")
    batches = list(read(faulty).train(0))
    assert sum(batch["mask"].sum() for batch in batches) == 15
    for batch, other in zip(batches, whole, strict=True):
        readable = batch["mask"] > 0
        np.testing.assert_array_equal(batch["images"], other["images"] * readable[:, None, None, None])
        np.testing.assert_array_equal(batch["labels"], other["labels"])


@needs_tensorflow
def test_reads_what_imagenet_has_beside_ordinary_jpegs(faulty):
    """A PNG with the suffix of a JPEG, CMYK and grey JPEGs."""
    faulty[0].write_bytes(image_files.encode(image_files.plain(0, 0), "PNG"))
    faulty[1].write_bytes(image_files.encode(image_files.plain(0, 1), mode="CMYK"))
    faulty[2].write_bytes(image_files.encode(np.full((40, 40, 3), 20, np.uint8), mode="L"))
    opened = read(faulty, max_unreadable=0)
    found = [image for batch in opened.train(0) for image, mask in zip(batch["images"], batch["mask"]) if mask]
    assert len(found) == 20
    grey = [image for image in found if np.ptp(image.mean((0, 1))) < 1]
    assert np.abs(np.array(grey[0], int) - 20).max() <= 2 or len(grey) > 1
    colours = sorted(image_files.identify(image)[1] for image in found)
    assert colours.count(1) == 1 and colours[0] == 0


@needs_tensorflow
def test_a_file_that_vanishes_is_named(faulty):
    opened = read(faulty)
    faulty[4].unlink()
    with pytest.raises(UserError, match=r"cannot be read: /[^ ]*_04\.JPEG; No such file or directory\.$"):
        list(opened.train(0))


@needs_tensorflow
def test_damaged_records_are_named(tars, tmp_path):
    build(tars, tmp_path)
    for path in tmp_path.glob("imagenet2012/*/imagenet2012-train*"):
        path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(UserError, match=f"from the TFDS directory {tmp_path}/imagenet2012/5.1.0 cannot be read"):
        list(Opened("tfds", tmp_path).train(0))


# The benchmark command.


@pytest.mark.slow
@needs_tensorflow
def test_benchmark_says_what_limits(tmp_path, capsys):
    arguments = [f"--dir={tmp_path}", "--batch-size=4", "--image-size=32", "--batches=30", "--threads=1"]
    data_benchmark.main([*arguments, "--generate=44", "--step-images-per-second=1e9"])
    output = capsys.readouterr().out
    assert "44 training and 1 test images" in output
    rate, per_core = map(int, re.search(r"(\d+) images/s with 1 threads; (\d+) images/s per core", output).groups())
    assert rate > 0 and per_core > 0
    assert "the input is the limit" in output
    # One thread decodes, so the clock cannot run faster than it; half as much again for what was ready before.
    assert rate < 1.5 * per_core

    data_benchmark.main(arguments)  # the images are still there
    assert "44 training and 1 test images" in capsys.readouterr().out
    with pytest.raises(UserError, match="is not empty; leave out --generate"):
        data_benchmark.main([*arguments, "--generate=44"])


def test_generated_images_are_like_those_of_imagenet(tmp_path):
    folder = tmp_path / "deep" / "new"
    data_benchmark.generate(folder, data_benchmark.DISTINCT + 3)
    files = sorted(folder.glob("train/*/*.JPEG"))
    contents = [file.read_bytes() for file in files]
    assert len(files) == data_benchmark.DISTINCT + 3 and len(set(contents)) == data_benchmark.DISTINCT
    assert 90e3 < np.mean([len(content) for content in contents]) < 130e3
    for file in (files[0], files[-1], *folder.glob("val/*/*.JPEG")):
        with Image.open(file) as image:
            assert image.format == "JPEG" and image.size == (500, 375) and image.mode == "RGB"


def test_verdict_counts_cores():
    assert re.search("^the input .* 2000 .* 8.0 cores", data_benchmark.verdict(1000, 250, 2000))
    assert re.search("^the step .* 500 .* 2.0 cores", data_benchmark.verdict(1000, 250, 500))


def test_benchmark_names_bad_arguments(capsys):
    with pytest.raises(SystemExit):
        data_benchmark.main(["--batches=0"])
    assert "--batches" in capsys.readouterr().err
