"""launch/rpi4_benchmark.sh against a stand-in for the Raspberry Pi: a fake ssh, and a real one to this machine."""

import hashlib
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest

ROOT = pathlib.Path(__file__).parents[2]
SCRIPT = ROOT / "launch" / "rpi4_benchmark.sh"
SSHD, SFTP = pathlib.Path("/usr/sbin/sshd"), pathlib.Path("/usr/lib/openssh/sftp-server")

# ssh and scp on the user's machine: the host is a folder, its programs come from another.
FAKE_SSH = """#!/bin/bash
echo "ssh $*" >> "$PI/calls"
while [[ $1 == -* ]]; do
    [[ $1 != -O ]] || exit 0
    shift 2
done
shift
cd "$PI/home" && PATH=$PI/bin:$PATH exec sh -c "$*"
"""
FAKE_SCP = """#!/bin/bash
echo "scp $*" >> "$PI/calls"
while [[ $1 == -* ]]; do [[ $1 == -q ]] && shift || shift 2; done
for last in "$@"; do :; done
exec cp "${@:1:$#-1}" "$PI/home/${last##*:}"
"""

# Programs of the Pi. sysfs and the device tree are reached through cat.
PI_PROGRAMS = {
    "uname": "case $1 in -m) echo aarch64 ;; -r) echo 6.1.31-MANJARO-ARM-RPI ;; esac",
    "getconf": 'case $1 in LONG_BIT) echo 64 ;; GNU_LIBC_VERSION) echo "glibc 2.37" ;; esac',
    "vcgencmd": """case $1 in
measure_clock) echo "frequency(48)=1500398464" ;;
get_throttled) echo "throttled=0x0" ;;
esac""",
    "cat": """case $1 in
/proc/device-tree/model) printf 'Raspberry Pi 4 Model B Rev 1.4\\0' ;;
*/scaling_max_freq) echo 1800000 ;;
*/scaling_cur_freq) echo 600000 ;;
*/scaling_governor) echo ondemand ;;
*/thermal_zone0/temp) echo 48686 ;;
*/get_throttled) echo 50000 ;;
*) exec /bin/cat "$@" ;;
esac""",
}

# LCE's program: refuses what it cannot read, and takes a time that depends on threads and kernel.
PROGRAM = """#!/bin/sh
threads=1 runs=50 us=90000
for flag; do case $flag in
    --graph=*) graph=${flag#*=} ;;
    --num_threads=*) threads=${flag#*=} ;;
    --num_runs=*) runs=${flag#*=} ;;
    --use_indirect_bgemm=true) us=80000 ;;
    --min_secs=0 | --use_xnnpack=true | --warmup_runs=*) ;;
    *) echo "Unconsumed cmdline flags: $flag"; exit 1 ;;
esac; done
[ -s "$graph" ] || { echo "Could not open '$graph'."; exit 1; }
us=$((us / threads))
cat >&2 <<END
INFO: STARTING!
INFO: Graph: [$graph]
INFO: Loaded model $graph
INFO: The input model file size (MB): 5.27433
INFO: Initialized session in 5.373ms.
INFO: Running benchmark for at least 1 iterations and at least 0.5 seconds but terminate if exceeding 150 seconds.
INFO: count=3 first=206847 curr=207657 min=174807 max=207657 avg=196437 std=15298 p5=174807 median=206847 p95=207657

INFO: Running benchmark for at least $runs iterations and at least 0 seconds but terminate if exceeding 150 seconds.
INFO: count=$runs first=$us curr=$us min=$((us - 500)) max=$((us + 900)) avg=$us std=465 p5=$us median=$us p95=$us

INFO: Inference timings in us: Init: 5373, First inference: 206847, Warmup (avg): 196437, Inference (avg): $us
INFO: Memory footprint delta from the start of the tool (MB): init=1.47266 overall=30.4531
END
"""
# The native engine's.
ENGINE = """#!/bin/sh
[ -s "$1" ] || { echo "error: $1: cannot be read."; exit 2; }
for threads in 1 1 1 4 4 4; do
    echo "$1, neon, threads $threads, ms: median 9.0, mean 9.1, std 0.1, min 9.0, max 9.5, init 4, first 12.0, count 50"
done
"""
GLIBC = """#!/bin/sh
echo "./lce_benchmark_model: /lib/aarch64-linux-gnu/libc.so.6: version \\`GLIBC_2.34' not found" >&2; exit 1
"""
TENSORFLOW = """#!/bin/sh
echo "INFO: STARTING!"; echo "ERROR: Encountered unresolved custom op: LceQuantize."; exit 1
"""

