"""A copy of launch/ among stand-ins for Python and for the tools of clusters, which write down how they are called."""

import contextlib
import os
import pathlib
import shutil
import signal
import subprocess

ROOT = pathlib.Path(__file__).parents[2]
PATIENCE = 300  # seconds, for a machine that is busy with other things

# Writes down how it was called, each call with the number of its words before it.
RECORD = r"""#!/bin/bash
{ printf '%s\0' $(($# + 1)) "${0##*/}" "$@"; } >>"$CALLS"
"""
PYTHON = RECORD.replace('"$@"', '"JAX_PLATFORMS=$JAX_PLATFORMS" "$@"').replace("$# + 1", "$# + 2") + "exit ${STATUS:-0}"
SRUN = RECORD + 'while [[ $1 == --* ]]; do shift; done; "$@"'
KUBECTL = RECORD + 'cat >"$CALLS.manifest"'
# Its TPU is the home folder: ssh runs a command there, scp copies an archive to it.
GCLOUD = (
    RECORD
    + """
cd "$HOME"
for word; do case $word in --command=*) exec sh -c "${word#*=}" ;; esac; done
[[ $4 != scp || $5 == *:* ]] || cp "$PROJECT/$5" .
"""
)
CURL = RECORD + "echo 'mkdir -p ~/.local/bin; cp \"$PROJECT/uv\" ~/.local/bin/uv'"
UV = RECORD + "[[ $2 != find ]] || echo /python3.12"


def executable(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


class Project:
    """The copy; its own `root`, `home` and tools lie in a folder."""

    def __init__(self, folder):
        self.root, self.home, self.calls_file = folder / "the project", folder / "home", folder / "calls"
        shutil.copytree(ROOT / "launch", self.root / "launch")
        shutil.copytree(ROOT / "configs", self.root / "configs", ignore=shutil.ignore_patterns("__pycache__"))
        (self.root / "onebnet_jax").mkdir()
        for name in ("requirements.txt", "requirements-train.txt", "requirements-gcs.txt"):
            shutil.copy(ROOT / name, self.root)
        executable(self.root / "launch" / "setup.sh", RECORD)
        executable(self.root / ".venv-gpu" / "bin" / "python", PYTHON)
        executable(self.root / "uv", UV)
        self.home.mkdir()
        self.tools = folder / "tools"
        tools = dict(srun=SRUN, kubectl=KUBECTL, gcloud=GCLOUD, curl=CURL)
        for name in ("nvidia-smi", "scontrol", "sudo", "mountpoint"):
            tools[name] = RECORD
        for name, text in tools.items():
            executable(self.tools / name, text)
        self.bare = folder / "bare"  # a machine without any of them
        self.bare.mkdir()
        for name in ("bash", "cat", "dirname", "env", "sed", "seq"):
            (self.bare / name).symlink_to(shutil.which(name))
        self.environment = {
            "PATH": f"{self.tools}:{os.environ['PATH']}",
            "HOME": str(self.home),
            "CALLS": str(self.calls_file),
            "PROJECT": str(self.root),
        }

    @contextlib.contextmanager
    def start(self, script, *flags, **environment):
        """launch/SCRIPT, begun in the folder of the project; the words of a bash script if `script` is one."""
        command = [f"launch/{script}.sh", *flags] if script.isidentifier() else ["bash", "-c", script]
        pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        environment = {**self.environment, **environment}
        with subprocess.Popen(command, cwd=self.root, env=environment, start_new_session=True, **pipes) as process:
            try:
                yield process
            except BaseException:  # of a test that fails, which must not wait for it
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                raise

    def run(self, script, *flags, status=0, **environment):
        """The output of launch/SCRIPT, which must end with the given status."""
        self.calls_file.unlink(missing_ok=True)
        with self.start(script, *flags, **environment) as process:
            stdout, stderr = process.communicate(timeout=PATIENCE)
        assert process.returncode == status, stderr
        self.stderr = stderr
        return stdout

    @property
    def calls(self):
        """The calls of the last run, each a list of words."""
        words = self.calls_file.read_bytes().decode().split("\0")[:-1] if self.calls_file.exists() else []
        calls = []
        while words:
            count = int(words.pop(0))
            calls.append(words[:count])
            del words[:count]
        return calls
