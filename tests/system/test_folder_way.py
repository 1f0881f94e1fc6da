"""From a folder of photographs to a prediction, by the commands; what a run keeps of it, and what it refuses."""

import shutil

import engines
import image_files
import jax
import numpy as np
import pytest
from small_runs import BODY, cached_compilation, lines, shrunken

import onebnet_jax.export  # asks for Keras 2, before TensorFlow is imported
from onebnet_jax import main
from onebnet_jax.commands import convert, predict
from onebnet_jax.data import folder
from onebnet_jax.data import photos as decoding
from onebnet_jax.errors import UserError
from onebnet_jax.networks import families
from onebnet_jax.runs import config as config_lib
from onebnet_jax.runs import trained

NAMES = ("bolt", "nut", "screw", "washer")
SMALL = ("data.image_size=16", "data.crop_padding=2", "train.batch_size=12", "train.epochs=3")


@pytest.fixture(scope="module", autouse=True)
def small():
    with pytest.MonkeyPatch.context() as patched, cached_compilation():
        patched.setattr(families, "FAMILIES", {name: shrunken(one, BODY) for name, one in families.FAMILIES.items()})
        yield


def write(root, labels, count=15, mode="RGB"):
    for label in labels:
        (root / NAMES[label]).mkdir(parents=True)
        for index in range(count):
            pixels = image_files.plain(label % 3, index, 30 + index, 60 - index)
            content = image_files.encode(pixels, ("JPEG", "PNG")[index % 2], mode=mode)
            (root / NAMES[label] / f"{index}.{('JPG', 'png')[index % 2]}").write_bytes(content)
    return root


def train(photos, workdir, *fields):
    words = [f"--config.{field}" for field in (*SMALL, f"data.dir={photos}", *fields)]
    main.main(["--config=configs/folder.py", f"--workdir={workdir}", "--change-config", *words])


@pytest.fixture(scope="module")
def run(small, tmp_path_factory):
    """(photos, work directory) of a run on the classes 0, 1 and 2."""
    folder = tmp_path_factory.mktemp("run")
    train(write(folder / "photos", (0, 1, 2)), folder / "run")
    return folder / "photos", folder / "run"


@pytest.fixture
def copied(run, tmp_path):
    """Copies of both."""
    return shutil.copytree(run[0], tmp_path / "photos"), shutil.copytree(run[1], tmp_path / "run")


def test_a_run_keeps_what_it_knows_of_its_folder(run):
    data = config_lib.load_json(run[1] / "config.json").data
    assert data.classes == NAMES[:3] and len(data.mean) == len(data.std) == 3
    network = trained.load(run[1])
    assert network.info.class_names == NAMES[:3] and network.structure.num_classes == 3
    assert {line["epoch"] for line in lines(run[1] / "train")} == {1, 2, 3}
    assert "chosen on validation images" in network.describe()


def test_without_its_folder_it_is_converted_and_predicts(copied, tmp_path, capsys):
    pytest.importorskip("larq_compute_engine")
    photos, workdir = copied
    photo = shutil.copy(next((photos / "nut").glob("*.JPG")), tmp_path / "large.jpg")
    shutil.rmtree(photos)
    (tmp_path / "broken.png").write_bytes(b"no image")
    models = [tmp_path / "m.tflite", *([] if engines.missing() else [tmp_path / "m.onb"])]
    for option, model in zip(("output", "native"), models):
        convert.main([f"--workdir={workdir}", f"--{option}={model}"])
    capsys.readouterr()
    for model in models:
        with pytest.raises(UserError, match="broken.png"):
            predict.main([str(model), str(photo), str(tmp_path / "broken.png"), str(photo)])
    lines_printed = capsys.readouterr().out.splitlines()
    (line,) = set(lines_printed)
    assert len(lines_printed) == 2 * len(models)
    with pytest.raises(UserError, match="the model comes first"):
        predict.main([str(photo), str(models[0])])
    network = trained.load(workdir)
    from onebnet_jax.export import card

    images = card.normalize(decoding.decode(photo, (16, 16), 3)[None], network.info.mean, network.info.std)
    logits = np.asarray(network.network().apply(network.variables, images))[0]
    share = np.exp(logits.max()) / np.exp(logits).sum()
    assert line == f"{photo}: {NAMES[logits.argmax()]} {100 * share:.1f} %"
    convert.main([f"--workdir={workdir}", f"--native={tmp_path / 'alone.onb'}"])
    capsys.readouterr()
    predict.main([str(tmp_path / "alone.onb"), str(photo)])
    assert capsys.readouterr().out.startswith(f"{photo}: {NAMES[logits.argmax()]} ")