MODEL = b"\x1c\0\0\0TFL3 and a graph"  # as all .tflite files begin
TYPE_II = {  # what of its card the report reads
    "sha256": hashlib.sha256(MODEL).hexdigest(),
    "source": {"untrained": True, "seed": 0},
    "config": {},
    "input": {"shape": [1, 224, 224, 3]},
    "classes": [],
    "raw_input": False,
    "folded": True,
    "structure": dict(family="onebnet", stem="imagenet", num_classes=1000, conv_1d=[256, 512], ds_1d=[256, 512]),
    "binarization": {"activations": True, "weights": True},
}


def executable(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text if text.startswith("#!") else f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@pytest.fixture
def pi(tmp_path):
    """A folder with the Pi (home, bin), the user's ssh and scp (here), a program, and a model with its card."""
    for name, text in PI_PROGRAMS.items():
        executable(tmp_path / "bin" / name, text)
    (tmp_path / "home").mkdir()
    executable(tmp_path / "here" / "ssh", FAKE_SSH)
    executable(tmp_path / "here" / "scp", FAKE_SCP)
    executable(tmp_path / "program", PROGRAM)
    (tmp_path / "imagenet_typeII.tflite").write_bytes(MODEL)
    (tmp_path / "calls").touch()
    return tmp_path


def open_script(pi, *arguments, models=("imagenet_typeII.tflite",), host="user@pi", path=None, **environment):
    """Starts the script in the folder of the stand-in, as a session of its own; results go to `out` there."""
    command = [SCRIPT, "--binary", "program", "--output", "out", *arguments, host, *models]
    path = path or f"{pi / 'here'}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PI": str(pi), "PYTHON": sys.executable, **environment}
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return subprocess.Popen(
        [*map(str, command)],
        cwd=pi,
        env=environment,
        start_new_session=True,
        # A test run that was started in the background ignores SIGINT, and what it starts would inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        **pipes,
    )


def start(pi, *arguments, **changes):
    """Runs the script to its end."""
    with open_script(pi, *arguments, **changes) as process:
        stdout, stderr = process.communicate(timeout=300)
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


def refused(pi, *arguments, **changes):
    """Runs the script, which must end with one sentence; returns it."""
    done = start(pi, *arguments, **changes)
    assert done.returncode == 2, done
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and done.stderr.splitlines()[-1] == errors[0]
    assert list((pi / "home").iterdir()) == [], "something was left on the Pi"
    return errors[0]


def check_results(pi, models):
    report = json.loads((pi / "out" / "benchmark.json").read_text())
    logs = sorted(path.name for path in (pi / "out").glob("*.log"))
    assert len(logs) == 12 * models and "imagenet_typeII.4-threads.indirect.3.log" in logs
    figures = {(entry["threads"], entry["kernel"]): entry for entry in report["results"]}
    expected = {(1, "default"): 90.0, (1, "indirect"): 80.0, (4, "default"): 22.5, (4, "indirect"): 20.0}
    assert {key: entry["mean_ms"] for key, entry in figures.items()} == expected
    assert all(entry["inferences"] == 150 and entry["xnnpack"] for entry in report["results"])
    return report, figures


