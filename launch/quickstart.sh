#!/usr/bin/env bash
# From a bare clone to a OneBNet in a .tflite file: environment, training on the embedded images, evaluation, its curves,
# conversion for Larq Compute Engine, proof that the file gives the same answers, and its time on this machine.
# usage: [WORKDIR=DIR] launch/quickstart.sh [--dry-run] [--config.field=value ...]
# Relative paths start at the folder of onebnet_jax, wherever it is called.
set -euo pipefail
cd "$(dirname "$0")/.."
source launch/lib.sh
workdir=${WORKDIR:-runs/quickstart} python=.venv/bin/python

run launch/setup.sh .venv requirements.txt
run "$python" -m onebnet_jax.main --config=configs/quickstart.py --workdir="$workdir" "$@"
run "$python" -m onebnet_jax.main --mode=eval --workdir="$workdir"
run "$python" -m onebnet_jax.compare "$workdir" --plot="$workdir/curves.png"
run "$python" -m onebnet_jax.convert --workdir="$workdir" --output="$workdir/model.tflite"
run "$python" -m onebnet_jax.agree "$workdir/model.tflite" --images=200
run "$python" -m onebnet_jax.benchmark "$workdir/model.tflite"
