"""Configs: files, overrides, checks, and the JSON beside a run."""

import ast
import contextlib
import json
import pathlib
import re
import sys

import pytest

from onebnet_jax.errors import UserError
from onebnet_jax.networks.structure import placed
from onebnet_jax.ops.losses import LOSSES
from onebnet_jax.paper import latency, numbers
from onebnet_jax.runs import config as config_lib

DEFAULT, QUICKSTART = "configs/default.py", "configs/quickstart.py"
IMAGENET = "data.name=imagenet2012 data.flip=True"

# Another value for each field, as typed on the command line.
OTHERS = """
    seed=7 model.family=birealnet model.depth=34 model.conv_1d=(256,512) model.ds_1d=(128,) model.width_multiplier=0.5
    model.stem=imagenet model.stem_relu=true model.pad_value=0 model.padding=torch model.estimator=clip model.window=1.5
    model.weight_estimator=tanh model.weight_scale=none model.dtype=bfloat16 data.name=cifar10 data.source=files
    data.dir=~/data data.image_size=64 data.crop_padding=4 data.flip=True data.lighting=0.1 data.max_unreadable=3
    data.rotate=30 data.brightness=0.2
    data.resize=pad data.classes=('bolt','nut') data.mean=(0.5,) data.std=(0.2,) data.validation=0.2
    stages=('step1','step2') teacher=runs/teacher init=runs/a checkpoint_seconds=60 eval_every_epochs=5 bn_batches=40
    diagnostics=true model.soft_sign=tanh
"""
OF_STAGE = """
    batch_size=128 epochs=3 optimizer=lion learning_rate=1e-2 schedule=cosine warmup_epochs=3 weight_decay=1e-4
    momentum=0.5 label_smoothing=0 label_weight=0.5 teacher_weight=0.5 temperature=2 binarize_activations=false
    attention_weight=0.5 centre_weights=true other_loss=ones other_weight=0.5
"""
# What else must be set for a field to have an effect.
FOLDER = "data.name=folder data.image_size=32 data.classes=('bolt','nut') data.mean=(0.5,) data.std=(0.2,)"
OF_FOLDER = {
    f"data.{name}": " ".join(word for word in FOLDER.split() if not word.startswith(f"data.{name}="))
    for name in ("resize", "classes", "mean", "std")
}
NEEDED = (
    dict.fromkeys(("data.image_size", "data.lighting", "data.max_unreadable"), IMAGENET)
    | OF_FOLDER
    | {
        "model.padding": "model.family=resnet",
        "teacher": "train.teacher_weight=1",
        "model.soft_sign": "train.binarize_activations=false",
    }
)
NEEDED_OF_STAGE = {
    "temperature": "teacher_weight=1",
    "attention_weight": "teacher_weight=1",
    "momentum": "optimizer=sgd",
    "other_loss": "other_weight=1.0",
    "other_weight": "other_loss=ones",
}


def load(path, *fields):
    return config_lib.load(path, [f"--config.{field}" for field in fields])


def refusal(*overrides, path=DEFAULT):
    """The sentence with which overrides are refused."""
    with pytest.raises(UserError) as error:
        config_lib.load(path, overrides)
    message = str(error.value)
    assert "\n" not in message and message.endswith(".") and "Traceback" not in message
    return message


def test_every_field_can_be_set(monkeypatch):
    monkeypatch.setitem(LOSSES.data, "ones", lambda logits, labels, params: 1.0)
    default, seen = config_lib.flat(load(DEFAULT)), set()
    rows = {word: NEEDED.get(word.partition("=")[0], "").split() for word in OTHERS.split()}
    for stage, weights in (("train", "false"), ("step1", "1"), ("step2", "false")):
        for word in [*OF_STAGE.split(), f"binarize_weights={weights}"]:
            others = [f"stages=('{stage}',)"] if stage != "train" else []
            others += [f"{stage}.{NEEDED_OF_STAGE[name]}" for name in NEEDED_OF_STAGE if word.startswith(name)]
            others += [f"{stage}.binarize_weights=1"] * (stage == "step1" and word.startswith("centre_weights"))
            rows[f"{stage}.{word}"] = others
    for word, others in rows.items():
        field, _, typed = word.partition("=")
        value, read = default[field], typed
        with contextlib.suppress(ValueError, SyntaxError):
            read = ast.literal_eval(typed.capitalize() if type(value) is bool else typed)
        config = config_lib.flat(load(DEFAULT, word, *others))
        assert config[field] == read != value and type(config[field]) is type(value)
        changed = {name for name in default if config[name] != default[name]}
        assert changed == {field, *(other.partition("=")[0] for other in others)}
        seen.add(field)
    assert seen == default.keys(), "a new field needs its word in OTHERS or OF_STAGE"


