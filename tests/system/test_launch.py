"""The scripts of launch/: what they say they would run, and what they run, with stand-ins for Python and clusters."""

import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from launch_project import PATIENCE, PYTHON, RECORD, ROOT, Project, executable

SCRIPTS = [*sorted((ROOT / "launch").glob("*.sh")), ROOT / ".ci" / "run"]
CONFIG, ZONE = "--config=configs/quickstart.py", "us-east5-b"
FLAGS = [
    "--config=configs/imagenet.py:TypeI",
    "--workdir=/shared/a run",
    "--config.model.conv_1d=(256, 512)",
    '--config.teacher=it\'s "quoted" $HOME `id` $(JOB_COMPLETION_INDEX) ${NAME} $$ \\ & ; * # {a: b}',
    "--config.data.dir=",
    "--config.name=two\nlines",
]
SETUP = ["setup.sh", ".venv-gpu", "requirements-train.txt", "jax[cuda12]"]
TRAINER = ["-m", "onebnet_jax.main"]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return Project(tmp_path_factory.mktemp("launch"))


def test_shellcheck():
    program = pathlib.Path(sysconfig.get_path("scripts")) / "shellcheck"
    subprocess.run([program, "--external-sources", *SCRIPTS], cwd=ROOT, check=True)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_form(script):
    text = script.read_text()
    sourced = script.name == "lib.sh"
    assert os.access(script, os.X_OK) != sourced
    assert sourced or re.search(r"^set -eu", text, re.MULTILINE)
    assert sourced or script.name == "run" or "# usage: " in text


@pytest.mark.parametrize(
    ("words", "environment"),
    [
        (["gpu", *FLAGS], {}),
        (["slurm", *FLAGS], dict(SLURM_JOB_ID="17", SLURM_GPUS_ON_NODE="4", STATUS="75")),
        (["kubernetes", "--image=a/b:1", "--claim=disk", *FLAGS], {}),
        (["tpu", "create", "name", ZONE, "v6e-16", "--spot"], {}),
        (["tpu", "fetch", "name", ZONE, "runs/a run", "here"], {}),
        (["tpu", "delete", "name", ZONE], {}),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else "",
)
def test_dry_run_prints_what_would_run(project, words, environment):
    printed = project.run(*words, "--dry-run", **{**environment, "PATH": str(project.bare)})
    assert project.calls == []
    status = int(environment.get("STATUS", 0))
    project.run(*words, status=status, **environment)
    calls = project.calls
    manifest = (project.root.parent / "calls.manifest").read_text() if words[0] == "kubernetes" else ""
    project.run(printed, **{**environment, "STATUS": "0"})
    assert [call for call in calls if call != ["nvidia-smi"]] == project.calls != []
    assert words[0] != "kubernetes" or (project.root.parent / "calls.manifest").read_text() == manifest


def test_gpu(project):
    project.run("gpu", *FLAGS, status=75, STATUS="75")
    assert project.calls == [SETUP, ["python", "JAX_PLATFORMS=cuda,cpu", *TRAINER, *FLAGS]]


@pytest.mark.parametrize(
    "flags",
    [
        ["--config", "configs/imagenet.py:TypeI"],
        ["--config=quickstart"],  # these three are found in configs/
        ["--config=imagenet:TypeI"],
        ["--config=imagenet.py:TypeI"],
        ["--config=configs/none.py", CONFIG],  # argparse takes the last
        ["--mode=eval", "--workdir=/shared/run"],
        ["--mode", "eval", "--workdir", "/shared/run"],
    ],
    ids=" ".join,
)
def test_flags_that_the_trainer_takes_are_passed_on(project, flags):
    project.run("gpu", *flags)
    assert project.calls[-1] == ["python", "JAX_PLATFORMS=cuda,cpu", *TRAINER, *flags]


def test_signal_reaches_the_trainer(tmp_path):
    project = Project(tmp_path)
    trainer = "#!/bin/bash\ntrap 'exit 75' TERM\necho begun\nfor i in {1..3000}; do sleep 0.1; done\n"
    executable(project.root / ".venv-gpu" / "bin" / "python", trainer)
    with project.start("gpu", CONFIG) as process:
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=PATIENCE) == 75


