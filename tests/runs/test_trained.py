"""Networks with variables: of runs, of nothing, of a card; and the kept results, which answer as they did."""

import dataclasses
import json
import shutil
from pathlib import Path

import deployed
import jax
import numpy as np
import pytest
import workdirs

from onebnet_jax.data import load
from onebnet_jax.errors import UserError
from onebnet_jax.export import card
from onebnet_jax.runs import checkpoint, config, metrics, trained
from onebnet_jax.runs.checkpoint import LAST
from onebnet_jax.runs.experiment import AUGMENTATION

RESULTS = Path(__file__).parents[2] / "results"
KEPT = json.loads(Path(__file__).with_name("kept_logits.json").read_text())
IMAGENET = ["--config.data.name=imagenet2012", "--config.data.flip=True"]


def untrained(*overrides):
    return trained.untrained(config.load("configs/quickstart.py", [*workdirs.SMALL, *overrides]))


def equal(variables, others):
    return all(jax.tree.leaves(jax.tree.map(np.array_equal, variables, others)))


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name != "fashionmnist_ds32_64")) for name in KEPT]
)
def test_the_kept_results_answer_as_they_did(name):
    """Logits of the version that trained them, of the first test images that come with the package."""
    network = trained.load(RESULTS / name)
    pixels = load.open("fashion_mnist_mini").test_images[: len(KEPT[name])]
    images = card.normalize(pixels, network.info.mean, network.info.std)
    logits, _ = deployed.answers(network.structure, network.variables, images, network.binarization)
    np.testing.assert_allclose(logits, KEPT[name], rtol=0, atol=1e-4)
    assert logits.argmax(-1).tolist() == np.argmax(KEPT[name], axis=-1).tolist()
    scores = [line for line in metrics.read(RESULTS / name / "train" / "metrics.jsonl") if line["split"] == "test"]
    assert network.metrics["top1"] == {line["epoch"]: line["top1"] for line in scores}[network.metrics["epoch"]]


def test_a_run(tmp_path):
    workdirs.trained(tmp_path, step=4)
    workdirs.trained(tmp_path, step=9, seed=1, name=LAST)
    best, last = trained.load(tmp_path), trained.load(str(tmp_path), LAST)
    assert best.origin == {"workdir": str(tmp_path), "stage": "train", "checkpoint": "best", "step": 4}
    assert (last.origin["step"], last.origin["checkpoint"]) == (9, LAST) and best.metrics == {"epoch": 1, "top1": 12.5}
    assert equal(best.variables, untrained().variables) and not equal(best.variables, last.variables)
    assert best.structure == untrained().structure and best.info.shape == (28, 28, 1)
    assert len(best.info.class_names) == 10 and best.stage.epochs == 6 and not best.notes
    for word in ("best", "step 4", str(tmp_path)):
        assert word in best.title
    assert "12.50" in best.describe() and "epoch 1 of 6" in best.describe()


def test_the_latest_stage_that_has_a_checkpoint_or_the_one_asked_for(tmp_path):
    workdirs.trained(tmp_path, workdirs.IN_STAGES, stage="step1", step=1)
    first = trained.load(tmp_path)
    assert first.stage.name == "step1" and first.binarization.activations and not first.binarization.weights
    assert len(first.notes) == 1 and "float weights" in first.notes[0] and "1 of 2" in first.describe()
    workdirs.trained(tmp_path, workdirs.IN_STAGES, stage="step2", step=3, seed=1)
    second, again = trained.load(tmp_path), trained.load(tmp_path, stage="step1")
    assert second.stage.name == "step2" and second.binarization.weights and not second.notes
    assert again.origin == first.origin and equal(again.variables, first.variables)
    for wrong, words in (
        (("best", "train"), "'train'; .* step1, step2"),
        (("last", "step1"), "'last' checkpoint of stage step1"),
    ):
        with pytest.raises(UserError, match=words):
            trained.load(tmp_path, *wrong)


def test_what_is_no_run_or_has_no_checkpoint_is_named(tmp_path):
    with pytest.raises(UserError, match="nowhere is not the work directory"):
        trained.load(tmp_path / "nowhere")
    with pytest.raises(UserError, match="which='step1' must be 'best' or 'last'; a stage .* is named by stage="):
        trained.load(tmp_path, "step1")
    shutil.rmtree(workdirs.trained(tmp_path) / "train")
    for _ in range(2):
        with pytest.raises(UserError, match=f"{tmp_path} has no 'best' checkpoint"):
            trained.load(tmp_path)
        checkpoint.Checkpoints(tmp_path / "train").close()


def test_reading_changes_nothing_on_disk_and_falls_back(tmp_path, capsys):
    """So that a run in progress can be evaluated; of two checkpoints the newest may be damaged."""
    workdirs.trained(tmp_path, step=2, name=LAST)
    workdirs.trained(tmp_path, step=4, seed=1, name=LAST)
    folder = tmp_path / "train" / "checkpoints" / LAST
    shutil.copytree(folder / "2", folder / "6.orbax-checkpoint-tmp")  # a save in progress
    for path in (path for path in (folder / "4" / "tree").rglob("*") if path.is_file()):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert trained.load(tmp_path, LAST).origin["step"] == 2 and "last/4" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_an_untrained_network_is_the_same_every_time_and_its_card_leads_back_to_it():
    network = untrained("--config.seed=3")
    again = trained.from_origin(network.origin, json.loads(json.dumps(network.config)))
    assert again.structure == network.structure and equal(again.variables, network.variables)
    assert "seed 3" in again.title and not equal(untrained().variables, network.variables)
    leaves = jax.tree.leaves(network.variables)
    assert all(leaf.dtype == np.float32 and np.all(leaf != 0) for leaf in leaves)  # a converter drops x + 0


