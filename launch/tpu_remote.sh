#!/usr/bin/env bash
# Runs on each host of a TPU, unpacked there by `launch/tpu.sh install`: makes the environment of the training, and mounts
# an NFS share as /shared.
# usage: launch/tpu_remote.sh [HOST:/SHARE]
set -euo pipefail
cd "$(dirname "$0")/.."
share=${1:-}

if [[ -n $share ]] && ! mountpoint -q /shared; then
    sudo apt-get update -q
    sudo apt-get -o DPkg::Lock::Timeout=300 install -qy nfs-common # a new host is still updating itself
    sudo mkdir -p /shared
    sudo mount -t nfs "$share" /shared
    sudo chmod a+rwxt /shared
fi
# The host's own Python may be older than JAX wants, or without venv.
curl -LsSf https://astral.sh/uv/install.sh | sh
~/.local/bin/uv python install 3.12
PYTHON=$(~/.local/bin/uv python find --managed-python 3.12)
export PYTHON
launch/setup.sh .venv-tpu requirements-train.txt 'jax[tpu]' -r requirements-gcs.txt
