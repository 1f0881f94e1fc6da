#!/usr/bin/env bash
# Trains on one machine with NVIDIA GPUs, on all of them in one process. Ctrl-C or SIGTERM leaves a checkpoint and exit
# status 75; the same command goes on from there.
# usage: launch/gpu.sh [--dry-run] --config=configs/X.py [--workdir=DIR] [--config.field=value ...]
#   CUDA_VISIBLE_DEVICES=0,1 launch/gpu.sh ...        on these GPUs only
#   launch/background.sh launch/gpu.sh ...            so that it outlives an ssh connection
#   launch/gpu.sh ... --coordinator=HOST:PORT --processes=N --process=I     on each of N machines that share a disk
# Relative paths start at the folder of onebnet_jax, wherever it is called.
set -euo pipefail
cd "$(dirname "$0")/.."
source launch/lib.sh
check_trainer_flags "$@"
need nvidia-smi "this script is for NVIDIA GPUs and their driver; launch/quickstart.sh does without"

run launch/setup.sh .venv-gpu requirements-train.txt 'jax[cuda12]'
# With its platforms named, the training is refused where JAX would take the CPU in place of the GPUs.
run exec env JAX_PLATFORMS=cuda,cpu .venv-gpu/bin/python -m onebnet_jax.main "$@"