def test_the_papers_protocol(pi):
    (pi / "other.tflite").write_bytes(MODEL + b" and more")
    (pi / "imagenet_typeII.json").write_text(json.dumps(TYPE_II))
    done = start(pi, models=("imagenet_typeII.tflite", "other.tflite"))
    assert done.returncode == 0, done.stderr
    report, figures = check_results(pi, models=2)
    state = figures[1, "default"]["repetitions"][0]["after"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", state.pop("time"))
    assert state.pop("os") != "unknown"
    assert state == {
        "device": "Raspberry Pi 4 Model B Rev 1.4",
        "kernel": "6.1.31-MANJARO-ARM-RPI aarch64",
        "libc": "glibc 2.37",
        "clock_limit_mhz": "1800",
        "clock_mhz": "1500",
        "governor": "ondemand",
        "temperature_c": "48.7",
        "throttled": "0x0",
    }
    assert set(report["sha256"]) == {"lce_benchmark_model", "imagenet_typeII.tflite", "other.tflite"}
    assert "not throttled during the runs" in done.stdout and "WARNING" not in done.stdout
    rows = [line.split() for line in done.stdout.splitlines() if line.startswith("imagenet_typeII.tflite ")]
    assert [row[-4:] for row in rows[:4]] == [["TypeII", "92.3", "92.3", "-"]] * 2 + [["TypeII", "-", "-", "46.7"]] * 2
    commands = re.findall(r"^command=(.*)$", (pi / "out" / "other.4-threads.indirect.2.log").read_text(), re.MULTILINE)
    assert commands == [
        "./lce_benchmark_model --graph=other.tflite --num_threads=4 --num_runs=50 --min_secs=0 --use_xnnpack=true "
        "--use_indirect_bgemm=true"
    ]
    assert list((pi / "home").iterdir()) == [], "something was left on the Pi"


def test_the_native_engine_in_the_same_run(pi):
    executable(pi / "engine", ENGINE)
    assert "imagenet_typeII.onb" in refused(pi, "--engine", "engine")
    (pi / "imagenet_typeII.onb").write_bytes(b"a network")
    (pi / "imagenet_typeII.json").write_text(json.dumps(TYPE_II))
    done = start(pi, "--engine", "engine")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("imagenet_typeII.onb, neon, threads 4, ms: median 9.0, mean 9.1") == 9
    report = json.loads((pi / "out" / "benchmark.json").read_text())
    both = {entry["threads"]: entry for entry in report["results"] if entry["kernel"] == "engine"}
    assert len(report["results"]) == 6 and both.keys() == {1, 4} and "imagenet_typeII.onb" in report["sha256"]
    for entry in both.values():
        assert entry["network"] == "TypeII" and entry["mean_ms"] == pytest.approx(9.1) and entry["inferences"] == 450
        assert all(each["median_ms"] == 9.0 for each in entry["repetitions"])
    for repetition in (1, 2, 3):
        log = (pi / "out" / f"imagenet_typeII.engine.{repetition}.txt").read_text()
        assert (
            "command=./onebnet-run imagenet_typeII.onb --bench=50 --threads=4\n" in log and "after throttled=0x0" in log
        )
    assert "missing" in refused(pi, "--engine", "missing", "--output", "other")
    executable(pi / "engine", "exit 1")
    assert "engine.1.txt" in refused(pi, "--engine", "engine", "--output", "other")


def test_a_hot_pi_is_noticed_by_the_kernel_too(pi):
    (pi / "bin" / "vcgencmd").unlink()
    cat = (pi / "bin" / "cat").read_text().replace("echo 50000", f"echo 4 >> {pi}/asked; /bin/wc -l < {pi}/asked")
    executable(pi / "bin" / "cat", cat)  # bit 0, then bit 1, and so on
    done = start(pi)
    assert "WARNING: the Pi was slowed down during the runs: under-voltage" in done.stdout
    report, figures = check_results(pi, models=1)
    assert figures[1, "default"]["repetitions"][0]["before"]["throttled"].startswith("0x")
    assert figures[1, "default"]["repetitions"][0]["before"]["clock_mhz"] == "600"


def test_extra_flags_and_card_reach_their_places(pi):
    (pi / "imagenet_typeII.json").write_text(json.dumps(TYPE_II))
    done = start(pi, models=("imagenet_typeII.tflite", "--", "--warmup_runs=3"))
    assert done.returncode == 0, done.stderr
    report, _ = check_results(pi, models=1)
    assert {entry["graph"] for entry in report["results"]} == {"folded"}
    assert all("--warmup_runs=3" in path.read_text() for path in (pi / "out").glob("*.log"))


def test_ssh_options_come_before_those_of_the_script(pi):
    done = start(pi, "-o", "ConnectTimeout=60", "-o", "ServerAliveInterval=0")
    assert done.returncode == 0, done.stderr
    for call in (pi / "calls").read_text().splitlines():  # ssh takes the first value that it sees
        first = dict(reversed(re.findall(r"-o (\w+)=(\S+)", call)))
        assert (first["ConnectTimeout"], first["ServerAliveInterval"]) == ("60", "0"), call


def test_dry_run_prints_the_commands_that_would_run(pi):
    done = start(pi, "--dry-run", "--binary", str(pi / "program"))
    assert done.returncode == 0, done.stderr
    assert (pi / "calls").read_text() == "" and not (pi / "out").exists()
    assert done.stdout.count("./lce_benchmark_model --graph=") == 12
    executable(pi / "commands.sh", "#!/bin/bash\nset -e\n" + done.stdout)
    environment = {**os.environ, "PATH": f"{pi / 'here'}:{os.environ['PATH']}", "PI": str(pi)}
    subprocess.run([pi / "commands.sh"], cwd=pi, env=environment, check=True, capture_output=True)
    check_results(pi, models=1)
    assert list((pi / "home").iterdir()) == []


@pytest.mark.parametrize(
    ("machine", "bits", "sentence"),
    [
        ("armv7l", "32", "user@pi runs a 32-bit system"),
        ("aarch64", "32", "user@pi runs a 32-bit system"),  # Raspberry Pi OS: 32-bit programs on a 64-bit kernel
        ("x86_64", "64", "user@pi is not a 64-bit ARM machine but x86_64"),
    ],
)
def test_wrong_system(pi, machine, bits, sentence):
    executable(pi / "bin" / "uname", f"echo {machine}")
    executable(pi / "bin" / "getconf", f"echo {bits}")
    assert sentence in refused(pi)
    assert not (pi / "out").exists()


@pytest.mark.parametrize(
    ("program", "sentence"),
    [
        (GLIBC, "The C library on user@pi is older than LCE's program needs"),
        (TENSORFLOW, "program does not know LCE's operators"),
        ("#!/bin/sh\necho busy; kill -SEGV $$\n", "lce_benchmark_model gave no result: status 139 ("),
        ("#!/bin/sh\nexit 3\n", "lce_benchmark_model gave no result: status 3 (command=./lce_benchmark_model"),
        ("#!/bin/sh\nexit 255\n", "The connection to user@pi was lost"),
        ("#!/no/such/interpreter\n", "lce_benchmark_model gave no result: status 127"),
    ],
)
def test_program_that_fails(pi, program, sentence):
    executable(pi / "program", program)
    assert sentence in refused(pi)
    assert (pi / "out" / "imagenet_typeII.1-threads.default.1.log").exists(), "the log is kept"


def test_program_for_another_processor(pi):
    header = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00\xf3\x00\x01\x00\x00\x00" + bytes(200)  # RISC-V
    (pi / "program").write_bytes(header)
    assert "program is not a program for 64-bit ARM" in refused(pi)


def test_result_that_is_cut_off(pi):
    executable(pi / "program", PROGRAM.replace(", Inference (avg): $us", ""))
    assert "lce_benchmark_model gave no result: status 0 (" in refused(pi)
    executable(pi / "program", PROGRAM.replace("avg=$us", "avg=$((us + 1))"))
    shutil.rmtree(pi / "out")
    assert "imagenet_typeII.1-threads.default.1.log holds no complete result" in refused(pi)


def test_interruption_leaves_nothing_on_the_pi(pi):
    executable(pi / "program", "#!/bin/sh\necho begun\nexec sleep 600\n")
    log = pi / "out" / "imagenet_typeII.1-threads.default.1.log"
    with open_script(pi) as process:
        while not (log.exists() and "begun" in log.read_text()):
            assert process.poll() is None
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)  # what Ctrl-C does
        process.communicate(timeout=300)
    assert process.returncode == -signal.SIGINT
    assert list((pi / "home").iterdir()) == []


