"""Whole runs in this process, with a stand-in for the network; test_resume.py has a real one."""

import dataclasses
import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from small_runs import Tiny, assert_same_run, cached_compilation, final, lines

from onebnet_jax.data import load as data
from onebnet_jax.errors import UserError
from onebnet_jax.networks import structure
from onebnet_jax.runs import checkpoint, metrics
from onebnet_jax.runs import config as config_lib
from onebnet_jax.runs.checkpoint import BEST, LAST, Checkpoints
from onebnet_jax.training import feed, optim, record, stage, steps
from onebnet_jax.training import run as train

STEPS = 8  # in an epoch
DISPATCHES = [1, 3, 5, 7, 8, 10, 12, 14, 16, 18]  # the steps after which a call of `tiny` ends


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with cached_compilation(tmp_path_factory.mktemp("compiled")):
        yield


@pytest.fixture(scope="module", autouse=True)
def tiny():
    """Yields the real `make_network`."""
    with pytest.MonkeyPatch.context() as patched:
        make_network = stage.make_network
        patched.setattr(stage, "make_network", lambda *_, **__: Tiny())
        patched.setattr(stage, "DISPATCH_SECONDS", 0.0)  # calls of 1, 2, 2, ... steps
        yield make_network


def load(*overrides, batch_size=500, epochs=3, stages=("train",)):
    """The quick start in 8 steps an epoch, with a checkpoint after every call."""
    fields = {"checkpoint_seconds": 0.0, "stages": stages}
    for name in stages:
        fields |= {f"{name}.batch_size": batch_size, f"{name}.epochs": epochs, f"{name}.learning_rate": 0.02}
    given = [f"--config.{field}={value}" for field, value in fields.items()]
    return config_lib.load("configs/quickstart.py", [*given, *overrides])


@pytest.fixture(scope="module")
def quiet(tmp_path_factory):
    """(work directory, result) of the run of `load()`."""
    workdir = tmp_path_factory.mktemp("quiet")
    return workdir, train.run(load(), workdir)


def test_a_run_leaves_config_metrics_and_checkpoints(tmp_path, capsys):
    config = load(epochs=4)
    result = train.run(config, tmp_path)
    assert config_lib.load_json(tmp_path / "config.json") == config
    assert list((tmp_path / "train" / "tensorboard").glob("events.*"))
    out, err = capsys.readouterr()
    bar = r"train: +100%.* 16\.0k/16\.0k \[\d\d:\d\d<\d\d:\d\d, .*img/s, epoch 4, test Top-1 "
    assert re.search(bar, err)
    assert "4000 training and 1000 test images" in out and "4 x cpu" in out and f"{10 * 16 + 10 + 2} parameters" in out

    training, test = ([x for x in lines(tmp_path / "train") if x["split"] == split] for split in ("train", "test"))
    assert [x["step"] for x in training] == [x["step"] for x in test] == [STEPS, 2 * STEPS, 3 * STEPS, 4 * STEPS]
    assert [x["epoch"] for x in training] == [x["epoch"] for x in test] == [1, 2, 3, 4]
    np.testing.assert_allclose([x["learning_rate"] for x in training], 0.02 * (1 - np.arange(4) / 4), rtol=1e-6)
    assert training[0]["loss"] > training[-1]["loss"] and training[-1]["top5"] > training[-1]["top1"] > 40
    assert {k: v for k, v in test[-1].items() if k not in ("step", "split")} == result

    last, best = checkpoint.load_run(tmp_path, LAST), checkpoint.load_run(tmp_path, BEST)
    assert last.step == 4 * STEPS and last.config == config
    assert best.metrics["top1"] == max(x["top1"] for x in test)
    assert best.step == next(x["step"] for x in test if x["top1"] == best.metrics["top1"])
    assert train.evaluate(best) | {"epoch": best.metrics["epoch"]} == best.metrics
    assert train.evaluate(last) | {"epoch": 4} == result


