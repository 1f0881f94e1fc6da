"""The command agree: which images it takes, its report, and the exit status. Mostly without TensorFlow."""

import dataclasses
import json
import re

import deployed
import engines
import numpy as np
import pytest
import workdirs
from image_files import CLASSES, encode, needs_tensorflow, plain, write_folders

from onebnet_jax.commands import agree, images
from onebnet_jax.data import load
from onebnet_jax.errors import UserError
from onebnet_jax.export import card, native, verify
from onebnet_jax.runs import config, trained


def untrained(*overrides):
    return trained.untrained(config.load("configs/quickstart.py", [*workdirs.SMALL, *overrides]))


def gather(found):
    """(how many as told, images, labels)."""
    count, batches = found
    images, labels = zip(*batches, strict=True)
    return count, np.concatenate(images), None if labels[0] is None else np.concatenate(labels)


@pytest.mark.parametrize(("asked", "size"), [(40, 40), (0, 1000), (2000, 1000)])
def test_the_first_test_images(asked, size):
    count, pixels, labels = gather(images.of_test(images.opened(untrained()), asked))
    dataset = load.open("fashion_mnist_mini")
    np.testing.assert_array_equal(pixels, dataset.test_images[:size])
    np.testing.assert_array_equal(labels, dataset.test_labels[:size])
    assert count == size


def test_random_images():
    count, pixels, labels = gather(images.of_noise(untrained(), 20))
    assert count == 20 and pixels.shape == (20, 28, 28, 1) and pixels.dtype == np.uint8
    assert labels is None and len(np.unique(pixels)) == 256
    assert images.of_noise(untrained(), 0)[0] == 1000


@pytest.mark.slow
@needs_tensorflow
def test_imagenet_is_read_from_a_folder_named_here(tmp_path):
    """The run knows another folder. Images that cannot be decoded are left out."""
    write_folders(tmp_path, [1, 1, 1], [10, 8, 5])
    for broken in (0, 3):
        (tmp_path / "val" / CLASSES[0] / f"{CLASSES[0]}_{broken:02}.JPEG").write_bytes(encode(plain(0, 0))[:30])
    fields = {"name": "imagenet2012", "flip": True, "image_size": 32, "dir": "/nowhere/imagenet"}
    network = untrained(*(f"--config.data.{name}={value}" for name, value in fields.items()))
    with pytest.raises(UserError, match=r"/nowhere/imagenet.*--config.data.dir.*; or take others"):
        images.opened(network, "; or take others")
    network = network.with_data([f"--config.data.dir={tmp_path}"])
    for asked, expected in ((0, 8 * [0] + 8 * [1] + 5 * [2]), (18, 8 * [0] + 8 * [1] + 2 * [2]), (3, 3 * [0])):
        count, pixels, labels = gather(images.of_test(images.opened(network), asked))
        assert labels.tolist() == expected and pixels.shape == (len(expected), 32, 32, 3) and count == (asked or 23)


@pytest.mark.usefixtures("any_numpy")
@pytest.mark.parametrize("explained", [True, False])
def test_the_report_and_the_exit_status(explained, tmp_path, monkeypatch, capsys):
    network = untrained("--config.model.dtype=bfloat16")
    card.write(tmp_path / "m.tflite", b"content", card.make(network, b"content", {}, True, True))

    def compare(trained_, tflite, facts, batches, advance, engine):
        assert trained_.title == network.title and tflite == b"content" and facts["raw_input"] and engine is None
        assert sum(len(images) for images, _ in batches) == 3
        return dataclasses.make_dataclass("Report", ["explained"])(explained)

    monkeypatch.setattr(verify, "agree", compare)
    monkeypatch.setattr(verify, "describe", lambda result, units: ["the report", f"units: {units}"])
    arguments = [str(tmp_path / "m.tflite"), "--random-images", "--images=3", f"--report={tmp_path}/report.json"]
    arguments += ["--units"] * explained
    if explained:
        agree.main(arguments)
    else:
        with pytest.raises(SystemExit) as end:
            agree.main(arguments)
        assert end.value.code == 1
    printed = capsys.readouterr().out
    assert f"the report\n\nunits: {explained}\n" in printed
    assert "bfloat16" in printed and str(tmp_path / "m.tflite") in printed
    assert json.loads((tmp_path / "report.json").read_text()) == {"explained": explained}


