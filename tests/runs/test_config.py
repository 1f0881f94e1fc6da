"""Configs: files, overrides, checks, and the JSON beside a run."""

import json
import pathlib
import re
import sys

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from onebnet_jax.errors import UserError
from onebnet_jax.networks.structure import placed
from onebnet_jax.paper import latency, numbers
from onebnet_jax.runs import config as config_lib

ROOT = pathlib.Path(__file__).parents[2]
DEFAULT = "configs/default.py"
CONFIGS = sorted(str(path) for path in pathlib.Path("configs").glob("*.py"))

# Another value for each field, as typed and as read.
OVERRIDES = {
    "seed": ("7", 7),
    "model.depth": ("34", 34),
    "model.family": ("birealnet", "birealnet"),
    "model.conv_1d": ("(256,512)", (256, 512)),
    "model.ds_1d": ("(128,)", (128,)),
    "model.width_multiplier": ("0.5", 0.5),
    "model.stem": ("imagenet", "imagenet"),
    "model.stem_relu": ("true", True),
    "model.pad_value": ("0", 0),
    "model.padding": ("torch", "torch"),  # of the FP32 ResNet
    "model.estimator": ("clip", "clip"),
    "model.weight_estimator": ("tanh", "tanh"),
    "model.weight_scale": ("none", "none"),
    "model.window": ("1.5", 1.5),
    "model.dtype": ("bfloat16", "bfloat16"),
    "data.name": ("cifar10", "cifar10"),
    "data.source": ("files", "files"),
    "data.dir": ("~/data", "~/data"),
    "data.image_size": ("64", 64),  # of ImageNet
    "data.crop_padding": ("4", 4),
    "data.flip": ("True", True),
    "data.lighting": ("0.1", 0.1),  # of ImageNet
    "data.max_unreadable": ("3", 3),  # of ImageNet
    "stages": ("('step1','step2')", ("step1", "step2")),
    "teacher": ("runs/teacher", "runs/teacher"),  # with a teacher_weight
    "checkpoint_seconds": ("60", 60.0),
    "eval_every_epochs": ("5", 5),
}
STAGE_OVERRIDES = {
    "batch_size": ("128", 128),
    "epochs": ("3", 3),
    "optimizer": ("lion", "lion"),
    "learning_rate": ("1e-2", 0.01),
    "schedule": ("cosine", "cosine"),
    "warmup_epochs": ("3", 3),
    "momentum": ("0.5", 0.5),  # of SGD
    "weight_decay": ("1e-4", 1e-4),
    "label_smoothing": ("0", 0.0),
    "label_weight": ("0.5", 0.5),
    "teacher_weight": ("0.5", 0.5),
    "temperature": ("2", 2.0),
    "binarize_activations": ("false", False),
    "binarize_weights": ("false", False),
}
OVERRIDES |= {f"{stage}.{field}": row for stage in ("train", "step2") for field, row in STAGE_OVERRIDES.items()}
OVERRIDES |= {f"step1.{field}": row for field, row in (STAGE_OVERRIDES | {"binarize_weights": ("1", True)}).items()}


IMAGENET = ["--config.data.name=imagenet2012", "--config.data.flip=True"]
# What a field has an effect with.
NEEDED = dict.fromkeys(("data.image_size", "data.lighting", "data.max_unreadable"), IMAGENET) | {
    "model.padding": ["--config.model.family=resnet"],
    "teacher": ["--config.train.teacher_weight=1"],
}
NEEDED_OF_STAGE = {"temperature": "teacher_weight=1", "momentum": "optimizer=sgd"}


def refusal(*overrides, path=DEFAULT):
    """The sentence with which overrides are refused."""
    with pytest.raises(UserError) as error:
        config_lib.load(path, overrides)
    message = str(error.value)
    assert "\n" not in message and message.endswith(".") and "Traceback" not in message
    return message


def test_every_field_can_be_set():
    default = config_lib.flat(config_lib.load(DEFAULT))
    assert OVERRIDES.keys() >= default.keys(), "a new field needs its row in OVERRIDES"
    for field, value in default.items():
        typed, read = OVERRIDES[field]
        stage, _, name = field.partition(".")
        others = [f"--config.stages=('{stage}',)"] if stage in ("step1", "step2") else NEEDED.get(field, [])
        if name in NEEDED_OF_STAGE:
            others = [*others, f"--config.{stage}.{NEEDED_OF_STAGE[name]}"]
        config = config_lib.flat(config_lib.load(DEFAULT, [f"--config.{field}={typed}", *others]))
        assert config[field] == read != value and type(config[field]) is type(value)
        changed = {name for name in default if config[name] != default[name]}
        assert changed == {field, *(word.removeprefix("--config.").partition("=")[0] for word in others)}


