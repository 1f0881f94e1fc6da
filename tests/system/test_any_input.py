"""Any input runs or is refused in one sentence that names what is wrong: configs, and runs."""

import dataclasses
import json
import pathlib

import jax
import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from small_runs import SHORT, cached_compilation, train

from onebnet_jax import api
from onebnet_jax.data import load as data
from onebnet_jax.errors import UserError
from onebnet_jax.networks import cost, families
from onebnet_jax.ops.binarize import ESTIMATORS, SCALES
from onebnet_jax.runs import check as config_check
from onebnet_jax.runs import config as config_lib
from onebnet_jax.runs import trained
from onebnet_jax.runs.optim import OPTIMIZERS, SCHEDULES

ROOT = pathlib.Path(__file__).parents[2]
DEFAULT, QUICKSTART = str(ROOT / "configs" / "default.py"), str(ROOT / "configs" / "quickstart.py")
FIELDS = config_lib.flat(config_lib.load(DEFAULT))
TRAIN_SIZE, TEST_SIZE = 24, 10  # images in the runs here


def assert_one_sentence(error):
    message = str(error)
    assert len(message.splitlines()) == 1 and message.endswith(".") and not message.startswith((" ", ";", "."))
    return message


# Configs -------------------------------------------------------------------------------------------------------

NUMBERS = ("nan", "inf", "-inf", "-1", "0", "0.5", "1", "2", "3.0", "8", "64", "1e3", "-0.0", "1e-320", "9" * 30)
WORDS = (
    "",
    "None",
    "True",
    "resnet",
    "imagenet2012",
    "cifar10",
    "train",
    "torch",
    "clip",
    "ß",
    "\u2028",
    "\udcff",
    "x\ny",
)
TUPLES = (
    "()",
    "(64,)",
    "(512,256)",
    "(256,256)",
    "(64.0,)",
    "([],)",
    "({},'train')",
    "('step1','step2')",
    "(None,",
    "-" * 9999,
)
KNOWN = sorted(FIELDS) * 2 + ["train", "model", "stages[0]", "model.conv_1d[0]", "", "seed.x", "modle.depth", "ß"]
values = st.one_of(
    st.sampled_from(NUMBERS + WORDS + TUPLES), st.text(st.characters(exclude_characters="\0"), max_size=9)
)
settings_of_fields = st.builds(
    "{}{}={}".format, st.sampled_from(["--config."] * 9 + ["-config."]), st.sampled_from(KNOWN), values
)
STRAYS = ("--", "-", "", "--config", "--config=x", "--flagfile=/dev/null", "-flagfile=x", "--undefok=x", "--help", "64")
strays = st.sampled_from((*STRAYS, "--noconfig.seed", "--noconfig.data.flip"))


@settings(max_examples=200)
@given(st.lists(settings_of_fields, min_size=1, max_size=3), st.lists(strays, max_size=1))
@example(["--config.stages=([],)"], [])
@example(["--config.model.conv_1d=" + "-" * 99999], [])
@example([], ["--flagfile=/nowhere"])
@example([], ["--undefok=zzz"])
def test_any_overrides_give_a_config_that_can_be_used_or_are_refused(overrides, others):
    try:
        config = config_lib.load(DEFAULT, [*overrides, *others])
    except UserError as error:
        message = assert_one_sentence(error)
        given = [word.partition("=")[0].lstrip("-").removeprefix("config.") for word in overrides]
        named = [*FIELDS, *map(repr, given), *map(repr, others), "flag --", "Unknown command line flag"]
        assert any(name in message for name in named), message
        return
    config_lib.check(config)
    assert {name: type(value) for name, value in config_lib.flat(config).items()} == {
        name: type(value) for name, value in FIELDS.items()
    }
    assert config_lib.from_json(config.to_json(), "JSON") == config
    assert all(type(width) is int for width in (*config.model.conv_1d, *config.model.ds_1d))
    experiment = config_lib.experiment(config)
    counted = cost.total(cost.layers(experiment.structure, experiment.data.info.shape))
    assert counted.parameters > 0 and counted.ops > 0
    assert all(stage.binarization.estimator in ESTIMATORS for stage in experiment.stages)


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-2, 70), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(st.text(max_size=3), inner, max_size=2)),
    max_leaves=4,
)


