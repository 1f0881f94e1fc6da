#!/usr/bin/env bash
# 1 bit or int8 for your photographs? Trains three networks on a folder of them: 1 bit, the same layers as int8, and int8 of
# three quarters of the width, whose file is as small as that of 1 bit. Ends with a table: how many test photographs each
# names right, how large its file is, and how long it takes here.
# usage: [WORKDIR=DIR] launch/choose.sh [--dry-run] PHOTOS [--config.field=value ...]
# The fields are those of `onebnet train --config=folder`, for all three. Relative paths start at the folder of onebnet_jax.
# Stopped, it goes on where it was.
set -euo pipefail
cd "$(dirname "$0")/.."
source launch/lib.sh
[[ $# -gt 0 && $1 != -* ]] || fail "Name the folder of photographs first: launch/choose.sh PHOTOS."
photos=$1 workdir=${WORKDIR:-runs/choose}
shift

train() { # NAME CONFIG FLAG ...
    onebnet train --config="$2" --config.data.dir="$photos" --workdir="$workdir/$1" "${@:3}"
}

run launch/setup.sh .venv requirements.txt
train 1bit folder "$@"
train fp32 folder:fp32 "$@"
train fp32_narrow folder:fp32 --config.model.width_multiplier=0.375 "$@"
onebnet convert --workdir="$workdir/1bit" --native="$workdir/1bit.onb"
onebnet convert --workdir="$workdir/fp32" --int8="$workdir/int8.tflite"
onebnet convert --workdir="$workdir/fp32_narrow" --int8="$workdir/int8_narrow.tflite"
onebnet benchmark "$workdir/1bit.onb" "$workdir/int8.tflite" "$workdir/int8_narrow.tflite"