@pytest.mark.usefixtures("any_numpy")
def test_the_run_may_be_elsewhere_than_its_card_says(tmp_path, monkeypatch):
    network = trained.load(workdirs.trained(tmp_path / "run"))
    card.write(tmp_path / "m.tflite", b"content", card.make(network, b"content", {}, True, False))
    (tmp_path / "run").rename(tmp_path / "moved")
    monkeypatch.setattr(verify, "agree", lambda found, *_: pytest.fail(found.title, pytrace=False))
    with pytest.raises(UserError, match="was made from .*/run, which is not there; --workdir=RUN"):
        agree.main([str(tmp_path / "m.tflite"), "--random-images"])
    with pytest.raises(pytest.fail.Exception, match=f"{tmp_path}/moved .*step 7"):
        agree.main([str(tmp_path / "m.tflite"), "--random-images", f"--workdir={tmp_path}/moved"])
    card.write(tmp_path / "m.tflite", b"content", card.make(untrained(), b"content", {}, True, False))
    with pytest.raises(UserError, match="--workdir"):
        agree.main([str(tmp_path / "m.tflite"), f"--workdir={tmp_path}/moved"])


@pytest.mark.parametrize(
    "words", [["m.tflite", "--random-images", "--config.data.dir=x"], ["m.onb", "--native=another.onb"]]
)
def test_random_images_come_from_no_data_set_and_the_engine_takes_one_file(words, capsys):
    with pytest.raises(SystemExit) as end:
        agree.main(words)
    assert end.value.code == 2 and words[-1] in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.slow
@engines.needs_engine
def test_the_engines_file_alone_is_compared_with_the_run(tmp_path, capsys):
    path = tmp_path / "model.onb"
    network = trained.load(workdirs.trained(tmp_path / "run"))
    path.write_bytes(native.pack(*native.convert(network)))
    words = [
        str(path),
        "--images=20",
        "--units",
        f"--report={tmp_path / 'report.json'}",
        f"--dump={tmp_path / 's.npz'}",
    ]
    agree.main(words)
    printed = capsys.readouterr().out
    assert re.search(r"^engine .* 20 of 20 ", printed, re.MULTILINE) and "Every difference is explained" in printed
    assert "LCE" not in printed and "stage1_block1" in printed
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["lce"] is report["keras"] is None and report["engine"]["equal_predictions"] == 20

    plan, table, _ = native.convert(trained.load(workdirs.trained(tmp_path / "other", seed=1)))  # under the same card
    path.write_bytes(native.pack(plan, table, native.convert(network)[2]))
    with pytest.raises(SystemExit) as end:
        agree.main([str(path), "--images=20"])
    assert end.value.code == 1 and "NOT explained by float rounding" in capsys.readouterr().out
    path.write_bytes(native.pack(plan, table, {}))
    with pytest.raises(UserError, match="does not say which network it was made from"):
        agree.main([str(path), "--random-images"])


@pytest.mark.slow
@engines.needs_engine
def test_the_engines_file_must_be_of_the_same_network_and_options(tmp_path):
    network = untrained()
    for folded in (True, False):
        (tmp_path / f"{folded}.onb").write_bytes(native.pack(*native.convert(network, folded)))
    facts = card.make(network, b"", {}, True, False)
    assert verify.same_source(tmp_path / "True.onb", facts).card["folded"]
    with pytest.raises(UserError, match=r"False.onb and the .tflite file differ in folded, False and True"):
        verify.same_source(tmp_path / "False.onb", facts)
    others = facts | {"source": facts["source"] | {"step": 9}}
    with pytest.raises(UserError, match="differ in step, None and 9"):
        verify.same_source(tmp_path / "True.onb", others)


def test_signs_are_kept(tmp_path, monkeypatch):
    pytest.importorskip("larq_compute_engine")
    network = untrained()
    card.write(tmp_path / "m.tflite", b"content", card.make(network, b"content", {}, True, False))
    report = dataclasses.make_dataclass("Report", ["explained"])(True)
    monkeypatch.setattr(verify, "agree", lambda network, tflite, facts, batches, *_: (list(batches), report)[1])
    monkeypatch.setattr(verify, "describe", lambda result, units: [""])
    agree.main([str(tmp_path / "m.tflite"), "--random-images", "--images=2", f"--dump={tmp_path}/signs.npz"])
    with np.load(tmp_path / "signs.npz") as kept:
        images = card.normalize(kept["images"], network.info.mean, network.info.std)
        logits, values = deployed.answers(network.structure, network.variables, images)
        np.testing.assert_allclose(kept["logits"], logits, rtol=0, atol=1e-4 * np.abs(logits).max())
        assert set(kept) == {"images", "logits", *values}
        name, first = next(iter(values.items()))
        bits = np.unpackbits(kept[name], axis=-1, count=first.shape[-1], bitorder="little")
        np.testing.assert_array_equal(bits[np.abs(first) > 1e-4], (first > 0)[np.abs(first) > 1e-4])