@pytest.mark.parametrize(
    ("environment", "options"),
    [
        ({}, ["JAX_LOCAL_DEVICE_IDS=0"]),
        (dict(SLURM_NTASKS_PER_NODE="1", SLURM_GPUS_ON_NODE="4"), ["JAX_LOCAL_DEVICE_IDS=0,1,2,3"]),
        (dict(SLURM_NTASKS_PER_NODE="4", SLURM_GPUS_ON_NODE="4"), []),  # JAX gives each process its GPU
    ],
)
def test_slurm_job(project, environment, options):
    project.run("slurm", *FLAGS, SLURM_JOB_ID="17", SLURM_CPUS_PER_TASK="8", **environment)
    setup, srun, python = project.calls
    assert setup == SETUP and python == ["python", "JAX_PLATFORMS=cuda,cpu", *TRAINER, *FLAGS]
    command = ["env", "JAX_PLATFORMS=cuda,cpu", *options, ".venv-gpu/bin/python", *TRAINER, *FLAGS]
    assert srun == ["srun", "--kill-on-bad-exit=0", "--cpus-per-task=8", *command]


@pytest.mark.parametrize("status", [0, 1, 2, 75])
def test_slurm_job_queues_itself_again_after_an_interruption_only(project, status):
    project.run("slurm", CONFIG, status=status, STATUS=str(status), SLURM_JOB_ID="17")
    assert (["scontrol", "requeue", "17"] in project.calls) == (status == 75)


def test_slurm_directives_stand_where_sbatch_reads_them():
    head = (ROOT / "launch" / "slurm.sh").read_text().split("set -euo pipefail")[0].splitlines()
    assert all(line.startswith("#") for line in head)
    directives = {line.split()[1] for line in head if line.startswith("#SBATCH ")}
    assert {"--requeue", "--signal=TERM@120", "--open-mode=append", "--ntasks-per-node=1"} <= directives


def manifest_of(project, *flags):
    """The Service and the Job that kubectl was given."""
    project.run("kubernetes", "--image=registry:5000/a/b:1", "--claim=disk", *flags)
    assert project.calls == [["kubectl", "apply", "-f", "-"]]
    return list(yaml.safe_load_all((project.root.parent / "calls.manifest").read_text()))


def expand(argument, **variables):
    """What Kubernetes makes of an argument."""
    values = {"$$": "$", **{f"$({name})": value for name, value in variables.items()}}
    return re.sub(r"\$\$|\$\(\w+\)", lambda match: values.get(match[0], match[0]), argument)


def test_kubernetes_job(project):
    service, job = manifest_of(project, "--name=onebnet", "--processes=3", "--gpus=8", *FLAGS)
    spec, pod = job["spec"], job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    arguments = [expand(argument, JOB_COMPLETION_INDEX="2") for argument in container["args"]]
    coordinator = f"--coordinator={job['metadata']['name']}-0.{pod['subdomain']}:{service['spec']['ports'][0]['port']}"
    assert arguments == [*FLAGS, coordinator, "--processes=3", "--process=2"]
    assert container["command"] == ["python", *TRAINER] and container["image"] == "registry:5000/a/b:1"
    assert container["resources"]["limits"] == {"nvidia.com/gpu": 8}
    assert container["env"] == [{"name": "JAX_PLATFORMS", "value": "cuda,cpu"}]
    assert (service["kind"], job["kind"], spec["completionMode"]) == ("Service", "Job", "Indexed")
    assert spec["completions"] == spec["parallelism"] == 3
    assert service["metadata"]["name"] == pod["subdomain"] and service["spec"]["clusterIP"] == "None"
    assert service["spec"]["selector"] == {"batch.kubernetes.io/job-name": job["metadata"]["name"]}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert {mount["mountPath"]: volumes[mount["name"]] for mount in container["volumeMounts"]} == {
        "/shared": {"name": "shared", "persistentVolumeClaim": {"claimName": "disk"}},
        "/dev/shm": {"name": "memory", "emptyDir": {"medium": "Memory"}},
    }