def test_the_score_is_that_of_the_test_images_and_running_statistics(quiet):
    run = checkpoint.load_run(quiet[0], LAST)
    dataset = data.open("fashion_mnist_mini")
    x = (dataset.test_images.astype(np.float64) / 255 - dataset.info.mean) / dataset.info.std
    x = x.reshape(-1, 4, 7, 4, 7).mean((2, 4)).reshape(-1, 16)
    stats, bn, head = run.variables["batch_stats"]["bn"], run.variables["params"]["bn"], run.variables["params"]["head"]
    x = (x - stats["mean"]) / np.sqrt(stats["var"] + 1e-5) * bn["scale"] + bn["bias"]
    logits = x @ head["kernel"] + head["bias"]
    log_softmax = logits - np.log(np.sum(np.exp(logits), 1, keepdims=True))
    rank = np.sum(logits > logits[np.arange(1000), dataset.test_labels][:, None], axis=1)
    result = train.evaluate(run)
    assert result["top1"] == pytest.approx(100 * np.mean(rank == 0), abs=0.11)  # a tie may go either way
    assert result["top5"] == pytest.approx(100 * np.mean(rank < 5), abs=0.11)
    assert result["loss"] == pytest.approx(-np.mean(log_softmax[np.arange(1000), dataset.test_labels]), rel=1e-5)


def test_an_evaluation_can_bring_the_running_statistics_up_to_date(quiet):
    """In a batch of all training images they move by a tenth towards those of these; the network stays as it is."""
    run = checkpoint.load_run(quiet[0], LAST)
    run.config.train.batch_size = 4000
    dataset = data.open("fashion_mnist_mini")
    x = (dataset.train_images.astype(np.float64) / 255 - dataset.info.mean) / dataset.info.std
    x = x.reshape(-1, 4, 7, 4, 7).mean((2, 4))

    def loss(mean, var, batches=0):
        run.variables["batch_stats"]["bn"].update(mean=np.float32([mean]), var=np.float32([var]))
        before = jax.tree.map(np.copy, run.variables)
        result = train.evaluate(run, bn_batches=batches)["loss"]
        jax.tree.map(np.testing.assert_array_equal, run.variables, before)
        return result

    moved = loss(0.9 * 0.5 + 0.1 * x.mean(), 0.9 * 3 + 0.1 * x.var())
    assert loss(0.5, 3.0, batches=1) == pytest.approx(moved, rel=1e-5)
    assert loss(0.5, 3.0) != pytest.approx(moved, rel=1e-3)
    with pytest.raises(UserError, match="--bn-batches=2 is more than the 1 batches of an epoch"):
        train.evaluate(run, bn_batches=2)


def test_evaluation_happens_as_often_as_asked_and_after_the_last_epoch(tmp_path):
    train.run(load("--config.eval_every_epochs=2", epochs=3), tmp_path)
    assert [x["epoch"] for x in lines(tmp_path / "train") if x["split"] == "test"] == [2, 3]


def test_evaluation_needs_no_batch_that_the_devices_share(quiet):
    run = checkpoint.load_run(quiet[0], LAST)
    expected = train.evaluate(run)
    run.config.train.batch_size = 333
    result = train.evaluate(run)
    assert result == {**expected, "loss": pytest.approx(expected["loss"], rel=1e-6)}


class Interrupted(Exception):
    pass


def interrupt(config, workdir, saves):
    """Trains until a number of checkpoints is saved, and returns their steps."""
    save, done = Checkpoints.save, []

    def interrupted_save(self, name, step, tree, metadata):
        if len(done) == saves:
            self.wait()
            raise Interrupted
        save(self, name, step, tree, metadata)
        done.append(step)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Checkpoints, "save", interrupted_save)
        with pytest.raises(Interrupted):
            train.run(config, workdir)
    return done


@pytest.mark.parametrize(
    ("saves", "step"),
    [(1, 1), (3, 5), (5, STEPS), (6, STEPS)],
    ids=["first checkpoint", "mid-epoch", "after best, before last", "end of an epoch"],
)
def test_a_run_interrupted_and_continued_equals_the_quiet_run(tmp_path, quiet, saves, step):
    assert interrupt(load(), tmp_path, saves)[-1] == step
    assert train.run(load(), tmp_path) == quiet[1]
    assert_same_run(tmp_path, quiet[0])


def test_the_time_of_an_epoch_is_that_of_all_its_steps(tmp_path, monkeypatch):
    """Also of those before the run was stopped. Here every call takes a second."""
    advance = record.Record.advance
    monkeypatch.setattr(record.Record, "advance", lambda self, images, _: advance(self, images, 1.0))
    config = load(epochs=2)
    assert interrupt(config, tmp_path, 3) == [1, 3, 5]
    train.run(config, tmp_path)  # from there to 6, 8, and 10, 12, 14, 16
    measured = metrics.read(tmp_path / "train" / "metrics.jsonl")
    assert [line["seconds"] for line in measured if line["split"] == "train"] == [5.0, 4.0]


