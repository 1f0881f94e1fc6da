#!/usr/bin/env bash
# Prints where the native engine's time for an image goes, part by part, and how near each part is to what the CPU could
# do at most. Needs a CPU with AVX2, or AVX-512 (VPOPCNTDQ), and a C compiler.
#
# usage: launch/engine_account.sh [MODEL.onb]      (default: TypeII at 224x224 with random weights; needs .venv)
#   --dry-run   print every command and run none
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
source "$root/launch/lib.sh"
engine=$root/onebnet_jax/native/engine
folder=$(mktemp -d)
trap 'rm -r "$folder"' EXIT
model=${1:-}
if [[ -z $model ]]; then
    model=$folder/typeII.onb
    need "$root/.venv/bin/python" "launch/setup.sh makes .venv, or name a MODEL.onb"
    (cd "$root" && run .venv/bin/python -m onebnet_jax convert --config=configs/imagenet_typeII.py --native="$model")
fi
sources=()
for name in avx2 avx512 gate look neon onebnet plain stem; do sources+=("$engine/$name.c"); done
run "${CC:-cc}" -std=c11 -O3 -ffp-contract=off -I "$engine" "$root/launch/engine_account.c" "${sources[@]}" -lm \
    -o "$folder/engine_account"
run "$folder/engine_account" "$model"