def test_kubernetes_starts_again_after_an_interruption(project):
    _, job = manifest_of(project, CONFIG, "--workdir=/shared/run", "--processes=2", "--gpus=0")
    spec, pod = job["spec"], job["spec"]["template"]["spec"]
    actions = {}
    for rule in reversed(spec["podFailurePolicy"]["rules"]):
        if "onExitCodes" in rule:
            assert rule["onExitCodes"]["containerName"] == pod["containers"][0]["name"]
            actions |= dict.fromkeys(rule["onExitCodes"]["values"], rule["action"])
    assert actions == {2: "FailJob", 75: "Ignore"} and spec["backoffLimit"] == 20
    assert pod["restartPolicy"] == "Never" and pod["terminationGracePeriodSeconds"] >= 120
    assert pod["containers"][0]["env"] == [{"name": "JAX_PLATFORMS", "value": "cpu"}]


TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Zl", "Zp"], include_characters="\n\t"))


@settings(max_examples=15)
@given(st.lists(TEXT.map("--config.name={}".format), max_size=3))
def test_any_text_arrives(project, texts):
    printed = project.run("gpu", CONFIG, "--dry-run", *texts)
    assert shlex.split(printed)[-len(texts) - 1 :] == [CONFIG, *texts]
    _, job = manifest_of(project, CONFIG, "--workdir=/shared/run", *texts)
    arguments = job["spec"]["template"]["spec"]["containers"][0]["args"]
    assert [expand(argument) for argument in arguments[2:-3]] == texts