def test_a_run_interrupted_before_its_first_checkpoint_starts_again(tmp_path, quiet):
    config = load("--config.checkpoint_seconds=1e6")
    assert interrupt(config, tmp_path, 0) == []
    assert len(lines(tmp_path / "train")) == 2
    assert train.run(config, tmp_path) == quiet[1]
    assert_same_run(tmp_path, quiet[0])


@pytest.fixture(scope="module")
def two_stages(tmp_path_factory):
    """(config, work directory, result) of a run in two stages."""
    config = load(epochs=2, stages=("step1", "step2"))
    workdir = tmp_path_factory.mktemp("two_stages")
    return config, workdir, train.run(config, workdir)


@pytest.mark.parametrize("saves", [3, 15])
def test_a_run_in_two_stages_continues_in_the_right_one(tmp_path, two_stages, saves):
    config, quiet, expected = two_stages
    interrupt(config, tmp_path, saves)
    assert (tmp_path / "step2").exists() == (saves == 15)
    assert train.run(config, tmp_path) == expected
    assert_same_run(tmp_path, quiet, config.stages)
    assert checkpoint.load_run(tmp_path).stage == "step2"


def test_a_finished_run_is_left_as_it_is(tmp_path, capsys, monkeypatch):
    config = load(epochs=2)
    expected = train.run(config, tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    capsys.readouterr()
    monkeypatch.setattr(Checkpoints, "save", None)  # to be called for nothing
    assert train.run(config, tmp_path) == expected
    assert f"resumed from the checkpoint of step {2 * STEPS}" in capsys.readouterr().out
    for path, content in before.items():
        assert path.read_bytes() == content or "tensorboard" in path.parts


def test_the_seed_decides_the_run(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        train.run(load(f"--config.seed={seed}", epochs=1), tmp_path / name)
    assert_same_run(tmp_path / "a", tmp_path / "b")
    a, c = (final(tmp_path / name / "train")[0][1]["params"]["head"]["kernel"] for name in "ac")
    assert not np.array_equal(a, c)


def test_a_work_directory_of_another_config_is_refused_and_left_as_it_is(tmp_path):
    train.run(load(epochs=1), tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.name != "lock"}
    with pytest.raises(UserError) as error:
        train.run(load("--config.model.ds_1d=(64,)", "--config.train.learning_rate=0.01", epochs=1), tmp_path)
    message = str(error.value)
    assert "model.ds_1d ((32, 64) there, (64,) now)" in message
    assert "train.learning_rate (0.02 there, 0.01 now)" in message
    assert message.count(" there, ") == 2 and "\n" not in message
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.name != "lock"} == before


def change(config, workdir):
    """Lets a run go on with another config, for at most 30 questions whether to stop."""
    left = iter(range(30))
    return train.run(config, workdir, change_config=True, stopping=lambda: next(left) < 0)


def epochs_tested(workdir):
    return [x["epoch"] for x in lines(workdir / "train") if x["split"] == "test"]


def test_a_run_goes_on_with_as_many_epochs_as_it_has_begun_but_not_with_fewer(tmp_path):
    assert interrupt(load(epochs=3), tmp_path, 7)[-1] == STEPS + 2
    before = (tmp_path / "config.json").read_text()
    with pytest.raises(UserError, match=r"train.epochs=1 is less than the 2 that the run in .* set at least 2"):
        change(load(epochs=1), tmp_path)
    assert (tmp_path / "config.json").read_text() == before and not (tmp_path / "config.0.json").exists()
    result = change(load(epochs=2), tmp_path)
    assert epochs_tested(tmp_path) == [1, 2] and result["epoch"] == 2
    assert change(load(epochs=2), tmp_path) == result
    with pytest.raises(UserError, match="train.epochs=1 is less than the 2"):
        change(load(epochs=1), tmp_path)


def test_a_stage_that_was_trained_further_than_it_should_be_is_at_its_end(tmp_path, quiet, monkeypatch):
    shutil.copytree(quiet[0], tmp_path / "run")
    monkeypatch.setattr(train, "check_progress", lambda *_: None)
    assert change(load(epochs=1), tmp_path / "run") == quiet[1]
    assert_same_run(tmp_path / "run", quiet[0])


def test_a_kept_result_is_not_trained_over(tmp_path, quiet):
    """A work directory as in results/, without what a run goes on from."""
    workdir = tmp_path / "kept"
    shutil.copytree(quiet[0], workdir)
    shutil.rmtree(workdir / "train" / "checkpoints" / "last")
    best = int(next((workdir / "train" / "checkpoints" / "best").iterdir()).name)
    assert best > STEPS
    before = {path: path.read_bytes() for path in workdir.rglob("*") if path.is_file() and path.name != "lock"}
    with pytest.raises(UserError, match="keeps the best network of a run of at least [23] epochs, but no checkpoint"):
        train.run(load(), workdir)
    after = {path: path.read_bytes() for path in workdir.rglob("*") if path.is_file() and path.name != "lock"}
    assert after == before


@pytest.mark.parametrize("change_config", [False, True])
@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (
            dict(batch_size=400),
            r"train.batch_size \(500 there, 400 now\), .*no run goes on with another train.batch_size",
        ),
        (dict(stages=("train", "step1")), r"stages \(\('train',\) there, .*no run goes on with another stages"),
    ],
    ids=["batch size", "stages"],
)
def test_what_a_step_and_a_stage_are_cannot_change(tmp_path, quiet, fields, words, change_config):
    shutil.copytree(quiet[0], tmp_path / "run")
    with pytest.raises(UserError, match=words) as error:
        train.run(load(epochs=4, **fields), tmp_path / "run", change_config)
    assert "\n" not in str(error.value) and "--change-config" not in str(error.value)
    assert config_lib.load_json(tmp_path / "run" / "config.json") == load()
    assert not (tmp_path / "run" / "config.0.json").exists()
    assert_same_run(tmp_path / "run", quiet[0])


