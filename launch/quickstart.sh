#!/usr/bin/env bash
# From a bare clone to a OneBNet in a .tflite file: environment, training on the embedded images, evaluation, its curves,
# conversion for Larq Compute Engine and the native engine, proof that the files give the same answers, and their times here.
# usage: [WORKDIR=DIR] launch/quickstart.sh [--dry-run] [--config.field=value ...]
# Relative paths start at the folder of onebnet_jax, wherever it is called.
set -euo pipefail
cd "$(dirname "$0")/.."
source launch/lib.sh
workdir=${WORKDIR:-runs/quickstart}

run launch/setup.sh .venv requirements.txt
onebnet train --config=quickstart --workdir="$workdir" "$@"
onebnet evaluate --workdir="$workdir"
onebnet compare "$workdir" --plot="$workdir/curves.png"
onebnet convert --workdir="$workdir" --output="$workdir/model.tflite" --native="$workdir/model.onb"
onebnet agree "$workdir/model.tflite" --native="$workdir/model.onb" --images=200
onebnet benchmark "$workdir/model.onb" "$workdir/model.tflite"
