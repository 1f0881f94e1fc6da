#!/usr/bin/env bash
# Runs the tests in an environment of their own making.
# usage: launch/test.sh [--newest] [pytest arguments ...]
#   (nothing)   the default tests with the pinned versions, in .venv
#   -m slow     the slow tests
#   --newest    the training half on the newest JAX and Flax that this Python installs, in .venv-newest; each time
#               upgraded before
set -euo pipefail
cd "$(dirname "$0")/.."
source launch/lib.sh
# A process for each core; a file's tests share what they set up; files in the order of tests/conftest.py.
parallel=(-n auto --maxprocesses=8 --dist=loadfile --no-loadscope-reorder)
# Tests write thousands of small files: those of runs take a fourth less time in memory than on a disk.
# Not where it is small (KiB), or no program may run there: tests build some.
place=()
if [[ -z ${TMPDIR:-} && -w /dev/shm ]] && (($(df --output=avail /dev/shm | tail -1) >= 2 << 20)); then
    trial=$(mktemp /dev/shm/XXXXXX)
    printf '#!/bin/sh\n' >"$trial"
    chmod +x "$trial"
    if "$trial" 2>/dev/null; then
        place=(TMPDIR=/dev/shm)
    fi
    rm "$trial"
fi

if [[ ${1:-} == --newest ]]; then
    shift
    mkdir -p .venv-newest
    sed 's/==[^ ]*//' requirements-train.txt >.venv-newest/requirements.txt
    printf 'pytest\npytest-xdist\nhypothesis\nmatplotlib\nshellcheck-py\nimport-linter\n' >>.venv-newest/requirements.txt
    launch/setup.sh .venv-newest .venv-newest/requirements.txt
    .venv-newest/bin/python -m pip install -qq --disable-pip-version-check --upgrade -r .venv-newest/requirements.txt
    exec env "${place[@]}" .venv-newest/bin/python -m pytest "${parallel[@]}" "$@"
fi
launch/setup.sh .venv requirements.txt
.venv/bin/ruff check .
.venv/bin/ruff format --check .
exec env "${place[@]}" .venv/bin/python -m pytest "${parallel[@]}" "$@"