def test_a_value_may_follow_as_a_word_of_its_own_and_a_bool_stand_alone():
    config = config_lib.load(DEFAULT, ["--config.train.epochs", "5", "--config.data.flip", "--config.seed=2"])
    assert (config.train.epochs, config.data.flip, config.seed) == (5, True, 2)
    assert config_lib.load(DEFAULT, ["--noconfig.data.flip"]).data.flip is False


@pytest.mark.parametrize(
    ("field", "meant"),
    [
        ("zzzz", None),
        ("train.zzzz", None),
        ("zzzz.epochs.x", None),
        ("train", None),
        ("", None),
        ("train.epochs.x", "train.epochs"),
        ("seed.x", "seed"),
        ("train.epoch", "train.epochs"),
        ("model.widht_multiplier", "model.width_multiplier"),
        ("batch_size", "train.batch_size"),
        ("train..epochs", "train.epochs"),
    ],
)
def test_an_unknown_field_is_named_in_full(field, meant):
    message = refusal(f"--config.{field}=1")
    assert message.startswith(f"There is no field '{field}'")
    assert ("did you mean" in message) == bool(meant) and (meant is None or f"mean '{meant}'?" in message)
    assert "runs/schema.py" in message


@pytest.mark.parametrize(
    ("field", "value", "kind"),
    [
        ("train.epochs", "two", "int"),
        ("train.epochs", "2.5", "int"),
        ("train.epochs", "", "int"),
        ("train.epochs", "1\n2", "int"),
        ("train.batch_size", "1e3", "int"),
        ("train.learning_rate", "fast", "float"),
        ("model.width_multiplier", "(1,)", "float"),
        ("data.flip", "maybe", "bool"),
        ("model.pad_value", "True", "int"),
    ],
)
def test_a_mistyped_value_is_named_with_its_field_and_type(field, value, kind):
    assert refusal(f"--config.{field}={value}").startswith(f"{field}={value!r} must be of type {kind}; ")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("seed", "-1"),
        ("seed", "3000000000"),
        ("model.depth", "19"),
        ("model.family", "bottleneck"),
        ("model.conv_1d", "(100,)"),
        ("model.conv_1d", "(256,256)"),
        ("model.conv_1d", "256,x"),
        ("model.conv_1d", "(256.0,)"),
        ("model.ds_1d", "(True,)"),
        ("model.ds_1d", "(64,)"),
        ("model.width_multiplier", "0"),
        ("model.width_multiplier", "-1"),
        ("model.width_multiplier", "nan"),
        ("model.width_multiplier", "inf"),
        ("model.stem", "vgg"),
        ("model.pad_value", "-1"),
        ("model.padding", "torch"),  # of a OneBNet
        ("model.estimator", "identity"),
        ("model.weight_estimator", "identity"),
        ("model.weight_scale", "max"),
        ("model.window", "0"),
        ("model.dtype", "float16"),
        ("data.name", "mnist"),
        ("data.source", "internet"),
        ("data.image_size", "-1"),
        ("data.image_size", "28"),  # of FashionMNIST
        ("data.crop_padding", "-1"),
        ("data.crop_padding", "1000"),
        ("train.batch_size", "0"),
        ("train.batch_size", "99999999999999999999"),
        ("train.epochs", "0"),
        ("train.optimizer", "adagrad"),
        ("step1.schedule", "step"),
        ("train.warmup_epochs", "-1"),
        ("train.momentum", "1.5"),
        ("train.learning_rate", "-0.1"),
        ("train.learning_rate", "nan"),
        ("train.label_smoothing", "1.1"),
        ("step1.epochs", "0"),
        ("step2.temperature", "0"),
        ("train.teacher_weight", "-1"),
        ("stages", "()"),
        ("stages", "('data',)"),
        ("stages", "('train', 'train')"),
        ("train.weight_decay", "-1"),
        ("checkpoint_seconds", "-1"),
        ("eval_every_epochs", "0"),
    ],
)
def test_a_value_that_cannot_be_is_named_with_its_field(field, value):
    assert refusal(f"--config.{field}={value}").startswith(f"{field}=")


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
        ("fashionmnist_fp32", "model.estimator=clip", "model.family='resnet'"),
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
    ("kind", "fields"),
    [
        ("activations", ("pad_value=0", "estimator=clip", "window=2")),
        ("weights", ("weight_estimator=poly", "weight_scale=none")),
    ],
)
def test_how_signs_are_taken_is_refused_only_where_no_stage_takes_them(kind, fields):
    """The first of the two stages has float weights."""
    for field in fields:
        words = [f"--config.model.{field}", f"--config.step1.binarize_{kind}=False"]
        config_lib.load("configs/fashionmnist_two_stage.py", words)
        words.append(f"--config.step2.binarize_{kind}=False")
        message = refusal(*words, path="configs/fashionmnist_two_stage.py")
        assert message.startswith(f"model.{field.partition('=')[0]} ") and kind in message


