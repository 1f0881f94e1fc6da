"""Whole runs in this process, with networks of a single convolution; test_resume.py has a real one."""

import dataclasses
import gzip
import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from small_runs import BODY, QUICK, TINY, assert_same_run, lines, shrunken, tiny_logits, tiny_maps, train

from onebnet_jax.data import load as data
from onebnet_jax.errors import UserError
from onebnet_jax.native import library
from onebnet_jax.networks import families
from onebnet_jax.networks.network import Network
from onebnet_jax.ops.binarize import ESTIMATORS, SCALES
from onebnet_jax.runs import config as config_lib
from onebnet_jax.runs import metrics, optim, trained
from onebnet_jax.runs.checkpoint import BEST, LAST, Checkpoints
from onebnet_jax.training import feed, record, stage
from onebnet_jax.training.run import evaluate
from onebnet_jax.training.steps import TrainState

pytestmark = pytest.mark.usefixtures("tiny")
STEPS = 8  # in an epoch


def near(scores):
    """These scores; but of the loss the last bits, as training and `evaluate` add it up in programs of their own."""
    return scores | {"loss": pytest.approx(scores["loss"], rel=1e-6)}


def load(*overrides, epochs=3, stages=("train",)):
    """The quick start in 8 steps an epoch, with a checkpoint after every call."""
    fields = {"checkpoint_seconds": 0.0, "stages": stages}
    for name in stages:
        fields |= {field.replace("train", name): value for field, value in QUICK.items()} | {f"{name}.epochs": epochs}
    given = [f"--config.{field}={value}" for field, value in fields.items()]
    return config_lib.load("configs/quickstart.py", [*given, *overrides])


def of_split(workdir, split):
    """Lines of metrics.jsonl."""
    return [line for line in lines(workdir / "train") if line["split"] == split]


@pytest.fixture(scope="module")
def quiet(tiny, tmp_path_factory):
    """(work directory, result) of the run of `load()`."""
    workdir = tmp_path_factory.mktemp("quiet")
    return workdir, train(load(), workdir)


@pytest.fixture
def copied(quiet, tmp_path):
    """A copy of the quiet run's work directory."""
    return shutil.copytree(quiet[0], tmp_path / "run")


def test_a_run_leaves_config_metrics_and_checkpoints(quiet):
    workdir, result = quiet
    assert config_lib.load_json(workdir / "config.json") == load()
    assert list((workdir / "train" / "tensorboard").glob("events.*"))
    training, test = of_split(workdir, "train"), of_split(workdir, "test")
    assert [x["step"] for x in training] == [x["step"] for x in test] == [STEPS, 2 * STEPS, 3 * STEPS]
    assert [x["epoch"] for x in training] == [x["epoch"] for x in test] == [1, 2, 3]
    assert training[0]["loss"] > training[-1]["loss"] and training[-1]["top5"] > training[-1]["top1"] > 30
    assert {k: v for k, v in test[-1].items() if k not in ("step", "split")} == result

    last, best = trained.load(workdir, LAST), trained.load(workdir, BEST)
    assert last.origin["step"] == 3 * STEPS
    assert best.metrics["top1"] == max(x["top1"] for x in test)
    assert best.origin["step"] == max(x["step"] for x in test if x["top1"] == best.metrics["top1"])
    assert evaluate(best) | {"epoch": best.metrics["epoch"]} == near(best.metrics)
    assert evaluate(last) | {"epoch": 3} == near(result)


def test_a_finished_run_says_what_it_is_and_stays_as_it_is(copied, quiet, capsys, monkeypatch):
    before = {path: path.read_bytes() for path in copied.rglob("*") if path.is_file()}
    monkeypatch.setattr(Checkpoints, "save", None)  # to be called for nothing
    assert train(load(), copied) == quiet[1]
    out, err = capsys.readouterr()
    assert "4000 training and 1000 test images" in out and "4 x cpu" in out and "986 parameters" in out
    assert f"resumed from the checkpoint of step {3 * STEPS}" in out and "img/s" in err
    for path, content in before.items():
        assert path.read_bytes() == content or "tensorboard" in path.parts


def test_the_score_is_that_of_the_test_images_and_running_statistics(quiet):
    network, dataset = trained.load(quiet[0], LAST), data.open("fashion_mnist_mini")
    x = (dataset.test_images.astype(np.float64) / 255 - dataset.info.mean) / dataset.info.std
    logits = tiny_logits(network.variables, x)
    log_softmax = logits - np.log(np.sum(np.exp(logits), 1, keepdims=True))
    rank = np.sum(logits > logits[np.arange(1000), dataset.test_labels][:, None], axis=1)
    result = evaluate(network)
    assert result["top1"] == pytest.approx(100 * np.mean(rank == 0), abs=0.11)  # a tie may go either way
    assert result["top5"] == pytest.approx(100 * np.mean(rank < 5), abs=0.11)
    assert result["loss"] == pytest.approx(-np.mean(log_softmax[np.arange(1000), dataset.test_labels]), rel=1e-5)


