#!/usr/bin/env bash
# Makes a virtual environment with a requirements file, once; later calls return at once.
# usage: launch/setup.sh VENV REQUIREMENTS
set -euo pipefail
venv=$1 requirements=$2

python=${PYTHON:-python3}
if ! "$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))'; then
    echo "error: $("$python" --version) will not do: larq-compute-engine and jax need Python 3.11 or 3.12; set PYTHON." >&2
    exit 2
fi
if ! cmp -s <(cat requirements*.txt) "$venv/installed"; then
    echo "installing $requirements into $venv"
    "$python" -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$requirements"
    cat requirements*.txt >"$venv/installed"
fi