@settings(max_examples=100)
@given(st.sampled_from([*sorted(FIELDS), "model", "data", "train", "step1"]), JSON)
@example("model.depth", {"a": 1})
@example("data.dir", 3)
@example("train.binarize_weights", "yes")
@example("checkpoint_seconds", 60)
def test_any_value_in_the_json_of_a_run_is_of_the_right_type_or_refused(field, value):
    fields = json.loads(config_lib.load(DEFAULT).to_json())
    *sections, last = field.split(".")
    (fields[sections[0]] if sections else fields)[last] = value
    try:
        config = config_lib.from_json(json.dumps(fields), "config.json")
    except UserError as error:
        message = assert_one_sentence(error)
        assert field in message or "config.json is not a config that this version understands" in message
    else:
        for name, read in config_lib.flat(config).items():
            assert (
                name not in FIELDS
                or type(read) is type(FIELDS[name])
                or (type(read), type(FIELDS[name])) == (int, float)
            )
        assert config_lib.experiment(config).structure.units


@pytest.mark.parametrize(
    "text", [b"", b"[]", b"3", b"null", b'"x"', b"{", b"[" * 10**5, b'{"a":' * 10**4, b"\xff", b'{"a.b": 1}']
)
def test_json_that_is_no_config_is_refused(text, tmp_path):
    path = tmp_path / "config.json"
    path.write_bytes(text)
    with pytest.raises(UserError, match=r"config\.json is not a config that this version understands") as error:
        config_lib.load_json(path)
    assert_one_sentence(error.value)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("del config.train.epochs", "train.epochs"),
        ("del config.data", r"data\.\w+"),
        ("config.seed = None", "seed=None must be of type int"),
        ("config.extra = ConfigDict({'epochs': 3})", "extra.epochs"),
        ("config = ConfigDict()", "bn_batches"),
        ("config = {}", "dict"),
    ],
)
def test_a_file_with_another_schema_is_refused(change, named, tmp_path):
    path = tmp_path / "odd.py"
    lines = ["config = schema.get_config().unlock()", change, "return config"]
    head = "from ml_collections import ConfigDict\nfrom onebnet_jax.runs import schema\ndef get_config():\n    "
    path.write_text(head + "\n    ".join(lines))
    with pytest.raises(UserError, match=named) as error:
        config_lib.load(str(path))
    assert_one_sentence(error.value)


@pytest.mark.parametrize(
    "path", ["x" * 300, "configs", "/dev/null", "\udcff", "x" * 300 + ".py:TypeI", "/dev/null/x.py"]
)
def test_a_path_that_is_no_file_is_refused(path):
    with pytest.raises(UserError, match="There is no config file"):
        config_lib.load(path)
    with pytest.raises(UserError, match=r"config\.json (is missing|cannot be read)"):
        config_lib.load_json(pathlib.Path(path) / "config.json")


# Runs ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def few_images(monkeypatch):
    """The first of the embedded images."""
    whole = data.open("fashion_mnist_mini")
    few = dataclasses.replace(
        whole,
        **{f"train_{part}": getattr(whole, f"train_{part}")[:TRAIN_SIZE] for part in ("images", "labels")},
        **{f"test_{part}": getattr(whole, f"test_{part}")[:TEST_SIZE] for part in ("images", "labels")},
    )
    monkeypatch.setattr(data, "open", lambda *_, **__: few)