def with_batches_of(network, size):
    return dataclasses.replace(network, stage=dataclasses.replace(network.stage, batch_size=size))


@pytest.mark.slow
def test_an_evaluation_can_take_the_statistics_of_training_images(quiet):
    """Of a batch of all training images they are those of these; the network stays as it is."""
    network, dataset = with_batches_of(trained.load(quiet[0], LAST), 4000), data.open("fashion_mnist_mini")
    x = (dataset.train_images.astype(np.float64) / 255 - dataset.info.mean) / dataset.info.std
    maps = tiny_maps(network.variables["params"], x)

    def loss(network, mean, var, batches=0):
        network.variables["batch_stats"]["stem_bn"].update(mean=np.float32(mean), var=np.float32(var))
        before = jax.tree.map(np.copy, network.variables)
        result = evaluate(network, bn_batches=batches)["loss"]
        jax.tree.map(np.testing.assert_array_equal, network.variables, before)
        return result

    mean, var = maps.mean((0, 1)), maps.var((0, 1))
    wanted, others = loss(network, mean, var), (mean + 1, 3 * var)
    assert loss(network, *others, batches=1) == pytest.approx(wanted, rel=1e-5)
    # Of 40 batches the mean counts each alike: what the variances lack are those between batches of 100.
    assert loss(with_batches_of(network, 100), *others, batches=40) == pytest.approx(wanted, rel=2e-3)
    assert loss(network, *others) != pytest.approx(wanted, rel=1e-2)
    with pytest.raises(UserError, match="--bn-batches=2 is more than the 1 batches of an epoch"):
        evaluate(network, bn_batches=2)
    with pytest.raises(UserError, match="--bn-batches=-1 must not be negative"):
        evaluate(network, bn_batches=-1)


@pytest.mark.slow
def test_what_is_kept_can_hold_the_statistics_of_training_images(tmp_path, quiet):
    """What is trained stays the same; and both kept networks give the scores that were written down."""
    with pytest.raises(UserError, match="bn_batches=9 is more than the 8 batches of an epoch"):
        train(load("--config.bn_batches=9"), tmp_path)
    result = train(load("--config.bn_batches=8"), tmp_path)
    mine, plain = trained.load(tmp_path, LAST), trained.load(quiet[0], LAST)
    jax.tree.map(np.testing.assert_array_equal, mine.variables["params"], plain.variables["params"])
    assert evaluate(mine) | {"epoch": 3} == near(result)
    best = trained.load(tmp_path, BEST)
    assert best.metrics in (
        {k: v for k, v in x.items() if k not in ("step", "split")} for x in of_split(tmp_path, "test")
    )
    assert evaluate(best) | {"epoch": best.metrics["epoch"]} == near(best.metrics)
    assert evaluate(plain, bn_batches=8)["loss"] == pytest.approx(result["loss"], rel=1e-3) != quiet[1]["loss"]


def test_an_evaluation_says_what_it_scores_and_needs_no_batch_that_the_devices_share(quiet, capsys):
    network = trained.load(quiet[0], LAST)
    result = evaluate(with_batches_of(network, 333))
    assert result | {"epoch": 3} == near(quiet[1])
    source, described = capsys.readouterr().out.splitlines()
    assert source == data.open("fashion_mnist_mini").source and described == network.describe()


def test_of_equally_good_epochs_the_later_is_the_best(tmp_path):
    variables = {"params": {"x": np.zeros(3)}, "batch_stats": {}}
    with record.Record(tmp_path, 1e9, TrainState.first(variables, optax.sgd(0.1)), 3, 1) as kept:
        for step, validated in enumerate((50.0, 72.0, 72.0, 60.0), 1):
            kept.evaluated(step, variables, {"epoch": step, "top1": 90.0 - step, "validation_top1": validated})
    assert Checkpoints(tmp_path).latest_step(BEST) == 3