def test_a_value_may_follow_as_a_word_of_its_own_and_a_bool_stand_alone():
    config = config_lib.load(DEFAULT, ["--config.train.epochs", "5", "--config.data.flip", "--config.seed=2"])
    assert (config.train.epochs, config.data.flip, config.seed) == (5, True, 2)
    assert config_lib.load(DEFAULT, ["--noconfig.data.flip"]).data.flip is False


@pytest.mark.parametrize("field", ["zzzz", "train.zzzz", "zzzz.epochs.x", "train", ""])
def test_an_unknown_field_is_named_in_full(field):
    message = refusal(f"--config.{field}=1")
    assert f"'{field}'" in message and "did you mean" not in message and "runs/schema.py" in message


@pytest.mark.parametrize(
    ("field", "meant"),
    [
        *(("train.epochs.x", "train.epochs"), ("seed.x", "seed"), ("train.epoch", "train.epochs")),
        *(("model.widht_multiplier", "model.width_multiplier"), ("batch_size", "train.batch_size")),
        *(("train..epochs", "train.epochs"), ("step1.optimiser", "step1.optimizer")),
    ],
)
def test_of_a_misspelt_field_the_one_that_is_meant_is_named(field, meant):
    message = refusal(f"--config.{field}=1")
    assert f"'{field}'" in message and f"did you mean '{meant}'?" in message


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("int", ["train.epochs=two", "train.epochs=2.5", "train.epochs=", "train.epochs=1\n2", "model.pad_value=True"]),
        ("float", ["train.learning_rate=fast", "model.width_multiplier=(1,)"]),
        ("bool", ["data.flip=maybe"]),
    ],
)
def test_a_mistyped_value_is_named_with_its_field_and_type(kind, words):
    for word in words:
        field, _, value = word.partition("=")
        assert refusal(f"--config.{word}").startswith(f"{field}={value!r} must be of type {kind}; ")


# What networks cannot be: one word here, the others in tests/networks/test_families.py.
IMPOSSIBLE = """
    seed=-1 seed=3000000000 model.family=bottleneck model.depth=19 model.conv_1d=256,x model.conv_1d=(256.0,)
    model.ds_1d=(True,) model.padding=torch model.estimator=identity model.weight_estimator=identity
    model.weight_scale=max model.window=0
    model.dtype=float16 data.name=mnist data.source=internet data.image_size=-1 data.image_size=28 data.crop_padding=-1
    data.crop_padding=1000 data.rotate=-1 data.rotate=181 data.brightness=1 data.brightness=nan
    train.batch_size=0 train.batch_size=99999999999999999999 train.epochs=0 train.optimizer=sgdm
    step1.schedule=step train.warmup_epochs=-1 train.momentum=1.5 train.learning_rate=-0.1 train.learning_rate=nan
    train.label_smoothing=1.1 step1.epochs=0 step2.temperature=0 train.teacher_weight=-1 train.weight_decay=-1
    stages=() stages=('data',) stages=('train','train') checkpoint_seconds=-1 eval_every_epochs=0 bn_batches=-1
"""


@pytest.mark.parametrize("word", IMPOSSIBLE.split())
def test_a_value_that_cannot_be_is_named_with_its_field(word):
    assert refusal(f"--config.{word}").startswith(f"{word.partition('=')[0]}=")


