"""Any command line runs or ends with status 2 and one sentence, before anything is written."""

import pathlib
import signal
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onebnet_jax import errors, main
from onebnet_jax.commands import (
    agree,
    benchmark,
    compare,
    convert,
    data_benchmark,
    figure,
    predict,
    report,
    teacher,
    train_benchmark,
)
from onebnet_jax.commands import cost as cost_command

ROOT = pathlib.Path(__file__).parents[2]
CONFIG = str(ROOT / "configs" / "quickstart.py")
TEACHER = str(ROOT / "configs" / "imagenet_teacher.py")
LONG = "x" * 300  # longer than a file's name can be
NO_NUMBER = ("x", "", "1.5", "0x1", "1e3", "\u2028")
COUNTS = (*NO_NUMBER, "0", "-1", "nan")
OVERRIDES = (
    "zzz=1",
    "step2.epochs=2",
    "teacher=x",
    "seed",
    "seed=x",
    "model.depth=7",
    "stages=([],)",
    "train.epochs=nan",
    "model={}",
    "",
    "\udcff=1",
)
FILES = {
    "a_file": b"text",
    "m.tflite": b"TFL3TFL3",
    "m.json": b'{"sha256": 3}',
    "empty/notes.txt": b"",
    "logs/a.log": b"",
}