def test_a_warm_up_is_shorter_than_its_stage():
    config_lib.load(DEFAULT, ["--config.train.epochs=4", "--config.train.warmup_epochs=3"])
    assert refusal("--config.train.epochs=4", "--config.train.warmup_epochs=4").startswith("train.warmup_epochs ")


def test_the_fields_of_a_stage_can_be_set_where_the_same_command_names_the_stage():
    words = ["--config.step2.epochs", "3", "--config.stages=('step2',)"]
    for overrides in (words, [*words[2:], *words[:2]]):
        assert config_lib.load(DEFAULT, overrides).step2.epochs == 3
    assert refusal(*words, "--config.train.epochs=2").startswith("train.epochs would have no effect")


def test_a_stage_that_learns_from_nothing_is_refused():
    for name, path in (("train", "configs/quickstart.py"), ("step2", "configs/imagenet_typeI.py")):
        words = [f"--config.{name}.label_weight=0", f"--config.{name}.teacher_weight=0.0"]
        assert refusal(*words, path=path).startswith(f"{name}.label_weight and {name}.teacher_weight are both 0")
    config_lib.load("configs/quickstart.py", ["--config.train.label_weight=0", "--config.train.teacher_weight=1"])


@pytest.mark.parametrize(
    ("config", "field", "wrong", "right"),
    [
        ("imagenet_typeII", "data.crop_padding", "4", "0"),
        ("imagenet_fp32", "data.flip", "False", "True"),
        ("imagenet_teacher", "data.flip", "False", "True"),
        ("imagenet_typeII_scratch", "data.source", "download", "one of auto, tfds, files"),
    ],
)
def test_what_imagenet_cannot_be_read_with_is_refused(config, field, wrong, right):
    message = refusal(f"--config.{field}={wrong}", path=f"configs/{config}.py")
    assert message.replace("'", "").startswith(f"{field}={wrong} ") and f"must be {right}" in message


def test_a_config_in_the_home_folder_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine.py").write_text(pathlib.Path("configs/quickstart.py").read_text())
    assert config_lib.load("~/mine.py") == config_lib.load("configs/quickstart.py")
    assert config_lib.name("~/mine.py") == "mine"
    assert f"{tmp_path}/other.py" in refusal(path="~/other.py:x")


@pytest.mark.parametrize(
    ("argument", "named"),
    [("--confg.seed=1", "confg.seed"), ("extra", "'extra'"), ("-x", "'-x'"), ("--config.seed", "config.seed")],
)
def test_what_is_no_option_is_refused(argument, named):
    assert named in refusal(argument)


@settings(max_examples=150)
@given(field=st.sampled_from(sorted(OVERRIDES)), value=st.text(max_size=12))
@example("model.conv_1d", "((),)")
@example("model.conv_1d", "[[256]]")
@example("model.ds_1d", "{}")
@example("model.ds_1d", "(None,)")
@example("model.ds_1d", "(float('nan'),)")
@example("train.batch_size", "0x10")
@example("model.depth", "1_8")
@example("checkpoint_seconds", "1e999")
@example("data.dir", "\x00")
def test_any_text_for_any_field_is_read_or_refused_in_one_sentence(field, value):
    try:
        config = config_lib.load(DEFAULT, [f"--config.{field}={value}"])
    except UserError as error:
        assert "\n" not in str(error) and len(str(error)) < 500
    else:
        default = config_lib.flat(config_lib.load(DEFAULT))[field]
        assert type(config_lib.flat(config)[field]) is type(default)