def test_a_config_file_named_without_its_end_is_found(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").touch()
    with pytest.raises(UserError, match="There is no config file mine, .*; --config=mine.py is here"):
        config_lib.load("mine")


def test_padding_that_images_are_too_small_for_is_named_with_their_size():
    why = refusal("--config.data.image_size=5", "--config.data.dir=.", path="configs/folder.py")
    assert why == "data.crop_padding=8 must lie between 0 and 5, for images 5 pixels wide."


@pytest.mark.parametrize(
    ("config", "typed", "why"),
    [
        ("imagenet_typeII", "train.epochs=2", "step1, step2"),
        ("imagenet_typeII", "train.binarize_weights", "step1, step2"),
        ("quickstart", "step1.epochs=2", "train"),
        ("quickstart", "teacher=runs/x", "train.teacher_weight"),
        ("imagenet_typeII", "stages=('train',)", "train.teacher_weight"),
        ("quickstart", "data.lighting=0.1", "FashionMNIST"),
        ("cifar10_typeI", "data.max_unreadable=0", "CIFAR-10"),
        ("quickstart", "train.temperature=4", "train.teacher_weight"),
        ("fashionmnist_two_stage", "step1.label_smoothing=0", "step1.label_weight"),
        ("quickstart", "train.momentum=0.5", "train.optimizer"),
        ("fashionmnist_fp32", "model.weight_scale=none", "model.family='resnet'"),
        ("cifar10_fp32", "train.binarize_weights=False", "model.family='resnet'"),
        ("fashionmnist_fp32", "model.pad_value=0", "model.family='resnet'"),
        ("imagenet_birealnet", "model.stem_relu=True", "model.family='birealnet'"),
        ("imagenet_xnornet", "model.ds_1d=(128,)", "model.family='xnornet'"),
        ("quickstart", "model.padding=torch", "model.family='onebnet'"),
    ],
)
def test_what_a_run_would_ignore_is_refused(config, typed, why):
    message, field = refusal(f"--config.{typed}", path=f"configs/{config}.py"), typed.partition("=")[0]
    named = "teacher" if field == "stages" else field
    assert re.match(rf"{re.escape(named)}\b", message) and ("no effect" in message or "no meaning" in message)
    assert why in message


@pytest.mark.parametrize(
    ("kind", "words"),
    [("activations", "pad_value=0 estimator=clip window=2"), ("weights", "weight_estimator=poly weight_scale=none")],
)
def test_how_signs_are_taken_is_refused_only_where_no_stage_takes_them(kind, words):
    path, steps = "configs/fashionmnist_two_stage.py", [f"step{i}.binarize_{kind}=False" for i in (1, 2)]
    for word in words.split():
        load(path, f"model.{word}", steps[0])
        message = refusal(*(f"--config.{each}" for each in (f"model.{word}", *steps)), path=path)
        assert message.startswith(f"model.{word.partition('=')[0]} ") and kind in message


def test_a_warm_up_is_shorter_than_its_stage():
    load(DEFAULT, "train.epochs=4", "train.warmup_epochs=3")
    assert refusal("--config.train.epochs=4", "--config.train.warmup_epochs=4").startswith("train.warmup_epochs ")


def test_the_fields_of_a_stage_can_be_set_where_the_same_command_names_the_stage():
    words = ["--config.step2.epochs", "3", "--config.stages=('step2',)"]
    for overrides in (words, [*words[2:], *words[:2]]):
        assert config_lib.load(DEFAULT, overrides).step2.epochs == 3
    assert refusal(*words, "--config.train.epochs=2").startswith("train.epochs ")


def test_a_stage_that_learns_from_nothing_is_refused():
    for name, path in (("train", QUICKSTART), ("step2", "configs/imagenet_typeI.py")):
        words = [f"--config.{name}.label_weight=0", f"--config.{name}.teacher_weight=0.0"]
        assert refusal(*words, path=path).startswith(f"{name}.label_weight and {name}.teacher_weight are both 0")
    load(QUICKSTART, "train.label_weight=0", "train.teacher_weight=1")


@pytest.mark.parametrize(
    ("word", "right"),
    [(f"data.{word}", "0") for word in ("crop_padding=4", "rotate=5.0", "brightness=0.1")]
    + [("data.flip=False", "True"), ("data.source=download", "tfds")],
)
def test_what_imagenet_cannot_be_read_with_is_refused(word, right):
    message = refusal(f"--config.{word}", path="configs/imagenet_fp32.py")
    assert message.replace("'", "").startswith(word) and re.search(rf"must be .*{right}", message)


def test_a_config_in_the_home_folder_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine.py").write_text(pathlib.Path(QUICKSTART).read_text())
    assert config_lib.load("~/mine.py") == config_lib.load(QUICKSTART)
    assert config_lib.name("~/mine.py") == "mine"
    assert f"{tmp_path}/other.py" in refusal(path="~/other.py:x")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "get_config"),
        ("def get_config(): pass", "None"),
        ("x = = 1", "invalid syntax"),
        ("\ndef get_config(): 1 / 0", "division by zero, in line 2 of /"),
    ],
)
def test_a_file_that_is_no_config_is_refused(tmp_path, text, words):
    (tmp_path / "broken.py").write_text(text)
    message = refusal(path=f"{tmp_path}/broken.py")
    assert message.startswith(f"{tmp_path}/broken.py is not a config: ") and words in message and len(message) < 300