def test_its_labels_are_its_names_wherever_the_photographs_are(run, copied, capsys):
    main.main(["--mode=eval", f"--workdir={run[1]}"])
    expected = capsys.readouterr().out.splitlines()[-1]
    moved = copied[0].rename(copied[0].with_name("moved"))
    shutil.rmtree(moved / "bolt")  # the others keep their labels
    network, place = trained.load(copied[1]), [f"--config.data.dir={moved}"]
    dataset = network.with_data(place).data.open()
    assert {NAMES[label] for label in dataset.test_labels} == {"nut", "screw"}
    write(moved, (0,))
    main.main(["--mode=eval", f"--workdir={copied[1]}", *place])
    assert capsys.readouterr().out.splitlines()[-1] == expected
    (moved / "bolt").rename(moved / "washer")
    with pytest.raises(UserError, match="nut, screw, washer.* bolt, nut, screw"):
        main.main(["--mode=eval", f"--workdir={copied[1]}", *place])


def test_a_run_goes_on_with_its_classes_mean_and_std_or_not_at_all(copied):
    photos, workdir = copied
    kept = config_lib.load_json(workdir / "config.json").data
    write(photos.with_name("more"), (0,)).rename(photos / "nut" / "more")  # 15 more, which changes mean and std
    train(photos, workdir)
    data = config_lib.load_json(workdir / "config.json").data
    assert (data.classes, data.mean, data.std) == (kept.classes, kept.mean, kept.std) and data.dir == str(photos)
    (photos / "screw").rename(photos.with_name("screw"))
    with pytest.raises(UserError, match="no training images of screw.* bolt, nut, screw"):
        train(photos, workdir)
    photos.with_name("screw").rename(photos / "washer")
    with pytest.raises(UserError, match="bolt, nut, washer.* bolt, nut, screw"):
        train(photos, workdir)


def test_a_run_is_of_the_photos_it_began_with(copied, capsys):
    """Others are refused in one sentence, before a checkpoint or a config is touched, unless they are asked for."""
    photos, workdir = copied
    words = [f"--config.{field}" for field in (*SMALL, f"data.dir={photos}")]
    again = ["--config=configs/folder.py", f"--workdir={workdir}", *words]
    train(photos, workdir)  # the fixture's photos lie elsewhere
    kept = capsys.readouterr().out
    main.main(again)
    out = capsys.readouterr().out
    assert "this run is complete" in out and "--config.train.epochs=" in out and "complete" in kept
    for name in ("45", "46"):
        shutil.copy(photos / "nut" / "1.png", photos / "nut" / f"{name}.png")
    before = {path: path.read_bytes() for path in workdir.rglob("*.json*")}
    with pytest.raises(
        UserError, match=f"{workdir} began with 45 photos, and {photos} now holds 47; .*--change-config"
    ):
        main.main(again)
    assert capsys.readouterr().out == "" and before == {path: path.read_bytes() for path in workdir.rglob("*.json*")}
    main.main(["--mode=eval", f"--workdir={workdir}", f"--config.data.dir={photos}"])
    assert "note: this run began with 45 photos, where 47 are now; " in capsys.readouterr().out
    train(photos, workdir, "train.epochs=4")
    out = capsys.readouterr().out
    assert "this run is complete" not in out and trained.load(workdir, "last").origin["photos"]["number"] == 47
    (photos / "nut" / "46.png").rename(photos / "nut" / "47.png")
    with pytest.raises(UserError, match="47 photos, and .* now holds 47, some of other names or sizes; "):
        main.main([*again, "--config.train.epochs=4"])
    (workdir / "photos.json").unlink()
    assert "photos" not in trained.load(workdir).origin
    with pytest.raises(UserError, match="has no record of the photos .* now holds 47; "):
        main.main([*again, "--config.train.epochs=4"])