@pytest.mark.parametrize("host", ["user@fe80::1%eth0", "user@[fe80::1%eth0]"])
def test_an_ipv6_address_as_ssh_and_scp_want_it(pi, host):
    done = start(pi, host=host)
    assert done.returncode == 0, done.stderr
    for call in (pi / "calls").read_text().splitlines():
        wanted = " user@[fe80::1%eth0]:onebnet-" if call.startswith("scp ") else " user@fe80::1%eth0"
        assert wanted in call and (call.startswith("scp ") or "[" not in call), call


def test_a_shell_that_greets_is_not_taken_for_the_answer(pi):
    executable(pi / "here" / "ssh", FAKE_SSH.replace("cd ", "echo aarch64 has come; echo 32; cd "))
    done = start(pi)
    assert done.returncode == 0, done.stderr
    check_results(pi, models=1)
    executable(pi / "here" / "ssh", "echo Welcome")
    assert "does not say what it is, but: Welcome" in refused(pi, "--output", "other")


@pytest.mark.parametrize(
    ("tool", "said", "remedy"),
    [
        ("scp", "scp: write remote: No space left on device", "make room"),
        ("scp", "scp: dest open: Permission denied", "writable"),
        ("scp", "Received message too long 1466132836", r"\.bashrc"),
        ("ssh", "user@pi: Permission denied (publickey,password).", "check the user and the password or key"),
        ("ssh", "ssh: Could not resolve hostname pi: Name or service not known", "check the name"),
        ("ssh", "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @", "ssh-keygen -R pi"),
        ("ssh", "Host key verification failed.", "accept its key"),
        ("ssh", "ssh: connect to host pi port 22: Connection timed out", "check that the Pi is on"),
    ],
)
def test_the_remedy_follows_from_what_ssh_says(pi, tool, said, remedy):
    executable(pi / "here" / tool, f'echo "{said}" >&2; exit 255')
    assert re.search(remedy, refused(pi))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (dict(models=()), "Name the Pi and at least one model"),
        (dict(models=("no.tflite",)), "There is no model no.tflite"),
        (dict(models=("model.onnx",)), "must end in .tflite"),
        (dict(models=("a b.tflite",)), "hold only letters, digits"),
        (dict(models=("imagenet_typeII.tflite", "sub/imagenet_typeII.tflite")), "Two models are called"),
        (dict(models=("imagenet_typeII.tflite", "--output")), "--output needs a value"),
        (dict(models=("imagenet_typeII.tflite", "--threads=4")), "--threads=4 is not an option"),
        (
            dict(models=("imagenet_typeII.tflite", "--binary", "none")),
            "LCE's benchmark program is not at none: download",
        ),
        (dict(models=("imagenet_typeII.tflite", "--output", "home")), "home is already there"),
    ],
)
def test_wrong_arguments(pi, changes, sentence):
    assert sentence in refused(pi, **changes)
    assert (pi / "calls").read_text() == ""