def test_the_smallest_image_leaves_one_pixel_of_the_last_map():
    """No smaller one would have a pixel for each of the network's strides."""
    for path, others, least in [
        ("imagenet_typeI", [], 32),
        ("imagenet_fp32", ["model.depth=34"], 32),
        ("imagenet_xnornet", ["model.stem=cifar"], 8),
        ("imagenet_fp32", ["model.depth=20"], 16),
    ]:
        path, words = f"configs/{path}.py", [*others, f"data.image_size={least - 1}"]
        assert str(least) in refusal(*(f"--config.{word}" for word in words), path=path)
        run = config_lib.experiment(load(path, *others, f"data.image_size={least}"))
        *_, last = placed(run.structure, run.data.info.shape)
        assert run.data.info.shape == (least, least, 3) and last.output[:2] == (1, 1)


@pytest.mark.parametrize("row", numbers.TABLE1, ids=lambda row: row.label)
def test_a_config_takes_any_row_of_table_1_by_name(row):
    path = f"configs/imagenet.py:{row.label}"
    config = load(path, "step2.epochs=3")
    assert config_lib.experiment(config).structure.units == latency.table1_structure(row).units
    assert config.step2.epochs == 3 and config_lib.name(path) == f"imagenet_{row.label}" and "/" not in row.label
    assert [other.label for other in numbers.TABLE1].count(row.label) == 1


def test_an_argument_that_is_not_taken_is_refused():
    for wrong in ("TypeIV", "typeII", "", "TypeII:TypeI"):
        message = refusal(path=f"configs/imagenet.py:{wrong}")
        assert repr(wrong) in message and all(row.label in message for row in numbers.TABLE1)
    assert "'TypeI'" in refusal(path=f"{QUICKSTART}:TypeI")
    assert "configs/nothing.py" in refusal(path="configs/nothing.py:TypeI")
    assert config_lib.name(QUICKSTART) == "quickstart"


def test_a_run_that_ignored_a_field_can_still_be_read(tmp_path):
    """It ran, before such fields were refused."""
    fields = json.loads(load(QUICKSTART).to_json())
    fields["teacher"], fields["data"]["lighting"], fields["step1"]["epochs"] = "runs/x", 0.1, 3
    (tmp_path / "config.json").write_text(json.dumps(fields))
    config = config_lib.load_json(tmp_path / "config.json")
    assert (config.teacher, config.data.lighting, config.step1.epochs) == ("runs/x", 0.1, 3)
    assert config_lib.override(config, ["--config.data.dir=x"]).data.dir == "x"


def test_a_config_saved_before_a_field_existed_gets_its_default(tmp_path):
    config = load(QUICKSTART, "seed=5")
    old = json.loads(config.to_json())
    del old["model"]["weight_scale"], old["train"]["optimizer"], old["checkpoint_seconds"]
    (tmp_path / "config.json").write_text(json.dumps(old))
    assert config_lib.load_json(tmp_path / "config.json") == config