@pytest.mark.slow
def test_the_best_is_chosen_on_validation_images_where_there_are_any(tmp_path, quiet, capsys):
    config = load("--config.data.validation=0.25")
    train(config, tmp_path)
    assert "validation Top-1" in capsys.readouterr().err
    test = of_split(tmp_path, "test")
    assert [x["step"] for x in test] == [6, 12, 18]  # of 3000 images
    best = trained.load(tmp_path, BEST)
    assert best.metrics["validation_top1"] == max(x["validation_top1"] for x in test)
    dataset = data.with_validation(data.open("fashion_mnist_mini"), 0.25, config.seed)
    held = dataclasses.replace(
        dataset, test_images=dataset.validation_images, test_labels=dataset.validation_labels, validation_labels=None
    )
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(data, "open", lambda *_, **__: held)
        again = evaluate(dataclasses.replace(best, data=dataclasses.replace(best.data, validation=0.0)))
    assert again["top1"] == best.metrics["validation_top1"] != best.metrics["top1"]
    assert "chosen on validation images" in best.describe()
    assert "chosen on test images" in trained.load(quiet[0], BEST).describe()
    assert "chosen" not in trained.load(quiet[0], LAST).describe()


def test_evaluation_happens_as_often_as_asked_and_after_the_last_epoch(tmp_path):
    train(load("--config.eval_every_epochs=2"), tmp_path)
    assert [x["epoch"] for x in of_split(tmp_path, "test")] == [2, 3]


class Crash(Exception):
    pass


def interrupt(config, workdir, saves):
    """Trains until a number of checkpoints is saved, then breaks down; returns their steps."""
    save, done = Checkpoints.save, []

    def interrupted_save(self, name, step, tree, metadata):
        if len(done) == saves:
            self.wait()
            raise Crash
        save(self, name, step, tree, metadata)
        done.append(step)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Checkpoints, "save", interrupted_save)
        with pytest.raises(Crash):
            train(config, workdir)
    return done


@pytest.mark.parametrize(
    ("saves", "step"),
    [
        pytest.param(3, 5, id="mid-epoch"),
        pytest.param(5, STEPS, id="after best, before last", marks=pytest.mark.slow),
        pytest.param(6, STEPS, id="end of an epoch", marks=pytest.mark.slow),
    ],
)
def test_a_run_interrupted_and_continued_equals_the_quiet_run(tmp_path, quiet, saves, step):
    assert interrupt(load(), tmp_path, saves)[-1] == step
    assert train(load(), tmp_path) == quiet[1]
    assert_same_run(tmp_path, quiet[0])


def test_going_on_with_other_arithmetic_is_said(tmp_path, capsys, monkeypatch):
    interrupt(load(), tmp_path, 3)
    assert "abacus" not in capsys.readouterr().out
    monkeypatch.setattr(library, "in_use", lambda: "an abacus")
    train(load(), tmp_path)
    assert capsys.readouterr().out.count("an abacus") == 2  # among the devices, and where the run goes on


def test_steps_are_traced_and_nothing_else_changes(tmp_path, quiet):
    """Over the end of the first epoch, with calls that would take more steps at once."""
    assert train(load(), tmp_path, profile=(STEPS - 2, STEPS + 1)) == quiet[1]
    assert_same_run(tmp_path, quiet[0])
    (trace,) = (tmp_path / "train" / "profile").rglob("perfetto_trace.json.gz")
    assert b"traceEvents" in gzip.decompress(trace.read_bytes())


def test_steps_that_no_stage_has_cannot_be_traced(tmp_path):
    most = load().train.epochs * STEPS
    with pytest.raises(UserError, match=rf"--profile={most}:99 begins behind the last step; a stage has {most}, "):
        train(load(), tmp_path, profile=(most, 99))
    assert not [*tmp_path.iterdir()]


@pytest.mark.slow
def test_a_run_interrupted_before_its_first_checkpoint_starts_again(tmp_path, quiet):
    config = load("--config.checkpoint_seconds=1e6")
    assert interrupt(config, tmp_path, 0) == []
    assert len(lines(tmp_path / "train")) == 2
    assert train(config, tmp_path) == quiet[1]
    assert_same_run(tmp_path, quiet[0])


@pytest.mark.slow
def test_the_time_of_an_epoch_is_that_of_all_its_steps(tmp_path, monkeypatch):
    """Also of those before the run was stopped. Here every call takes a second."""
    advance = record.Record.advance
    monkeypatch.setattr(record.Record, "advance", lambda self, images, _: advance(self, images, 1.0))
    assert interrupt(load(epochs=2), tmp_path, 3) == [1, 3, 5]
    train(load(epochs=2), tmp_path)  # from there to 6, 8, and 10, 12, 14, 16
    measured = metrics.read(tmp_path / "train" / "metrics.jsonl")
    assert [line["seconds"] for line in measured if line["split"] == "train"] == [5.0, 4.0]