def test_models_that_are_none_are_told_before_the_work(pi):
    model, card = pi / "imagenet_typeII.tflite", pi / "imagenet_typeII.json"
    for damaged in (b"", b"TFL3", b"\0" * 100, b"hello, I am text", MODEL[1:]):
        model.write_bytes(damaged)
        assert "imagenet_typeII.tflite is not a .tflite file" in refused(pi)
    model.write_bytes(MODEL[:-1])
    for content in (json.dumps({"sha256": hashlib.sha256(MODEL).hexdigest()}), "{}", ""):
        card.write_text(content)
        assert "is not the file that imagenet_typeII.json describes" in refused(pi)
    assert (pi / "calls").read_text() == "" and not (pi / "out").exists()


def test_python_without_numpy_is_told_before_the_work(pi):
    executable(pi / "python", f'exec {sys.executable} -S -E "$@"')  # no site-packages
    assert "python cannot make the report" in refused(pi, PYTHON=str(pi / "python"))
    assert (pi / "calls").read_text() == ""


@pytest.mark.skipif(not shutil.which("ssh"), reason="needs ssh")
def test_unreachable_host(pi):
    (pi / "here" / "ssh").unlink()
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        message = refused(pi, "-o", f"Port={closed.getsockname()[1]}", host="127.0.0.1")
    assert "Cannot reach 127.0.0.1 over ssh (" in message and "refused)" in message


@pytest.fixture
def sshd(pi):
    """A real ssh server, begun anew for each connection, whose home is the stand-in's; the options that reach it."""
    if not (SSHD.exists() and SFTP.exists() and shutil.which("ssh") and shutil.which("ssh-keygen")):
        pytest.skip("needs an OpenSSH server")
    for key in ("host_key", "user_key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", pi / key], check=True)
    shutil.copy(pi / "user_key.pub", pi / "authorized_keys")
    executable(
        pi / "session.sh",
        f"cd {pi}/home && export PATH={pi}/bin:$PATH\n"
        f'case $SSH_ORIGINAL_COMMAND in *sftp*) exec {SFTP} ;; *) exec sh -c "$SSH_ORIGINAL_COMMAND" ;; esac',
    )
    (pi / "sshd_config").write_text(
        f"HostKey {pi}/host_key\nPidFile none\nUsePAM no\nStrictModes no\n"
        f"AuthorizedKeysFile {pi}/authorized_keys\nSubsystem sftp {SFTP}\nForceCommand {pi}/session.sh\n"
    )
    if os.geteuid() == 0:
        pathlib.Path("/run/sshd").mkdir(exist_ok=True)  # it insists on this folder when it runs as root
    options = [
        f"ProxyCommand={SSHD} -i -f {pi}/sshd_config",
        f"IdentityFile={pi}/user_key",
        f"UserKnownHostsFile={pi}/known_hosts",
        "StrictHostKeyChecking=accept-new",
        "IdentitiesOnly=yes",
        "ConnectTimeout=300",  # on a busy machine the script's 10 s may not do
        "ServerAliveInterval=300",
    ]
    return [word for option in options for word in ("-o", option)]


def test_over_a_real_ssh_connection(pi, sshd):
    done = start(pi, *sshd, host="127.0.0.1", path=os.environ["PATH"])
    assert done.returncode == 0, done.stderr
    check_results(pi, models=1)
    assert (pi / "calls").read_text() == "" and list((pi / "home").iterdir()) == []

    shutil.rmtree(pi / "out")
    executable(pi / "program", GLIBC)
    done = start(pi, *sshd, host="127.0.0.1", path=os.environ["PATH"])
    assert done.returncode == 2 and "The C library on 127.0.0.1 is older" in done.stderr
    assert list((pi / "home").iterdir()) == []