def test_when_to_save_and_when_to_give_up_may_change_without_a_word(tmp_path, quiet):
    shutil.copytree(quiet[0], tmp_path / "run")
    config = load()
    config.checkpoint_seconds, config.data.max_unreadable = 7.0, 3
    assert train.run(config, tmp_path / "run") == quiet[1]
    assert config_lib.load_json(tmp_path / "run" / "config.json") == config
    assert not (tmp_path / "run" / "config.0.json").exists()


def test_a_run_goes_on_with_another_weight_decay(tmp_path):
    for epochs, decay in ((1, 0.0), (2, 0.1), (3, 0.0)):
        change(load(f"--config.train.weight_decay={decay}", epochs=epochs), tmp_path)
    assert epochs_tested(tmp_path) == [1, 2, 3]


@pytest.mark.parametrize(("batch_size", "words"), [(6, "multiple of 4"), (4004, "4000 training images")])
def test_an_impossible_batch_size_is_refused_before_anything_is_made(tmp_path, batch_size, words):
    with pytest.raises(UserError, match=f"train.batch_size={batch_size} .*{words}"):
        train.run(load(batch_size=batch_size), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_missing_data_are_refused_before_anything_is_made(tmp_path):
    config = load("--config.data.name=cifar10", "--config.data.source=files", f"--config.data.dir={tmp_path}")
    with pytest.raises(UserError, match="CIFAR-10 was not found"):
        train.run(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["train.teacher_weight=1.0", "teacher=nowhere"], "nowhere"),
        (["train.teacher_weight=1.0"], "teacher is empty"),
        (["seed=5"], r"seed \(0 there, 5 now\)"),
    ],
)
def test_a_missing_teacher_and_another_config_are_refused_before_data_are_opened(
    tmp_path, quiet, monkeypatch, overrides, words
):
    monkeypatch.setattr(feed, "open_data", None)
    workdir = quiet[0] if overrides == ["seed=5"] else tmp_path / "run"
    with pytest.raises(UserError, match=words):
        train.run(load(*(f"--config.{field}" for field in overrides)), workdir)
    assert not (tmp_path / "run").exists()


def test_a_teacher_is_named_with_how_far_it_came(tmp_path, quiet, capsys):
    taught = ("--config.train.teacher_weight=1.0", f"--config.teacher={quiet[0]}")
    train.run(load(*taught, epochs=1), tmp_path)
    described = "ResNet20, binarized activations, binarized weights, stage train (1 of 1), step 24"
    score = f"test Top-1 {quiet[1]['top1']:.2f} % after epoch 3 of 3"
    assert f"teacher: {quiet[0]}, {described}, {score}" in capsys.readouterr().out.splitlines()