@pytest.mark.slow
def test_a_run_in_two_stages_continues_in_the_right_one(tmp_path):
    config = load("--config.step1.weight_decay=0.0", "--config.step2.epochs=1", stages=("step1", "step2"))
    expected = train(config, tmp_path / "quiet")
    interrupt(config, tmp_path / "run", 17)
    assert trained.load(tmp_path / "run", LAST).stage.name == "step2"
    assert train(config, tmp_path / "run") == expected
    assert_same_run(tmp_path / "run", tmp_path / "quiet", config.stages)


@pytest.mark.slow
def test_an_estimator_with_a_schedule_resumes_exactly_and_compiles_once(tmp_path, monkeypatch):
    traced, apply = [], Network.apply

    def counted(self, variables, images, train=False, mask=None, progress=1.0, **options):
        if train:
            traced.append(progress)
        return apply(self, variables, images, train, mask, progress, **options)

    monkeypatch.setattr(families, "FAMILIES", {name: shrunken(family, BODY) for name, family in TINY.items()})
    monkeypatch.setattr(Network, "apply", counted)
    config = load("--config.model.estimator=tanh", "--config.model.weight_estimator=tanh", epochs=2)
    train(config, tmp_path / "quiet")
    assert {(progress.shape, progress.dtype) for progress in traced} == {((), np.dtype(np.float32))}
    assert len(traced) <= 3  # JAX 0.12 traces a program three times before it compiles it
    interrupt(config, tmp_path / "run", 4)
    train(config, tmp_path / "run")
    assert_same_run(tmp_path / "run", tmp_path / "quiet")


@pytest.mark.slow
def test_a_run_with_another_optimizer_and_schedule_learns(tmp_path, quiet):
    fields = {"optimizer": "sgd", "schedule": "cosine", "warmup_epochs": 1, "learning_rate": 0.08}
    train(load(*(f"--config.train.{name}={value}" for name, value in fields.items())), tmp_path)
    rates, losses = ([line[name] for line in of_split(tmp_path, "train")] for name in ("learning_rate", "loss"))
    np.testing.assert_allclose(rates, [0.04, 0.08, 0.04], rtol=1e-6)
    assert losses[0] > losses[1] > losses[2] and losses != [x["loss"] for x in of_split(quiet[0], "train")]


@pytest.mark.slow
def test_the_seed_decides_the_run(tmp_path, quiet):
    train(load("--config.seed=2", epochs=1), tmp_path)
    assert of_split(tmp_path, "train")[0]["loss"] != of_split(quiet[0], "train")[0]["loss"]


def contents(workdir):
    return {path: path.read_bytes() for path in workdir.rglob("*") if path.is_file() and path.name != "lock"}


def test_a_work_directory_of_another_config_is_refused_and_left_as_it_is(copied):
    before = contents(copied)
    with pytest.raises(UserError) as error:
        train(load("--config.model.ds_1d=(64,)", "--config.train.learning_rate=0.01"), copied)
    message = str(error.value)
    assert "model.ds_1d ((32, 64) there, (64,) now)" in message
    assert "train.learning_rate (0.02 there, 0.01 now)" in message
    assert message.count(" there, ") == 2 and "\n" not in message
    assert contents(copied) == before


@pytest.mark.slow
def test_a_run_goes_on_with_as_many_epochs_as_it_has_begun_but_not_with_fewer(tmp_path):
    assert interrupt(load(epochs=3), tmp_path, 7)[-1] == STEPS + 2
    before = (tmp_path / "config.json").read_text()
    with pytest.raises(UserError, match=r"train.epochs=1 is less than the 2 that the run in .* set at least 2"):
        train(load(epochs=1), tmp_path, change_config=True)
    assert (tmp_path / "config.json").read_text() == before and not (tmp_path / "config.0.json").exists()
    result = train(load(epochs=2), tmp_path, change_config=True)
    assert [x["epoch"] for x in of_split(tmp_path, "test")] == [1, 2] and result["epoch"] == 2


def test_a_kept_result_is_not_trained_over(copied):
    """A work directory as in results/, without what a run goes on from."""
    shutil.rmtree(copied / "train" / "checkpoints" / "last")
    before = contents(copied)
    with pytest.raises(UserError, match="keeps the best network of a run of at least [23] epochs, but no checkpoint"):
        train(load(), copied)
    assert contents(copied) == before


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (load("--config.train.batch_size=400"), r"train.batch_size \(500 there, 400 now\).*another train.batch_size"),
        (load(stages=("train", "step1")), r"stages \(\('train',\) there, .*another stages"),
    ],
    ids=["batch size", "stages"],
)
def test_what_a_step_and_a_stage_are_cannot_change(copied, config, words):
    before = contents(copied)
    with pytest.raises(UserError, match=words) as error:
        train(config, copied, change_config=True)
    assert "\n" not in str(error.value) and "--change-config" not in str(error.value)
    assert contents(copied) == before