# For each command: the function, what it needs, and for each option values that cannot be. A name without dashes is
# that of no option, its value a word on its own.
COMMANDS = {
    "main": (
        main.main,
        [f"--config={CONFIG}"],
        {
            "--config": ("nothing.py", "", LONG, "a_file", "empty", f"{CONFIG}:x"),
            "--workdir": ("a_file", "a_file/x", LONG),
            "--mode": ("", "test"),
            "--checkpoint": ("", "first", "last"),  # of an evaluation
            "--coordinator": ("", "here", "here:x", "here:0", "here:70000", ":1", "1.2.3.4:5"),
            "--processes": (*NO_NUMBER, "0"),
            "--config.train.batch_size": ("0", "6", "4004", "-4"),
            "--config.data.dir": ("nowhere", LONG),
            "--config.data.name": ("mnist", "imagenet2012", "folder"),
            "--config.train.teacher_weight": ("1", "-1"),
            "--config.train.label_weight": ("0",),
            "--config.step1.epochs": ("2",),
            "--config.teacher": ("empty",),
        },
    ),
    "main for an evaluation": (
        main.main,
        ["--mode=eval", "--workdir=empty"],
        {
            "--workdir": ("nowhere", "a_file", "", LONG),
            "--checkpoint": ("", "first"),
            "--stage": ("step1",),
            "--change-config": ("3",),
            "--config.model.depth": ("8",),
        },
    ),
    "compare": (compare.main, ["empty"], {"word": ("nothing", "", LONG, "a_file"), "--markdown": ("3",)}),
    "cost": (
        cost_command.main,
        [CONFIG],
        {
            "word": ("nothing.py", "", LONG, "empty", "a_file", f"{CONFIG}:x"),
            "--plot": ("x.zzz", "nowhere/x.png", f"{LONG}.png"),
            "--layers": ("3",),
            "--noconfig.data.flip": ("",),
        },
    ),
    "figure": (
        figure.main,
        ["2", f"--config={CONFIG}", "--output=x.png"],
        {
            "--config": ("nothing.py", "", LONG, "empty"),
            "--workdir": ("empty", LONG),  # beside --config
            "--unit": ("nothing", "stem", "stage1_block1,stage2_block1"),
            "--output": ("x", "x.zzz", "nowhere/x.png", f"{LONG}.png", "empty"),
            "--images": COUNTS,
            "--checkpoint": ("", "first"),
            "word": ("8", "x"),
        },
    ),
    "figure of a run": (figure.main, ["3", "--output=x.png"], {"--workdir": ("", "empty", "nowhere", "a_file", LONG)}),
    "report": (
        report.main,
        ["--output=x"],
        {
            "word": ("nothing", "", "empty", LONG, "a_file"),
            "--output": ("a_file", "a_file/x", LONG),
            "--logs": ("", "empty", "nowhere", LONG, "logs"),
            "--network": ("", "empty", "nowhere", "a_file", LONG),
            "--files": ("3",),
        },
    ),
    "convert": (
        convert.main,
        [f"--config={CONFIG}", "--output=x.tflite"],
        {
            "--config": ("nothing.py", "", LONG),
            "--workdir": ("empty", LONG),  # beside --config
            "--output": ("", "x", "nowhere/x.tflite", f"{LONG}.tflite", "empty"),
            "--keras": ("", "x", "nowhere/x.keras", f"{LONG}.keras"),
            "--checkpoint": ("first",),
            "--raw-input": ("3",),
        },
    ),
    "agree": (
        agree.main,
        ["m.tflite"],
        {
            "--images": COUNTS,
            "--workdir": ("empty", LONG),
            "--report": ("x", "nowhere/x.json", f"{LONG}.json"),
            "word": ("second",),
        },
    ),
    "predict": (predict.main, ["m.tflite", "a_file"], {"word": ("nothing", "", LONG, "empty"), "--images": COUNTS}),
    "benchmark": (
        benchmark.main,
        ["m.tflite"],
        {
            "--logs": ("empty", LONG),  # beside a model
            "--threads": COUNTS,
            "--runs": COUNTS,
            "--repetitions": COUNTS,
            "--kernel": ("", "fast"),
            "word": ("nothing", "", "empty", LONG, "a_file"),
        },
    ),
    "benchmark of logs": (benchmark.main, [], {"--logs": ("", "empty", "nowhere", "a_file", LONG, "logs")}),
    "teacher": (
        teacher.main,
        [f"--config={TEACHER}", "--weights=a_file"],
        {
            "--config": ("nothing.py", "", LONG, CONFIG),
            "--weights": ("", "nothing", "empty", LONG, "m.safetensors"),
            "--output": ("empty", "a_file", LONG),
            "--config.model.family": ("onebnet", "zzz"),
        },
    ),
    "data_benchmark": (
        data_benchmark.main,
        ["--dir=empty"],
        {
            "--source": ("", "download", "zzz"),
            "--dir": ("nowhere", LONG, "a_file"),
            "--batch-size": (*COUNTS, "9" * 12),
            "--image-size": (*COUNTS, "9999"),
            "--batches": (*COUNTS, "9" * 12),
            "--threads": (*NO_NUMBER, "-1"),
            "--step-images-per-second": ("x", "", "-1", "nan", "inf"),
        },
    ),
    "data_benchmark on new images": (
        data_benchmark.main,
        ["--dir=empty", "--generate=8"],
        {
            "--dir": ("", "a_file", "a_file/x", LONG),
            "--generate": (*NO_NUMBER, "-1", "nan", "9" * 12),
            "--source": ("tfds", "zzz"),
        },
    ),
    "train_benchmark": (
        train_benchmark.main,
        [CONFIG],
        {"--rounds": COUNTS, "--config.train.batch_size": ("0", "6"), "word": ("nothing.py", "", LONG)},
    ),
}


@st.composite
def arguments(draw, needed, bad):
    """What the command needs, with one or two options that cannot be."""
    wrong = {"--zzz": ("", "1"), "--flagfile": ("a_file",), "-": ("",)} | bad
    if any(CONFIG in word or TEACHER in word for word in needed):
        wrong["--config."] = OVERRIDES
    chosen = draw(st.lists(st.sampled_from(sorted(wrong)), min_size=1, max_size=2, unique=True))
    words = []
    for name in chosen:
        value = draw(st.sampled_from(wrong[name]))
        words.append(value if name == "word" else f"{name}{value}" if name in ("--config.", "-") else f"{name}={value}")
    kept = [word for word in needed if word.partition("=")[0] not in chosen]
    return draw(st.permutations([*kept, *words]))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name, content in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "nowhere"))
    return tmp_path


