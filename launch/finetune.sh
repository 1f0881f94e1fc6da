#!/usr/bin/env bash
# Fine-tunes a network for phones, pretrained on ImageNet, on a folder of photographs. The first call installs PyTorch.
# usage: launch/finetune.sh [--dry-run] PHOTOS [--ways=frozen] [--save=phone.onnx] [--label=MORE --into=ALL] [...]
#   --ways=frozen       trains the last layer alone: minutes, for a few points less
#   --save=FILE         keeps the network, as int8
#   --label=MORE         labels the photographs in the folder MORE, and makes the folder ALL (--into) for onebnet train
# launch/finetune.py says more, and has more options. Relative paths start at the folder of onebnet_jax.
set -euo pipefail
cd "$(dirname "$0")/.."
source launch/lib.sh
run launch/setup.sh .venv-torch requirements-train.txt -r requirements-finetune.txt -r requirements-onnx.txt
run exec .venv-torch/bin/python launch/finetune.py "$@"
