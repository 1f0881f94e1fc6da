"""The command agree: which images it takes, its verdict, and the exit status. Without TensorFlow, but for ImageNet."""

import json

import numpy as np
import pytest
from image_files import CLASSES, encode, needs_tensorflow, plain, write_folders

from onebnet_jax.commands import agree
from onebnet_jax.data import load as data
from onebnet_jax.errors import UserError
from onebnet_jax.export import agreement_text, card, source
from onebnet_jax.runs import config

CONFIG = ["configs/quickstart.py", "--config.model.depth=8", "--config.model.width_multiplier=0.5"]


def make_network(*overrides):
    return source.from_config(config.load(CONFIG[0], [*CONFIG[1:], *overrides]))


def gather(found):
    """(count as told, sizes of the batches, images, labels)."""
    count, batches = found
    images, labels = zip(*batches, strict=True)
    return count, [len(batch) for batch in images], np.concatenate(images), labels


@pytest.mark.parametrize(
    ("asked", "sizes"), [(40, [16, 16, 8]), (16, [16]), (0, 62 * [16] + [8]), (2000, 62 * [16] + [8])]
)
def test_the_first_test_images(asked, sizes):
    count, found, images, labels = gather(agree.stored_pixels(make_network(), asked))
    dataset = data.open("fashion_mnist_mini")
    assert count == sum(sizes) and found == sizes
    np.testing.assert_array_equal(images, dataset.test_images[:count])
    np.testing.assert_array_equal(np.concatenate(labels), dataset.test_labels[:count])


def test_random_images():
    count, sizes, images, labels = gather(agree.random_pixels(make_network(), 20))
    assert count == 20 and sizes == [16, 4] and images.shape == (20, 28, 28, 1) and images.dtype == np.uint8
    assert labels == (None, None) and len(np.unique(images)) == 256
    assert agree.random_pixels(make_network(), 0)[0] == 1000


@needs_tensorflow
def test_imagenet_is_read_from_a_folder_named_here(tmp_path):
    """The run knows another folder. Images that cannot be decoded are left out."""
    write_folders(tmp_path, [1, 1, 1], [10, 8, 5])
    for broken in (0, 3):
        (tmp_path / "val" / CLASSES[0] / f"{CLASSES[0]}_{broken:02}.JPEG").write_bytes(encode(plain(0, 0))[:30])
    fields = {"name": "imagenet2012", "crop_padding": 0, "flip": True, "image_size": 32, "dir": "/nowhere/imagenet"}
    network = make_network(*(f"--config.data.{name}={value}" for name, value in fields.items()))
    with pytest.raises(
        UserError, match=r"/nowhere/imagenet.*\(--config.data.dir=FOLDER names it here; --random-images"
    ):
        agree.stored_pixels(network, 4)
    network = agree.with_data(network, [f"--config.data.dir={tmp_path}"])
    for asked, expected in ((0, 8 * [0] + 8 * [1] + 5 * [2]), (18, 8 * [0] + 8 * [1] + 2 * [2]), (3, 3 * [0])):
        count, _, images, labels = gather(agree.stored_pixels(network, asked))
        assert np.concatenate(labels).tolist() == expected
        assert images.shape == (len(expected), 32, 32, 3) and count == (asked or 23)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["--config.seed=1"], "^'--config.seed=1' is not an option; of the run's config, only --config.data"),
        (["--imges=3"], "^'--imges=3' is not an option"),
        (["--config.data.name=cifar10"], "^The network was trained on images of other shape"),
        (["--config.data.zzz=1"], "no field 'data.zzz'"),
    ],
)
def test_refuses_all_but_where_the_images_are(overrides, message):
    with pytest.raises(UserError, match=message):
        agree.with_data(make_network(), overrides)


def test_refuses_another_image_size():
    fields = ("data.name=imagenet2012", "data.crop_padding=0", "data.flip=True")
    with pytest.raises(UserError, match=r"takes images of \(224, 224, 3\), not of \(32, 32, 3\)"):
        agree.with_data(make_network(*(f"--config.{field}" for field in fields)), ["--config.data.image_size=32"])


def test_the_full_set_may_stand_for_its_part():
    network = agree.with_data(make_network(), ["--config.data.name=fashion_mnist", "--config.data.dir=/nowhere"])
    with pytest.raises(UserError, match="'/nowhere' is not a folder"):
        agree.stored_pixels(network, 1)


def test_an_unexplained_difference_ends_with_1(tmp_path, monkeypatch, capsys):
    pytest.importorskip("larq_compute_engine")
    from onebnet_jax.export import agreement, unit_parity

    network = make_network()
    card.write(tmp_path / "m.tflite", b"content", card.make(network, b"content", {}, True, False))
    differs = [(2, "stage1_block1_conv1", 0.25)]
    flips = [agreement.UnitFlips("stage1_block1_conv1", 100, 2, 0.5, 1, 0.25)]
    good, bad = (
        agreement.Comparison(0.1, 0.01, 3, 4, 0, [], [], flips),
        agreement.Comparison(2.0, 0.5, 2, 3, 1, [2], differs, flips),
    )
    same, other, flipping, blind = (
        unit_parity.UnitParity("stage1_block1_conv1", 1, margin, images, difference, 5.0)
        for margin, images, difference in ((1e-7, 3, 1e-6), (1e-7, 3, 1e-3), (1e-3, 3, 1e-6), (1e-7, 0, 0.0))
    )
    report = f"--report={tmp_path}/report.json"
    for lce, difference, unit, verdict in (
        (good, 0.0, same, "Every difference is explained"),
        (bad, 0.0, same, "NOT explained by float rounding: images [2]"),
        (good, 0.25, same, "The file's logits differ by 2.50e-01"),
        *((good, 0.0, unit, "LCE's output of stage1_block1_conv1 alone") for unit in (other, flipping, blind)),
    ):
        result = agreement.Report(4, 9.0, 3, good, lce, difference), [unit]
        monkeypatch.setattr(agree, "compare", lambda *_, result=result: result)
        if verdict.startswith("Every"):
            agree.main([str(tmp_path / "m.tflite"), report])
        else:
            with pytest.raises(SystemExit) as exit_:
                agree.main([str(tmp_path / "m.tflite"), "--random-images", report])  # in place of the one before
            assert exit_.value.code == 1
        printed = capsys.readouterr().out
        assert verdict in printed
        assert json.loads((tmp_path / "report.json").read_text())["parity"][0]["margin"] == unit.margin
        assert ("Of 4 images, 4 have no flip in Keras and 4 none in LCE" in printed) == verdict.startswith("Every")
        assert ("LCE predicts another class for image 2: first flip in stage1_block1_conv1" in printed) == (lce is bad)


def test_many_unexplained_images_are_counted():
    pytest.importorskip("larq_compute_engine")
    from onebnet_jax.export import agreement

    wrong = agreement.Comparison(unexplained=list(range(100)), correct=0)
    printed = agreement_text.describe(agreement.Report(100, 9.0, 3, wrong, wrong, 0.0), [], "title")
    assert printed.endswith("images [0, 1, 2, 3, 4, 5, 6, 7, 8, 9] and 90 more")