def test_a_network_is_described_by_what_it_is_and_how_far_it_came(tmp_path, quiet):
    run = checkpoint.load_run(quiet[0], BEST)
    epoch = f"after epoch {run.metrics['epoch']} of 3"
    assert train.describe(run).endswith(f"step {run.step}, test Top-1 {run.metrics['top1']:.2f} % {epoch}")
    fp32 = dataclasses.replace(run, structure=structure.Structure(20, block="resnet"), metrics={})
    assert train.describe(fp32) == f"FP32 ResNet20, stage train (1 of 1), step {run.step}, not evaluated in training"
    interrupt(load(), tmp_path, 2)
    assert train.describe(checkpoint.load_run(tmp_path, LAST)).endswith("step 3, not evaluated in training")
    interrupt(load(), tmp_path, 6)
    first = next(x for x in lines(quiet[0] / "train") if x["split"] == "test")
    described = train.describe(checkpoint.load_run(tmp_path, LAST))
    assert re.search(rf"step \d+, test Top-1 {first['top1']:.2f} % after epoch 1 of 3$", described)


def test_an_evaluation_says_what_it_scores_and_on_what(tmp_path, two_stages, capsys):
    """Also that it is the first stage's network, while the second has none."""
    config, whole, _ = two_stages
    interrupt(config, tmp_path, 12)
    assert (tmp_path / "step2").exists()
    for workdir, words in (
        (whole, "binarized activations, binarized weights, stage step2 (2 of 2)"),
        (tmp_path, "binarized activations, float weights, stage step1 (1 of 2)"),
    ):
        capsys.readouterr()
        train.evaluate(checkpoint.load_run(workdir))
        source, described = capsys.readouterr().out.splitlines()
        assert source == data.open("fashion_mnist_mini").source and words in described


def test_a_work_directory_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    for workdir in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(UserError, match=f"{workdir} cannot be used: .*choose another"):
            train.run(load(), workdir)


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", '{"seed": 0}', '{"seed": "x"}', "\x00"])
def test_a_broken_config_json_is_refused(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UserError, match="config.json is not a config that this version understands: ") as error:
        train.run(load(), tmp_path)
    assert "\n" not in str(error.value)


def infinite_from(step):
    """A schedule that breaks the parameters at a step, whose own loss is finite still."""
    return lambda *_: lambda count: jnp.where(count >= step, jnp.inf, 1e-3)


@pytest.mark.parametrize("step", [8, 9, 10, 11])
def test_a_run_that_breaks_down_names_the_step_and_a_good_checkpoint(tmp_path, monkeypatch, step):
    monkeypatch.setattr(optim, "poly_schedule", infinite_from(step))
    for _ in range(2):  # once more goes on from the good checkpoint, and breaks down again
        with pytest.raises(UserError) as error:
            train.run(load(), tmp_path)
        found = re.search(r"not finite at step (\d+); the last good checkpoint is (\S+)\.", str(error.value))
        assert "\n" not in str(error.value) and step <= int(found[1]) <= step + 1
        folders = sorted((tmp_path / "train" / "checkpoints" / "last").iterdir(), key=lambda path: int(path.name))
        assert found[2] == str(folders[-1])
        assert max(end for end in DISPATCHES if end <= step) <= int(folders[-1].name) <= step
        for _, tree, _ in final(tmp_path / "train"):
            assert all(np.isfinite(x).all() for x in jax.tree.leaves(tree))


def test_a_run_that_breaks_down_at_once_has_no_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr(optim, "poly_schedule", infinite_from(0))
    with pytest.raises(UserError, match="at step 0; no checkpoint was saved yet"):
        train.run(load(), tmp_path)
    assert not list((tmp_path / "train" / "checkpoints").glob("*/*"))


def test_the_step_of_a_loss_that_is_not_finite_is_exact_within_a_call(tmp_path, monkeypatch):
    monkeypatch.setattr(stage, "DISPATCH_SECONDS", 1e6)  # calls of 1, 2 and 5 steps
    monkeypatch.setattr(optim, "poly_schedule", infinite_from(4))
    with pytest.raises(UserError, match="at step 5; the last good checkpoint is .*/last/3."):
        train.run(load(), tmp_path)


def test_what_a_run_is_made_of_is_what_the_config_says(tiny):
    config = load("--config.model.dtype=bfloat16", "--config.model.estimator=clip", "--config.model.window=0.5")
    network = tiny(config, "train")
    assert network.structure.ds_1d == (32, 64) and network.dtype == jnp.bfloat16
    assert (network.binarization.estimator, network.binarization.window) == ("clip", 0.5)
    config = load("--config.data.crop_padding=3", "--config.data.flip=True")
    assert stage.make_input(config, 64, 4) == steps.Input(64, 4, (0.2860,), (0.3530,), 3, True)
    state = stage.initial_state(Tiny(), optax.sgd(0.1), (28, 28, 1), jax.random.key(0))
    assert int(state.step) == 0 and int(state.bad_step) == -1 and int(state.sums.count) == 0