def test_the_best_is_named_by_training_and_by_converting(copied, capsys):
    train(*copied)
    *_, last, best = capsys.readouterr().out.splitlines()
    network = trained.load(copied[1])
    score = f"best: epoch {network.metrics['epoch']}, validation Top-1 {network.metrics['validation_top1']:.2f} %, "
    assert last.startswith("epoch 3: test Top-1 ") and "Top-5" not in last  # of three classes
    assert best.startswith(f"{score}test Top-1 {network.metrics['top1']:.2f} %; ")
    convert.main([f"--workdir={copied[1]}", f"--native={copied[1]}/m.onb"])
    assert f"\n{best.partition(';')[0]}\n" in capsys.readouterr().out


def test_an_evaluation_tells_which_classes_and_photos_were_named_wrong(run, tmp_path, capsys):
    main.main(["--mode=eval", f"--workdir={run[1]}", f"--wrong={tmp_path}/wrong.tsv"])
    *_, header, _, first, second, third, _, score = capsys.readouterr().out.splitlines()
    table = np.array([row.split()[2:5] for row in (first, second, third)], int)
    dataset, network = trained.load(run[1]).data.open(), trained.load(run[1])
    assert (
        header.split() == ["1", "2", "3", "right"]
        and table.sum(1).tolist() == np.bincount(dataset.test_labels).tolist()
    )
    assert f"test Top-1 {100 * np.trace(table) / table.sum():.2f} %" in score
    from onebnet_jax.export import card

    images = card.normalize(dataset.test_images, network.info.mean, network.info.std)
    logits = np.asarray(network.network().apply(network.variables, images))
    named, shares = logits.argmax(1), (np.exp(logits) / np.exp(logits).sum(1, keepdims=True)).max(1)
    expected = np.zeros((3, 3), int)
    np.add.at(expected, (dataset.test_labels, named), 1)
    assert (table == expected).all()
    wrong = [line.split("\t") for line in (tmp_path / "wrong.tsv").read_text().splitlines()]
    places = np.flatnonzero(named != dataset.test_labels)
    assert [line[0] for line in wrong] == dataset.files["test"][0][places].tolist() and len(wrong) > 0
    assert [line[1:3] for line in wrong] == [[NAMES[dataset.test_labels[i]], NAMES[named[i]]] for i in places]
    np.testing.assert_allclose([float(line[3]) for line in wrong], shares[places], atol=1e-3)


def test_a_folder_is_predicted_image_by_image(run, tmp_path, capsys):
    if engines.missing():
        pytest.skip(engines.missing())
    convert.main([f"--workdir={run[1]}", f"--native={tmp_path}/m.onb"])
    capsys.readouterr()
    predict.main([f"{tmp_path}/m.onb", str(run[0] / "nut"), str(run[0] / "bolt" / "1.png")])
    names = [line.split(": ")[0] for line in capsys.readouterr().out.splitlines()]
    assert names == [*sorted(map(str, (run[0] / "nut").iterdir())), str(run[0] / "bolt" / "1.png")]
    with pytest.raises(UserError, match="holds no image"):
        predict.main([f"{tmp_path}/m.onb", str(run[1])])


def test_a_file_predicts_what_it_is_given_in_python(run, tmp_path, monkeypatch):
    if engines.missing():
        pytest.skip(engines.missing())
    monkeypatch.setenv("HOME", str(tmp_path))
    onebnet_jax.convert(trained.load(run[1])).save("~/m.onb")
    photo = next((run[0] / "nut").glob("*.JPG"))
    (one,) = onebnet_jax.predict("~/m.onb", [photo])
    for images in (str(photo), photo, iter([photo])):
        assert [found.label for found in onebnet_jax.predict(tmp_path / "m.onb", images)] == [one.label]
    with pytest.raises(UserError, match="There are no images"):
        onebnet_jax.predict("~/m.onb", run[0].glob("*.nothing"))