# Configs by name -----------------------------------------------------------------------------------------------

ROOT = pathlib.Path(__file__).parents[2]
CONFIGS = sorted(path.stem for path in (ROOT / "configs").glob("*.py"))


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A user's folder, which is the current one and has a package of theirs called configs."""
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "__init__.py").write_text("raise ImportError('not for onebnet_jax')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "configs", raising=False)
    return tmp_path


@pytest.mark.parametrize("name", CONFIGS)
def test_a_shipped_config_is_found_by_name_from_any_folder(name, elsewhere):
    by_path = config_lib.load(str(ROOT / "configs" / f"{name}.py"), assumed=2)
    for path in (name, f"{name}.py", f"configs/{name}.py"):
        assert config_lib.load(path, assumed=2) == by_path and config_lib.name(path) == name


def test_a_shipped_config_takes_its_argument_by_name(elsewhere):
    by_path = config_lib.load(f"{ROOT}/configs/imagenet.py:TypeI")
    for path in ("imagenet:TypeI", "imagenet.py:TypeI", "configs/imagenet:TypeI", "configs/imagenet.py:TypeI"):
        assert config_lib.load(path) == by_path and config_lib.name(path) == "imagenet_TypeI"


@pytest.mark.parametrize("path", ["quickstart", "quickstart.py", "configs/quickstart.py", "imagenet:TypeI"])
def test_a_file_that_is_there_comes_before_a_shipped_config(path, elsewhere):
    text = "from onebnet_jax.runs import schema\n\n\ndef get_config():\n    config = schema.get_config()\n"
    (elsewhere / path).write_text(text + "    config.seed = 11\n    return config\n")
    assert config_lib.load(path).seed == 11


def test_a_config_begins_with_a_shipped_one_whatever_lies_in_the_folder(elsewhere):
    (elsewhere / "quickstart.py").write_text("1 / 0")
    text = "from onebnet_jax.runs import schema\n\n\ndef get_config():\n    return schema.begin_with({!r})\n"
    (elsewhere / "mine.py").write_text(text.format("quickstart"))
    assert config_lib.load("mine.py") == config_lib.load("configs/quickstart.py")
    (elsewhere / "mine.py").write_text(text.format("fashionmnist_sd32_64"))
    assert "fashionmnist_ds32_64" in refusal(path="mine.py")


def test_code_is_of_ones_own_unless_the_package_brings_it(elsewhere):
    text = b"from onebnet_jax.runs.schema import get_config as get_config\n"
    (elsewhere / "mine.py").write_bytes(text)
    assert [config_lib.own_code(path) for path in ("mine.py", "mine.py:x")] == [text, text]
    for path in ("quickstart", "imagenet:TypeI", str(ROOT / "configs" / "quickstart.py")):
        assert config_lib.own_code(path) is None


@pytest.mark.parametrize(
    ("path", "closest"),
    [("cifar10_typ2", "cifar10_typeI"), ("configs/imagenet_fp.py", "imagenet_fp32"), ("my/Quickstart", "quickstart")],
)
def test_an_unknown_name_is_refused_with_the_closest(path, closest, elsewhere):
    message = refusal(path=path)
    assert path in message and closest in message


@pytest.mark.parametrize(
    ("line", "remedy"),
    [("from configs import default", "schema.begin_with"), ("import onebnet_nowhere", "name its folder by PYTHONPATH")],
)
def test_an_import_that_fails_in_a_config_is_told_by_its_cause(line, remedy, tmp_path, monkeypatch):
    """As where a package of the user's, called configs, comes first on the path."""
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "__init__.py").touch()
    (tmp_path / "own.py").write_text(f"{line}\nget_config = None\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "configs", raising=False)
    with pytest.raises(UserError, match=f"own.py imports what is not there: .*{remedy}"):
        config_lib.load(str(tmp_path / "own.py"))
    monkeypatch.delitem(sys.modules, "configs", raising=False)
