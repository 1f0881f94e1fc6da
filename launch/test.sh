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

if [[ ${1:-} == --newest ]]; then
    shift
    mkdir -p .venv-newest
    sed 's/==[^ ]*//' requirements-train.txt >.venv-newest/requirements.txt
    printf 'pytest\npytest-xdist\nhypothesis\nmatplotlib\nshellcheck-py\nimport-linter\n' >>.venv-newest/requirements.txt
    launch/setup.sh .venv-newest .venv-newest/requirements.txt
    .venv-newest/bin/python -m pip install -qq --disable-pip-version-check --upgrade -r .venv-newest/requirements.txt
    exec .venv-newest/bin/python -m pytest "${parallel[@]}" "$@"
fi
launch/setup.sh .venv requirements.txt
.venv/bin/ruff check .
.venv/bin/ruff format --check .
exec .venv/bin/python -m pytest "${parallel[@]}" "$@"