def test_tpu_from_creation_to_deletion(tmp_path):
    project = Project(tmp_path)
    host, zone = project.home / "onebnet_jax", f"--zone={ZONE}"
    tpu = ["gcloud", "compute", "tpus", "tpu-vm"]
    place = ["name", ZONE]

    project.run("tpu", "create", *place, "v5litepod-16", "--spot", "--network=a b")
    options = ["--accelerator-type=v5litepod-16", "--version=v2-alpha-tpuv5-lite", "--spot", "--network=a b"]
    assert project.calls == [[*tpu, "create", "name", *options, zone]]

    project.run("tpu", "install", *place, "10.0.0.2:/share")
    scp, ssh, *on_host = project.calls
    assert scp == [*tpu, "scp", "runs/onebnet_jax.tar.gz", "name:", "--worker=all", zone]
    assert ssh[:7] == [*tpu, "ssh", "name", "--worker=all"] and ssh[-1] == zone
    assert {"configs", "launch", "onebnet_jax", "requirements-train.txt"} <= {path.name for path in host.iterdir()}
    assert on_host[-1] == ["setup.sh", ".venv-tpu", "requirements-train.txt", "jax[tpu]", "-r", "requirements-gcs.txt"]
    assert ["mountpoint", "-q", "/shared"] in on_host  # and it is one already

    executable(project.tools / "mountpoint", "#!/bin/sh\nexit 1")
    project.run("tpu", "install", *place, "10.0.0.2:/share")
    assert ["sudo", "mount", "-t", "nfs", "10.0.0.2:/share", "/shared"] in project.calls

    executable(host / ".venv-tpu" / "bin" / "python", PYTHON)
    project.run("tpu", "run", *place, *FLAGS, status=75, STATUS="75")
    ssh, python = project.calls
    assert "--worker=all" in ssh and python == ["python", "JAX_PLATFORMS=tpu,cpu", *TRAINER, *FLAGS]
    printed = project.run("tpu", "run", *place, *FLAGS, "--dry-run")
    assert shlex.split(printed) == ssh

    project.run("tpu", "stop", *place, status=2)
    assert "Nothing is running" in project.stderr
    project.run("tpu", "fetch", *place, "runs/quickstart", "here")
    project.run("tpu", "fetch", *place, "/shared/run", "here")
    assert project.calls == [[*tpu, "scp", "name:/shared/run", "here", "--recurse", zone]]
    project.run("tpu", "delete", *place)
    assert project.calls == [[*tpu, "delete", "name", zone]]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["gpu"], "Name a config"),
        (["gpu", "--config"], "Name a config"),
        (["gpu", "--config=configs/none.py"], "There is no config configs/none.py"),
        (["gpu", "--config", "configs/none.py:TypeI"], "There is no config configs/none.py:TypeI"),
        (["gpu", "--config=none"], "There is no config none"),
        (["gpu", CONFIG, "--config=configs/none.py"], "There is no config configs/none.py"),
        (["slurm", CONFIG], "Submit this script: sbatch"),
        (["kubernetes", CONFIG], "Name the image"),
        (["kubernetes", CONFIG, "--image=a"], "Name a claim"),
        (["kubernetes", CONFIG, "--image=a", "--claim=c"], "must be on the shared volume"),
        (["kubernetes", CONFIG, "--image=a", "--claim=c", "--workdir=runs/x"], "must be on the shared volume"),
        (["kubernetes", CONFIG, "--image=a b", "--claim=c"], "Name the image"),
        (["kubernetes", CONFIG, "--image=a", "--claim=c", "--name=A"], "--name must be small letters"),
        (["kubernetes", CONFIG, "--image=a", "--claim=c", "--processes=0"], "--processes must be a number from 1"),
        (["kubernetes", CONFIG, "--image=a", "--claim=c", "--gpus=all"], "--gpus must be a number from 0, not 'all'"),
        (["kubernetes", CONFIG, "--image=a", "--claim=c", "--gpus=08"], "--gpus must be a number from 0, not '08'"),
        (["kubernetes", "--image=a", "--claim=c"], "Name a config"),
        (["tpu", "create", "name"], "Name a command, a TPU and a zone"),
        (["tpu", "make", "name", ZONE], "'make' is none of create, install"),
        (["tpu", "create", "--spot", ZONE, "v6e-8"], "'--spot' is no name for a TPU"),
        (["tpu", "create", "name", "--spot", ZONE, "v6e-8"], "'--spot' is no zone"),
        (["tpu", "create", "name", "v6e-8", ZONE], "'v6e-8' is no zone"),
        (["tpu", "create", "name", ZONE, "a100"], "'a100' is no TPU type"),
        (["tpu", "install", "name", ZONE, "share"], "'share' must be HOST:/SHARE"),
        (["tpu", "run", "name", ZONE], "Name a config"),
        (["tpu", "fetch", "name", ZONE, "runs/x"], "Name a work directory on the TPU and a folder here"),
        (["background"], "Name the command to run"),
        (["background", "--stop"], "Nothing is running"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_arguments(project, words, sentence):
    project.run(*words, status=2)
    assert re.fullmatch(f"error: .*{re.escape(sentence)}.*\n", project.stderr) and project.calls == []


def test_submitted_from_another_folder(project):
    project.run("slurm", CONFIG, status=2, SLURM_JOB_ID="17", SLURM_SUBMIT_DIR=str(project.home))
    assert project.stderr == f"error: Submit from the folder of onebnet_jax, not from {project.home}.\n"


@pytest.mark.parametrize(
    ("tool", "words"),
    [
        ("nvidia-smi", ["gpu", CONFIG]),
        ("srun", ["slurm", CONFIG]),
        ("kubectl", ["kubernetes", CONFIG, "--image=a", "--claim=c", "--workdir=/shared/x"]),
        ("gcloud", ["tpu", "delete", "name", ZONE]),
    ],
)
def test_missing_tool(project, tool, words):
    project.run(*words, status=2, PATH=str(project.bare), SLURM_JOB_ID="17")
    assert project.stderr.startswith(f"error: There is no {tool} here: ") and project.stderr.count("\n") == 1


WITH_HELP = [
    "quickstart",
    "choose",
    "background",
    "gpu",
    "slurm",
    "kubernetes",
    "tpu",
    "rpi4_benchmark",
    "test",
    "docs",
]


@pytest.mark.parametrize("script", WITH_HELP)
def test_help(project, script):
    before = set(project.root.iterdir())
    printed = project.run(f"cd {str(project.root)!r}/launch; ./{script}.sh --help")
    assert f"launch/{script}.sh" in printed and "#" not in printed and "set -" not in printed
    assert project.calls == [] and set(project.root.iterdir()) == before


def test_a_choice_trains_three_networks_and_compares_their_files(project):
    executable(project.root / ".venv" / "bin" / "python", PYTHON)
    project.run("choose", "my photos", "--config.seed=1", WORKDIR="w")
    setup, *commands = project.calls
    assert setup == ["setup.sh", ".venv", "requirements.txt"]
    photos = "--config.data.dir=my photos"
    assert ["|".join(command[command.index("onebnet_jax") + 1 :]) for command in commands] == [
        f"train|--config=folder|{photos}|--workdir=w/1bit|--config.seed=1",
        f"train|--config=folder:fp32|{photos}|--workdir=w/fp32|--config.seed=1",
        f"train|--config=folder:fp32|{photos}|--workdir=w/fp32_narrow|--config.model.width_multiplier=0.375|--config.seed=1",
        "convert|--workdir=w/1bit|--native=w/1bit.onb",
        "convert|--workdir=w/fp32|--int8=w/int8.tflite",
        "convert|--workdir=w/fp32_narrow|--int8=w/int8_narrow.tflite",
        "benchmark|w/1bit.onb|w/int8.tflite|w/int8_narrow.tflite",
    ]
    for words in ([], ["--config.seed=1", "photos"]):
        project.run("choose", *words, status=2)
        assert project.stderr.startswith("error: Name the folder of photographs first") and project.calls == []


def test_the_quick_start_goes_from_training_to_the_times_of_its_files(project):
    executable(project.root / ".venv" / "bin" / "python", PYTHON)
    project.run("quickstart", "--config.seed=1", WORKDIR="a folder")
    setup, *commands = project.calls
    assert setup == ["setup.sh", ".venv", "requirements.txt"]
    assert ["|".join(command[command.index("onebnet_jax") + 1 :]) for command in commands] == [
        "train|--config=quickstart|--workdir=a folder|--config.seed=1",
        "evaluate|--workdir=a folder",
        "compare|a folder|--plot=a folder/curves.png",
        "convert|--workdir=a folder|--output=a folder/model.tflite|--native=a folder/model.onb",
        "agree|a folder/model.tflite|--native=a folder/model.onb|--images=200",
        "benchmark|a folder/model.onb|a folder/model.tflite",
    ]


def test_relative_paths_start_where_the_usage_says(project):
    for script in ("background", "gpu", "kubernetes", "quickstart", "slurm", "tpu"):
        usage = (ROOT / "launch" / f"{script}.sh").read_text().partition("\nset -")[0].lower()
        assert "folder of onebnet_jax" in usage and "relative paths start" in usage
    path = shlex.quote(str(project.root / "launch" / "gpu.sh"))
    project.run(f"cd /; {path} {CONFIG}")
    assert project.calls[-1][-1] == CONFIG
    assert project.run(f"cd /; {path.replace('gpu', 'background')} pwd") == f"{project.root}\n"
    assert "Relative paths start at the current folder" in (ROOT / "launch" / "rpi4_benchmark.sh").read_text()


def test_setup_installs_once(tmp_path):
    python = tmp_path / "python"
    executable(tmp_path / "record", RECORD)
    executable(python, f'#!/bin/sh\n[ $1 = -c ] && exit\nmkdir -p "$3/bin" && cp {tmp_path}/record "$3/bin/python"\n')
    (tmp_path / "requirements.txt").write_text("numpy\n")
    (tmp_path / "requirements-train.txt").write_text("")
    environment = {**os.environ, "PYTHON": str(python), "CALLS": str(tmp_path / "calls")}
    few, more = ["requirements-train.txt"], ["requirements.txt", "jax[x]"]
    for packages in (few, more, few, more):
        command = [ROOT / "launch" / "setup.sh", "new venv", *packages]
        subprocess.run(command, cwd=tmp_path, env=environment, check=True)
    words = (tmp_path / "calls").read_text().split("\0")[1:-1]
    pip = ["python", "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
    # What finds by itself what is built, each after its number of words.
    builds = [word for name in ("build", "runtime") for word in ("3", "python", "-m", f"onebnet_jax.native.{name}")]
    assert words == [*pip, "-r", *few, *builds, "9", *pip, "-r", *more, *builds, *builds, *builds]
    (tmp_path / "new venv").rename(tmp_path / "moved")
    subprocess.run([tmp_path / "moved" / "bin" / "onebnet", "cost"], cwd="/", env=environment, check=True)
    assert (tmp_path / "calls").read_text().split("\0")[-5:-1] == ["python", "-m", "onebnet_jax", "cost"]


def test_a_copied_environment_names_its_own_folder(tmp_path):
    first, second = tmp_path / "first", tmp_path / "a copy"
    first.mkdir()
    (first / "requirements.txt").write_text("")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", ".venv"], cwd=first, check=True)
    executable(first / ".venv" / "bin" / "a program", f"#!{first}/.venv/bin/python\n")
    nothing = subprocess.run("cksum", stdin=subprocess.DEVNULL, check=True, text=True, stdout=-1).stdout.strip()
    (first / ".venv" / "installed").write_text(f"{nothing} requirements.txt\n")
    (first / "onebnet_jax" / "native").mkdir(parents=True)
    for name in ("build", "runtime"):
        (first / "onebnet_jax" / "native" / f"{name}.py").touch()
    shutil.copytree(first, second, symlinks=True)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    for place, told in ((first, ""), (second, f"{second}/.venv was made as {first}/.venv"), (second, "")):
        command = [ROOT / "launch" / "setup.sh", ".venv", "requirements.txt"]
        done = subprocess.run(
            command, cwd=place, env=os.environ | {"PYTHON": sys.executable}, check=True, text=True, stdout=-1
        )
        assert done.stdout.startswith(told) and bool(done.stdout) == bool(told)
        asks = [place / ".venv" / "bin" / "python", "-c", "import onebnet_jax; print(*onebnet_jax.__path__)"]
        found = subprocess.run(asks, cwd="/", env=environment, check=True, text=True, stdout=-1)
        assert found.stdout == f"{place}/onebnet_jax\n"  # by programs in any folder
    third = shutil.copytree(second, tmp_path / "third", symlinks=True)
    (third / "requirements.txt").write_text("# more\n")
    executable(third / "python", f'#!/bin/sh\n[ "$1" = -m ] && exit 9\nexec {sys.executable} "$@"\n')
    done = subprocess.run(command, cwd=third, env=os.environ | {"PYTHON": str(third / "python")}, capture_output=True)
    assert done.returncode == 9  # it would install now
    for place, made in ((second, first), (third, second)):
        for path in ((place / ".venv" / "bin") / name for name in ("a program", "activate")):
            assert f"{place}/.venv" in path.read_text() and f"{made}/" not in path.read_text()
    assert f"{first}/.venv" in (first / ".venv" / "bin" / "activate").read_text()


def test_without_locks_nothing_is_taken_for_a_running_command(project):
    executable(project.tools / "flock", "#!/bin/sh\necho 'flock: 9: Function not implemented' >&2\nexit 71\n")
    project.run("background", "echo", "begun", status=2)
    (project.tools / "flock").unlink()
    assert "has no locks" in project.stderr


def test_the_newest_versions_are_looked_for_each_time(project):
    folder = project.root / ".venv-newest" / "bin"
    executable(folder / "python", PYTHON)
    for _ in range(2):
        project.run("test", "--newest", "-k", "a test")
        setup, pip, pytest_call = project.calls
        assert setup == ["setup.sh", ".venv-newest", ".venv-newest/requirements.txt"]
        assert pip[2:5] == ["-m", "pip", "install"]
        assert pip[-3:] == ["--upgrade", "-r", ".venv-newest/requirements.txt"]
        assert pytest_call[2:4] == ["-m", "pytest"] and pytest_call[-2:] == ["-k", "a test"]
    wanted = (folder.parent / "requirements.txt").read_text().split("\n")
    assert any(line.startswith("jax ") for line in wanted) and not any("==" in line for line in wanted)


def test_image_has_what_the_trainer_needs():
    lines = [shlex.split(line) for line in (ROOT / "launch" / "Dockerfile").read_text().splitlines() if line[0] != "#"]
    copied = {word for line in lines if line[0] == "COPY" for word in line[1:-1]}
    assert copied == {"requirements-train.txt", "configs", "onebnet_jax"} and all(
        (ROOT / name).exists() for name in copied
    )
    (install,) = [line for line in lines if line[0] == "RUN"]
    assert install[-2:] == ["requirements-train.txt", SETUP[-1]]