@pytest.mark.parametrize("place", [".", "runs/one"])
def test_a_run_does_not_lie_among_its_photos(tmp_path, place):
    """Where its folder would be taken for a kind of photos, and a later command for lack of these ask to remove it."""
    photos = write(tmp_path / "photos", (0, 1))
    before = sorted(photos.rglob("*"))
    with pytest.raises(UserError, match="lies among the images of .*choose another --workdir"):
        train(photos, photos / place)
    assert sorted(photos.rglob("*")) == before


@pytest.mark.parametrize(("place", "is_among"), [("", True), ("train/x", True), ("runs/one", False), (".runs", False)])
def test_a_run_may_lie_beside_the_folders_of_its_splits(tmp_path, place, is_among):
    for split in ("train", "val"):
        write(tmp_path / "photos" / split, (0, 1))
    assert folder.among(str(tmp_path / "photos"), tmp_path / "photos" / place / "train") == is_among


@pytest.mark.parametrize(
    ("labels", "head"),
    [pytest.param((0, 1, 2), "its head too", marks=pytest.mark.slow), ((0, 3), "a new head for 2 classes")],
)
def test_another_run_begins_with_it(copied, tmp_path, labels, head, capsys):
    """And what limits its use limits that of what begins with it."""
    (copied[1] / trained.TERMS).write_text("for research only\n")
    photos, workdir = write(tmp_path / "its photos", labels), tmp_path / "new"
    train(photos, workdir, f"init={copied[1]}", "train.learning_rate=0.0")
    printed = capsys.readouterr().out
    assert head in printed and "\nnote: for research only\n" in printed
    old, new = trained.load(copied[1]), trained.load(workdir)
    for name in old.variables["params"] if len(labels) == 3 else ("stem_conv", "stem_bn", "body"):
        parts = (jax.tree.leaves(network.variables["params"][name]) for network in (old, new))
        assert all(map(np.array_equal, *parts))
    assert new.structure.num_classes == len(labels)
    train(photos, workdir, f"init={copied[1]}", "train.learning_rate=0.0")
    assert "init=" not in capsys.readouterr().out  # it goes on with what it has
    convert.main([f"--workdir={workdir}", f"--bits={tmp_path / 'a.npz'}"])
    assert "\nnote: for research only\n" in capsys.readouterr().out


def test_a_network_of_another_body_is_no_beginning(run, tmp_path):
    photos = write(tmp_path / "photos", (0, 1, 2), mode="L")
    with pytest.raises(UserError, match="init=.*stem_conv"):
        train(photos, tmp_path / "run", f"init={run[1]}")
    assert not (tmp_path / "run" / "config.json").exists()


@pytest.mark.slow
def test_a_network_that_no_file_can_be_made_of_is_told_at_the_start(run, tmp_path, capsys):
    train(run[0], tmp_path / "run", "data.image_size=14", "train.epochs=1")  # behind the stem 2x2
    assert "body: a 3x3 " in (out := capsys.readouterr().out) and "model.pad_value=1" in out


def test_a_teacher_of_other_classes_is_refused(run, tmp_path):
    photos = write(tmp_path / "photos", (0, 1, 3))
    with pytest.raises(UserError, match="other classes: .*screw.*washer"):
        train(photos, tmp_path / "run", f"teacher={run[1]}", "train.teacher_weight=1.0")


@pytest.mark.slow
def test_what_is_too_large_for_memory_is_learned_too(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(decoding, "memory", lambda: 1000)
    train(run[0], tmp_path / "run")
    assert "streamed" in capsys.readouterr().out
    main.main(["--mode=eval", f"--workdir={run[1]}", f"--wrong={tmp_path}/streamed.tsv"])
    metrics = trained.load(tmp_path / "run").metrics
    assert metrics["epoch"] in (1, 2, 3) and "validation_top1" in metrics
    monkeypatch.undo()
    main.main(["--mode=eval", f"--workdir={run[1]}", f"--wrong={tmp_path}/read.tsv"])
    assert (tmp_path / "streamed.tsv").read_text() == (tmp_path / "read.tsv").read_text() != ""
    kept = [config_lib.load_json(folder / "config.json").data for folder in (run[1], tmp_path / "run")]
    assert (kept[0].mean, kept[0].std) == (kept[1].mean, kept[1].std)