def test_a_missing_file_is_named():
    for path in ("configs/nothing.py", "configs", ""):
        assert path in refusal(path=path)


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A user's folder, which is the current one and has a package of theirs called configs."""
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "__init__.py").write_text("raise ImportError('not for onebnet_jax')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "configs", raising=False)
    return tmp_path


@pytest.mark.parametrize("name", [pathlib.Path(path).stem for path in CONFIGS])
def test_a_shipped_config_is_found_by_name_from_any_folder(name, elsewhere):
    by_path = config_lib.load(str(ROOT / "configs" / f"{name}.py"))
    for path in (name, f"{name}.py", f"configs/{name}.py"):
        assert config_lib.load(path) == by_path and config_lib.name(path) == name


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


@pytest.mark.parametrize(
    ("path", "closest"),
    [("cifar10_typ2", "cifar10_typeI"), ("configs/imagenet_fp.py", "imagenet_fp32"), ("my/Quickstart", "quickstart")],
)
def test_an_unknown_name_is_refused_with_the_closest(path, closest, elsewhere):
    message = refusal(path=path)
    assert path in message and closest in message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "get_config"),
        ("def get_config(): pass", "None"),
        ("def get_config(): return 3", "int"),
        ("x = = 1", "invalid syntax"),
        ("import nothing_of_this_name", "nothing_of_this_name"),
        ("def get_config(): 1 / 0", "division"),
        (
            "from onebnet_jax.runs import schema\n\n\ndef get_config():\n    c = schema.get_config()\n"
            "    c.model.dept = 20\n    return c",
            "there is no field dept",
        ),
    ],
)
def test_a_file_that_is_no_config_is_refused(tmp_path, text, words):
    path = tmp_path / "broken.py"
    path.write_text(text)
    message = refusal(path=str(path))
    assert message.startswith(f"{path} is not a config: ") and words in message and len(message) < 300


def test_the_smallest_image_leaves_one_pixel_of_the_last_map():
    """No smaller one would have a pixel for each of the network's strides."""
    for path, others, least in [
        ("configs/imagenet_typeI.py", [], 32),
        ("configs/imagenet_fp32.py", ["--config.model.depth=34"], 32),
        ("configs/imagenet_xnornet.py", ["--config.model.stem=cifar"], 8),
        ("configs/imagenet_fp32.py", ["--config.model.depth=20"], 16),
    ]:
        assert str(least) in refusal(*others, f"--config.data.image_size={least - 1}", path=path)
        run = config_lib.experiment(config_lib.load(path, [*others, f"--config.data.image_size={least}"]))
        assert run.data.info.shape == (least, least, 3)
        *_, last = placed(run.structure, run.data.info.shape)
        assert last.output[:2] == (1, 1)


@pytest.mark.parametrize("row", numbers.TABLE1, ids=lambda row: row.label)
def test_a_config_takes_any_row_of_table_1_by_name(row):
    path = f"configs/imagenet.py:{row.label}"
    config = config_lib.load(path, ["--config.step2.epochs=3"])
    assert config_lib.experiment(config).structure.units == latency.table1_structure(row).units
    assert config.step2.epochs == 3 and config_lib.name(path) == f"imagenet_{row.label}"


def test_an_argument_that_is_not_taken_is_refused():
    for wrong in ("TypeIV", "typeII", "", "TypeII:TypeI"):
        message = refusal(path=f"configs/imagenet.py:{wrong}")
        assert repr(wrong) in message and all(row.label in message for row in numbers.TABLE1)
    assert "'TypeI'" in refusal(path="configs/quickstart.py:TypeI")
    assert "configs/nothing.py" in refusal(path="configs/nothing.py:TypeI")
    assert config_lib.name("configs/quickstart.py") == "quickstart"


def test_the_json_of_a_run_is_checked_as_a_config_is(tmp_path):
    fields = json.loads(config_lib.load(DEFAULT).to_json())
    path = tmp_path / "config.json"
    fields["model"]["depth"] = 19
    path.write_text(json.dumps(fields))
    with pytest.raises(UserError, match=f"^{path}: model.depth=19"):
        config_lib.load_json(path)
    del fields["model"]
    path.write_text(json.dumps(fields))
    with pytest.raises(UserError, match="config.json is not a config that this version understands: .*model"):
        config_lib.load_json(path)
    with pytest.raises(UserError, match="nowhere is not the work directory of a run"):
        config_lib.load_json(tmp_path / "nowhere" / "config.json")


def test_a_run_that_ignored_a_field_can_still_be_read(tmp_path):
    """It ran, before such fields were refused."""
    fields = json.loads(config_lib.load("configs/quickstart.py").to_json())
    fields["teacher"], fields["data"]["lighting"], fields["step1"]["epochs"] = "runs/x", 0.1, 3
    (tmp_path / "config.json").write_text(json.dumps(fields))
    config = config_lib.load_json(tmp_path / "config.json")
    assert (config.teacher, config.data.lighting, config.step1.epochs) == ("runs/x", 0.1, 3)
    assert config_lib.override(config, ["--config.data.dir=x"]).data.dir == "x"


def test_a_config_saved_before_a_field_existed_gets_its_default(tmp_path):
    config = config_lib.load("configs/quickstart.py", ["--config.seed=5"])
    old = json.loads(config.to_json())
    del old["model"]["weight_scale"], old["train"]["optimizer"], old["checkpoint_seconds"]
    (tmp_path / "config.json").write_text(json.dumps(old))
    assert config_lib.load_json(tmp_path / "config.json") == config