@pytest.mark.parametrize("name", COMMANDS)
def test_bad_arguments_end_with_status_2_and_one_sentence(name, folder, capfd):
    function, needed, bad = COMMANDS[name]
    before = sorted(folder.rglob("*"))

    @settings(max_examples=60)
    @given(arguments(needed, bad))
    def refuses(words):
        capfd.readouterr()
        try:
            function(list(words))
            status = 0
        except (errors.UserError, errors.Interrupted) as error:
            status = errors.report(error)
        except SystemExit as end:
            status = end.code
        out, err = capfd.readouterr()
        lines = err.rstrip("\n").split("\n")
        assert status == 2, (words, out[-300:])
        assert lines[-1].startswith("error: ") or (lines[0].startswith("usage: ") and "error: " in lines[-1])
        assert lines[0].startswith("usage: ") or len(lines) == 1
        assert len(lines[-1].partition("error: ")[2]) > 15
        assert sorted(folder.rglob("*")) == before

    refuses()


@pytest.mark.usefixtures("any_numpy")
@pytest.mark.parametrize(
    ("function", "words"),
    [
        (main.main, ["--config=~/none.py"]),
        (main.main, ["--mode=eval", "--workdir=~/none"]),
        (main.main, [f"--config={CONFIG}", "--workdir=~/a_file"]),
        (main.main, [f"--config={CONFIG}", "--config.train.teacher_weight=1", "--config.teacher=~/none"]),
        (compare.main, ["~/none"]),
        (convert.main, ["--workdir=~/none", "--output=x.tflite"]),
        (convert.main, [f"--config={CONFIG}", "--output=~/none/x.tflite"]),
        (convert.main, [f"--config={CONFIG}", "--output=x.tflite", "--keras=~/none/x.keras"]),
        (agree.main, ["~/none.tflite"]),
        (agree.main, ["m.tflite", "--report=~/none/x.json"]),
        (benchmark.main, ["~/none.tflite"]),
        (benchmark.main, ["--logs=~/none"]),
        (teacher.main, [f"--config={TEACHER}", "--weights=~/none.pth"]),
        (teacher.main, [f"--config={TEACHER}", "--weights=m.tflite", "--output=~/a_file"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else value.__module__.rpartition(".")[2],
)
def test_a_tilde_is_the_home_folder(function, words, folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder))
    with pytest.raises(errors.UserError) as error:
        function(words)
    (typed,) = [word.rpartition("=")[2] for word in words if "~" in word]
    assert typed.replace("~", str(folder)) in str(error.value)


def test_a_command_stopped_at_once_leaves_what_it_printed():
    program = """
def main(words):
    print("half")
    raise KeyboardInterrupt

from onebnet_jax import errors
errors.cli(main)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout, done.stderr, done.returncode) == ("half\n", "interrupted\n", -signal.SIGINT)


def test_output_that_cannot_be_written_is_told():
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "onebnet_jax", "--help"]
        done = subprocess.run(command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: Standard output or a file cannot be written: No space left on device")


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_command_whose_output_is_closed_does_its_work(closed):
    """And what it starts has all three."""
    script = "import subprocess, sys; from onebnet_jax import errors; sys.argv[1:] = []; "
    script += "errors.cli(lambda _: sys.exit(subprocess.run(['bash', '-c', ': >&0 >&1 >&2']).returncode))"
    for words in ("-m onebnet_jax cost quickstart", f'-c "{script}"'):
        done = subprocess.run(
            ["bash", "-c", f"{sys.executable} {words} {closed}"], cwd=ROOT, capture_output=True, text=True
        )
        assert done.returncode == 0 and not done.stderr
