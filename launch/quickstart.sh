#!/usr/bin/env bash
# From a bare clone to a trained OneBNet: environment, training on the embedded images, evaluation.
# usage: launch/quickstart.sh [--config.field=value ...]
set -euo pipefail
cd "$(dirname "$0")/.."
workdir=${WORKDIR:-runs/quickstart}

launch/setup.sh .venv requirements.txt
.venv/bin/python -m onebnet_jax.main --config=configs/quickstart.py --workdir="$workdir" "$@"
.venv/bin/python -m onebnet_jax.main --mode=eval --workdir="$workdir"
