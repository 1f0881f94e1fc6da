#!/usr/bin/env bash
# Builds the documentation as a site, build/site/index.html, and ends with an error where a link leads nowhere.
# usage: launch/docs.sh [--serve]
#   --serve   shows it at http://127.0.0.1:8000 instead, anew after each change
set -euo pipefail
cd "$(dirname "$0")/.."
source launch/lib.sh
if ! cmp -s docs/requirements.txt .venv-docs/installed; then # not by setup.sh, which builds what the site does not need
    "${PYTHON:-python3}" -m venv .venv-docs
    .venv-docs/bin/python -m pip install -qq --disable-pip-version-check -r docs/requirements.txt
    cp docs/requirements.txt .venv-docs/installed
fi
export NO_MKDOCS_2_WARNING=1
if [[ ${1:-} == --serve ]]; then exec .venv-docs/bin/mkdocs serve; fi
exec .venv-docs/bin/mkdocs build # without --quiet, with which a link that leads nowhere is no error