@st.composite
def small_configs(draw):
    """Overrides that make runs of seconds: all can be trained."""
    family = draw(st.sampled_from(list(families.FAMILIES)))
    stages = draw(st.sampled_from([("train",), ("step1", "step2")]))
    choices = {
        "depth": [8],
        "conv_1d": [(), (32,)],
        "ds_1d": [(), (32,)],
        "width_multiplier": [0.04, 0.1, 0.13],
        "stem": ["cifar", "imagenet"],
        "stem_relu": [False, True],
        "pad_value": [0, 1],
        "padding": ["same", "torch"],
    }
    model = {name: draw(st.sampled_from(choices[name])) for name in families.parameters(family) if name in choices}
    model |= {"family": family, "dtype": draw(st.sampled_from(config_check.DTYPES))}
    model = {"depth": 18, "conv_1d": (), "ds_1d": ()} | model  # the quick start has others
    if family != "resnet":
        for name, values in (("estimator", ESTIMATORS), ("weight_estimator", ESTIMATORS), ("weight_scale", SCALES)):
            model[name] = draw(st.sampled_from(list(values)))
    fields = {f"model.{name}": value for name, value in model.items()}
    fields |= {"data.crop_padding": draw(st.integers(0, 28)), "data.flip": draw(st.booleans()), "stages": stages}
    fields["seed"] = draw(st.integers(0, 2**31 - 1))
    for stage in stages:
        fields |= {
            f"{stage}.epochs": 2,
            f"{stage}.batch_size": 4 * draw(st.integers(1, TRAIN_SIZE // 4)),
            f"{stage}.optimizer": draw(st.sampled_from(list(OPTIMIZERS))),
            f"{stage}.schedule": draw(st.sampled_from(list(SCHEDULES))),
            f"{stage}.warmup_epochs": draw(st.integers(0, 1)),
            f"{stage}.learning_rate": draw(st.floats(0, 0.01)),
            f"{stage}.label_smoothing": draw(st.floats(0, 1)),
            f"{stage}.weight_decay": draw(st.sampled_from([0.0, 1e-4])),
        }
    return [f"--config.{name}={value}" for name, value in fields.items()]


@pytest.mark.slow
def test_random_small_configs_train_and_evaluate(few_images, quick_compilation, tmp_path, monkeypatch):
    monkeypatch.setattr(families, "FAMILIES", SHORT)
    count = 0

    @settings(max_examples=2)
    @given(small_configs())
    def trains(overrides):
        nonlocal count
        count += 1
        config, folder = config_lib.load(QUICKSTART, overrides), tmp_path / str(count)
        result = train(config, folder)
        assert np.isfinite(result["loss"]) and 0 <= result["top1"] <= result["top5"] <= 100
        last = trained.load(folder, "last")
        assert last.stage == config_lib.experiment(config).stages[-1]
        assert last.origin["step"] == 2 * -(-TRAIN_SIZE // last.stage.batch_size)

    with cached_compilation():
        trains()


@settings(max_examples=30)
@given(batch_size=st.one_of(st.integers(1, 100), st.integers(1, 2**20)), stage=st.sampled_from(["train", "step2"]))
def test_a_batch_that_cannot_be_is_refused_before_anything_is_made(few_images, tmp_path, batch_size, stage):
    assume(batch_size % jax.device_count() or batch_size > TRAIN_SIZE)
    overrides = [f"--config.{stage}.batch_size={batch_size}", f"--config.stages='{stage}'"]
    with pytest.raises(UserError, match=f"^{stage}.batch_size={batch_size} ") as error:
        train(config_lib.load(QUICKSTART, overrides), tmp_path / "run")
    assert_one_sentence(error.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("fields", "words"), [({"data.dir": None}, "data.dir is None"), (["train.epochs=2"], "must be a dictionary")]
)
def test_fields_in_python_that_are_none_are_refused(fields, words):
    with pytest.raises(UserError, match=words) as error:
        api.untrained("quickstart", fields)
    assert_one_sentence(error.value)


def test_a_family_that_does_not_take_what_data_say_is_refused(monkeypatch):
    monkeypatch.setitem(families.FAMILIES, "mine", lambda num_classes: None)
    with pytest.raises(UserError, match="model.family='mine' must take channels too") as error:
        config_lib.load("quickstart", ["--config.model.family=mine"])
    assert_one_sentence(error.value)