def test_when_to_save_and_when_to_give_up_may_change_without_a_word(copied, quiet):
    config = load()
    config.checkpoint_seconds, config.data.max_unreadable = 7.0, 3
    assert train(config, copied) == quiet[1]
    assert config_lib.load_json(copied / "config.json") == config
    assert not (copied / "config.0.json").exists()


@pytest.mark.slow
def test_a_run_goes_on_with_another_weight_decay(copied):
    train(load("--config.train.weight_decay=0.1", epochs=4), copied, change_config=True)
    assert [x["epoch"] for x in of_split(copied, "test")] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("field", "parts"), [("estimator", ESTIMATORS), ("weight_estimator", ESTIMATORS), ("weight_scale", SCALES)]
)
def test_a_part_of_ones_own_that_does_not_give_what_it_should_is_refused(tmp_path, monkeypatch, field, parts):
    monkeypatch.setitem(families.FAMILIES, "onebnet", shrunken(families.onebnet, BODY))
    monkeypatch.setitem(parts, "own", lambda *_: 1.0)
    with pytest.raises(UserError, match="'own' gives a float, not an array"):
        train(load(f"--config.model.{field}=own"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("batch_size", "words"), [(6, "multiple of 4"), (4004, "4000 training images")])
def test_an_impossible_batch_size_is_refused_before_anything_is_made(tmp_path, batch_size, words):
    with pytest.raises(UserError, match=f"train.batch_size={batch_size} .*{words}"):
        train(load(f"--config.train.batch_size={batch_size}"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_missing_data_are_refused_before_anything_is_made(tmp_path):
    config = load("--config.data.name=cifar10", "--config.data.source=files", f"--config.data.dir={tmp_path}")
    with pytest.raises(UserError, match="CIFAR-10 was not found"):
        train(config, tmp_path / "run")
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
        train(load(*(f"--config.{field}" for field in overrides)), workdir)
    assert not (tmp_path / "run").exists()


def test_a_work_directory_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    for workdir in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(UserError, match=f"{workdir} cannot be used: .*choose another"):
            train(load(), workdir)


def test_a_broken_config_json_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"seed": "x"}')
    with pytest.raises(UserError, match="config.json") as error:
        train(load(), tmp_path)
    assert "\n" not in str(error.value)


def break_down_at(step, monkeypatch):
    """A learning rate that breaks the parameters at a step, whose own loss is finite still."""

    def schedule(count):
        return jnp.where(count >= step, jnp.inf, 1e-3)

    monkeypatch.setattr(optim, "make", lambda *_: (optax.adam(schedule), schedule))


def test_a_run_that_breaks_down_names_the_step_and_a_good_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr(stage, "DISPATCH_SECONDS", 1e6)  # calls of 1, 2 and 5 steps
    break_down_at(4, monkeypatch)
    for good in (3, 4):  # once more goes on from the good checkpoint, by a call of one step, and breaks down again
        with pytest.raises(UserError) as error:
            train(load(), tmp_path)
        found = re.search(r"not finite at step (\d+); the last good checkpoint is (\S+)\.", str(error.value))
        folder = tmp_path / "train" / "checkpoints" / "last" / str(good)
        assert found.groups() == ("5", str(folder)) and "\n" not in str(error.value)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(Checkpoints(tmp_path / "train").restore(LAST)[1]))
    with pytest.raises(UserError, match="at step 5; no checkpoint was saved yet"):
        train(load("--config.checkpoint_seconds=1e6"), tmp_path / "other")


def test_what_learns_is_what_the_config_says():
    config = load("--config.model.dtype=bfloat16", "--config.model.estimator=clip", "--config.data.flip=True")
    experiment = config_lib.experiment(config)
    learner = stage.Learner(experiment, experiment.stages[0], train_size=4000, teacher=None)
    assert learner.network.structure == experiment.structure and learner.network.dtype == jnp.bfloat16
    assert learner.network.binarization.estimator == "clip"
    assert (learner.batch.batch_size, learner.batch.devices, learner.batch.flip) == (500, 4, True)
    assert (learner.steps_per_epoch, learner.total) == (STEPS, 3 * STEPS)
    state = learner.first_state((28, 28, 1), jax.random.key(0))
    assert int(state.step) == 0 and int(state.bad_step) == -1 and int(state.sums.count) == 0