def test_the_card_of_a_run_leads_back_to_it_unless_it_went_on(tmp_path):
    network = trained.load(workdirs.trained(tmp_path))
    assert equal(trained.from_origin(network.origin, {}).variables, network.variables)
    workdirs.trained(tmp_path, step=9, seed=1)
    with pytest.raises(UserError, match=r"step 9\) .* of step 7,"):
        trained.from_origin(network.origin, {})


def test_another_run_in_the_place_of_the_one_on_a_card_is_told(tmp_path):
    network = trained.load(workdirs.trained(tmp_path))
    for field, value in (("seed", 5), ("model", {"depth": 14}), ("data", {"classes": ["a", "b"]})):
        name = next((f"{field}.{part}" for part in value), field) if isinstance(value, dict) else field
        with pytest.raises(UserError, match=f"{name}=.* and the network that was converted"):
            trained.from_origin(network.origin, {field: value})


def test_a_run_that_keeps_its_best_alone_teaches_by_it(tmp_path):
    workdirs.trained(tmp_path)
    with pytest.raises(UserError, match="no 'last' checkpoint"):
        trained.load(tmp_path, LAST)
    assert trained.load(tmp_path, LAST, otherwise="best").origin["checkpoint"] == "best"
    workdirs.trained(tmp_path, step=9, seed=1, name=LAST)
    assert trained.load(tmp_path, LAST, otherwise="best").origin["checkpoint"] == LAST


def test_what_learned_from_imagenette_is_for_research():
    assert "research" in trained.load(RESULTS / "imagenette64" / "scratch").notes[-1]


def test_notes_tell_of_float_parts_and_of_bfloat16():
    network = untrained("--config.model.dtype=bfloat16", "--config.train.binarize_activations=False")
    assert len(network.notes) == 2 and "float activations" in network.notes[0] and "bfloat16" in network.notes[1]
    assert network.network().dtype == jax.numpy.bfloat16
    resnet = trained.untrained(config.load("configs/fashionmnist_fp32.py"))
    assert len(resnet.notes) == 1 and "float activations and weights" in resnet.notes[0]


@pytest.mark.parametrize(
    ("of", "overrides", "words"),
    [
        ([], ["--config.seed=1"], "'--config.seed=1' is not an option"),
        ([], ["--imges=3"], "'--imges=3' is not an option"),
        ([], ["--config.data.name=cifar10"], "of other shape"),
        ([], ["--config.data.zzz=1"], "data.zzz"),
        (IMAGENET, ["--config.data.image_size=32"], r"\(224, 224, 3\), not of \(32, 32, 3\)"),
    ],
)
def test_nothing_but_where_the_images_are_can_be_changed(of, overrides, words):
    with pytest.raises(UserError, match=words):
        untrained(*of).with_data(overrides)


def test_the_full_data_set_may_stand_for_its_part():
    moved = untrained().with_data(["--config.data.name=fashion_mnist", "--config.data.dir=/somewhere"])
    assert (moved.data.name, moved.data.dir) == ("fashion_mnist", "/somewhere")
    assert dataclasses.replace(moved, data=untrained().data, variables={}) == dataclasses.replace(
        untrained(), variables={}
    )


FOLDER = [f"--config.data.{field}" for field in ("name=folder", "image_size=28", "mean=(0.286,)", "std=(0.353,)")]


def test_logits_follow_the_names_of_their_classes():
    network = untrained(*FOLDER, "--config.data.classes=('a','b','c')")
    images = np.random.default_rng(0).normal(size=(4, 28, 28, 1)).astype(np.float32)
    other = network.with_order_of(("c", "a", "b"))
    before, after = (each.network().apply(each.variables, images) for each in (network, other))
    np.testing.assert_allclose(after, before[:, [2, 0, 1]], rtol=1e-6)
    assert network.with_order_of(("a", "b")) is network.with_order_of(("a", "b", "c")) is network


def test_a_network_of_another_data_set_is_scored_on_a_folder_by_its_names(tmp_path):
    network = untrained()
    place = [FOLDER[0], f"--config.data.dir={tmp_path}"]
    moved = network.with_data(place)
    assert moved.info.class_names == network.info.class_names and moved.info.shape == (28, 28, 1)
    with pytest.raises(UserError, match="trained on the classes"):
        network.with_data([*place, f"--config.data.classes={network.info.class_names[::-1]}"])
    with pytest.raises(UserError, match=r"other mean: \(0.286,\), not \(0.5,\) \(data.mean"):
        network.with_data([*place, "--config.data.mean=(0.5,)"])
    for unused in (*(f"--config.data.{name}=0" for name in AUGMENTATION), "--config.data.lighting=0.1"):
        with pytest.raises(UserError, match="no effect"):
            network.with_data([*place, unused])
