#!/usr/bin/env bash
# Makes a virtual environment with a requirements file, and perhaps more, once; later calls return at once.
# usage: launch/setup.sh [VENV [REQUIREMENTS [PACKAGE ...]]]      (default: .venv requirements.txt)
set -euo pipefail
# shellcheck source=launch/lib.sh
source "$(dirname "$0")/lib.sh"
venv=${1:-.venv} requirements=${2:-requirements.txt}

python=${PYTHON:-python3}
if ! words=$("$python" --version 2>&1); then # pyenv's words say which of its versions has it
    fail "There is no $python that runs here; set PYTHON to one of Python 3.11 or 3.12."$'\n'"$words"
fi
if ! "$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))'; then
    fail "$("$python" --version) will not do: larq-compute-engine and jax need Python 3.11 or 3.12; set PYTHON."
fi
# The programs of an environment that was copied or moved, and bin/activate, still name the folder in which it was made.
# Before anything is installed: that would make pyvenv.cfg forget which folder it was.
if [[ -f $venv/pyvenv.cfg ]] && ! grep -q "^command = .* $(cd "$venv" && pwd)\$" "$venv/pyvenv.cfg"; then
    "$python" - "$venv" <<'END'
import pathlib, re, sys

venv = pathlib.Path(sys.argv[1]).absolute()
made = re.search(r"^command = .* -m venv (?:--\S+ )*(/.+)$", (venv / "pyvenv.cfg").read_text(), re.MULTILINE)
for path in [*(venv / "bin").iterdir(), venv / "pyvenv.cfg"] if made else ():
    content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
    if made[1].encode() in content and b"\0" not in content:
        path.write_bytes(content.replace(made[1].encode(), bytes(venv)))
if made:
    print(f"{venv} was made as {made[1]}: its programs now name the folder in which they are")
END
fi
# `installed` has a line for each call that installed something, behind a checksum of all requirements.
sum=$(cat requirements*.txt | cksum) asked="$sum $requirements${3:+ ${*:3}}"
if ! grep -qxF "$asked" "$venv/installed" 2>/dev/null; then
    echo "installing $requirements${3:+ and ${*:3}} into $venv, which takes some minutes"
    "$python" -m venv "$venv"
    # Not bin/pip, whose first line holds the folder in which the environment was made: it may have been moved or copied.
    "$venv/bin/python" -m pip install -qq --disable-pip-version-check -r "$requirements" "${@:3}"
    before=$(grep -F "$sum " "$venv/installed" 2>/dev/null || true)
    printf '%s\n' ${before:+"$before"} "$asked" >"$venv/installed"
fi
# The package for programs of yours, and the command onebnet, from any folder; nothing absolute, as this one may be moved.
for packages in "$venv"/lib/python3*/site-packages; do
    [[ ! -d $packages ]] || echo ../../../.. >"$packages/onebnet_jax.pth"
done
cat >"$venv/bin/onebnet" <<'END'
#!/bin/sh
exec "$(dirname "$(readlink -f "$0")")/python" -m onebnet_jax "$@"
END
chmod +x "$venv/bin/onebnet"
# The kernels for training on this CPU and the engine for deployment, or a sentence that says why there are none.
"$venv/bin/python" -m onebnet_jax.native.build >/dev/null
"$venv/bin/python" -m onebnet_jax.native.runtime >/dev/null
