#!/usr/bin/env bash
# From a bare clone to a OneBNet in a .tflite file: environment, training on the embedded images, evaluation, its curves,
# conversion for Larq Compute Engine, proof that the file gives the same answers, and its time on this machine.
# usage: [WORKDIR=DIR] launch/quickstart.sh [--config.field=value ...]
# Relative paths start at the folder of onebnet_jax, wherever it is called.
set -euo pipefail
cd "$(dirname "$0")/.."
workdir=${WORKDIR:-runs/quickstart}

launch/setup.sh .venv requirements.txt
.venv/bin/python -m onebnet_jax.main --config=configs/quickstart.py --workdir="$workdir" "$@"
.venv/bin/python -m onebnet_jax.main --mode=eval --workdir="$workdir"
.venv/bin/python -m onebnet_jax.compare "$workdir" --plot="$workdir/curves.png"
.venv/bin/python -m onebnet_jax.convert --workdir="$workdir" --output="$workdir/model.tflite"
.venv/bin/python -m onebnet_jax.agree "$workdir/model.tflite" --images=200
.venv/bin/python -m onebnet_jax.benchmark "$workdir/model.tflite"
