#!/usr/bin/env bash
# Trains on a Google Cloud TPU: one TPU VM or the hosts of a pod slice, which find each other. Set your project first
# (gcloud config set project PROJECT). A training outlives the connection that started it.
# usage: launch/tpu.sh [--dry-run] COMMAND NAME ZONE ...
#   create NAME ZONE TYPE [--spot] [flag of gcloud compute tpus tpu-vm create ...]    TYPE: v5litepod-8, v6e-16, ...
#   install NAME ZONE [HOST:/SHARE]          copies this folder and makes its environment; mounts an NFS share
#                                            (Filestore) as /shared
#   run NAME ZONE --config=configs/X.py [--workdir=gs://BUCKET/DIR] [--config.field=value ...]
#                                            trains, or shows the output of the training that is running; a slice of
#                                            several hosts needs a bucket or /shared/DIR as work directory
#   stop NAME ZONE                           leaves a checkpoint and ends the training; `run` goes on from there
#   fetch NAME ZONE WORKDIR FOLDER           copies a work directory of the TPU into a folder here
#   delete NAME ZONE
# Relative paths start at the folder of onebnet_jax, here and on the TPU.
# A spot TPU that was taken away: delete, create, install and run again; what was in a bucket, or under /shared, goes on.
set -euo pipefail
cd "$(dirname "$0")/.."
source launch/lib.sh
(($# >= 3)) || fail "Name a command, a TPU and a zone: launch/tpu.sh create NAME ZONE TYPE; --help shows the commands."
subcommand=$1 name=$2 zone=$3
shift 3
[[ $name =~ ^[a-z][a-z0-9-]*$ ]] || fail "'$name' is no name for a TPU: launch/tpu.sh COMMAND NAME ZONE, then options."
[[ $zone =~ ^[a-z]+-[a-z]+[0-9]+-[a-z0-9]+$ ]] ||
    fail "'$zone' is no zone such as us-east5-b: launch/tpu.sh COMMAND NAME ZONE, then options."
need gcloud "install the Google Cloud CLI"

tpu() { # SUBCOMMAND ARGUMENT ...
    run gcloud compute tpus tpu-vm "$1" "${@:2}" "--zone=$zone"
}

on_all_hosts() { # COMMAND LINE
    tpu ssh "$name" --worker=all "--command=$1"
}

create() {
    local version
    case ${1:-} in # https://cloud.google.com/tpu/docs/runtimes
    v6e-*) version=v2-alpha-tpuv6e ;;
    v5p-*) version=v2-alpha-tpuv5 ;;
    v5litepod-*) version=v2-alpha-tpuv5-lite ;;
    v[234]-*) version=tpu-ubuntu2204-base ;;
    *) fail "'${1:-}' is no TPU type known here, such as v5litepod-8 or v6e-16." ;;
    esac
    tpu create "$name" "--accelerator-type=$1" "--version=$version" "${@:2}"
}

install() {
    local archive=runs/onebnet_jax.tar.gz
    [[ -z ${1:-} || $1 == ?*:/* ]] || fail "'$1' must be HOST:/SHARE, such as 10.0.0.2:/share."
    run mkdir -p runs
    run tar -czf "$archive" --exclude=__pycache__ configs launch onebnet_jax requirements.txt requirements-train.txt requirements-gcs.txt
    tpu scp "$archive" "$name:" --worker=all
    on_all_hosts "mkdir -p onebnet_jax && tar -xzf onebnet_jax.tar.gz -C onebnet_jax &&
        $(quote onebnet_jax/launch/tpu_remote.sh "$@")"
}

run_training() {
    check_trainer_flags "$@"
    local command=(env "JAX_PLATFORMS=tpu,cpu" .venv-tpu/bin/python -m onebnet_jax.main "$@")
    on_all_hosts "cd onebnet_jax && launch/background.sh $(quote "${command[@]}")"
}

fetch() {
    (($# == 2)) || fail "Name a work directory on the TPU and a folder here: launch/tpu.sh fetch NAME ZONE WORKDIR FOLDER."
    [[ $1 == /* ]] || set -- "onebnet_jax/$1" "$2"
    tpu scp "$name:$1" "$2" --recurse
}

case $subcommand in
create | install | fetch) "$subcommand" "$@" ;;
run) run_training "$@" ;;
stop) on_all_hosts 'cd onebnet_jax && launch/background.sh --stop' ;;
delete) tpu delete "$name" "$@" ;;
*) fail "'$subcommand' is none of create, install, run, stop, fetch and delete." ;;
esac
