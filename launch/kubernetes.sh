#!/usr/bin/env bash
# Trains on a Kubernetes cluster with NVIDIA GPUs, by an Indexed Job with one pod for each process. A pod that is evicted
# leaves a checkpoint, and all go on from it in new pods. Needs Kubernetes 1.31 and a volume claim that all pods can write
# (ReadWriteMany), which they see as /shared: it holds the work directory, and data if you put them there.
# usage: launch/kubernetes.sh [--dry-run] --image=IMAGE --claim=CLAIM [--name=onebnet] [--processes=1] [--gpus=1] \
#            --config=configs/X.py --workdir=/shared/DIR [--config.field=value ...]
#   --image=IMAGE     made by: docker build -f launch/Dockerfile -t IMAGE . && docker push IMAGE
#   --gpus=GPUS       of each process
# Relative paths start at the folder of onebnet_jax: the config must be there, and in the image as well.
# Then: kubectl logs -f job/onebnet; kubectl delete job,service onebnet (before another run of the same name, too)
set -euo pipefail
cd "$(dirname "$0")/.."
source launch/lib.sh
image='' claim='' name=onebnet processes=1 gpus=1 workdir='' flags=()
for flag in "$@"; do
    case $flag in
    --image=*) image=${flag#*=} ;;
    --claim=*) claim=${flag#*=} ;;
    --name=*) name=${flag#*=} ;;
    --processes=*) processes=${flag#*=} ;;
    --gpus=*) gpus=${flag#*=} ;;
    --workdir=*) workdir=${flag#*=} && flags+=("$flag") ;;
    *) flags+=("$flag") ;;
    esac
done
check_trainer_flags "${flags[@]}"
[[ $image =~ ^[A-Za-z0-9][A-Za-z0-9._:/@-]*$ ]] || fail "Name the image: --image=REGISTRY/NAME:TAG."
[[ $claim =~ ^[a-z0-9][a-z0-9.-]*$ ]] || fail "Name a claim for a volume that all pods can write: --claim=CLAIM."
[[ $name =~ ^[a-z]([a-z0-9-]{0,48}[a-z0-9])?$ ]] || fail "--name must be small letters, digits and -, at most 50."
[[ $processes =~ ^[1-9][0-9]*$ ]] || fail "--processes must be a number from 1, not '$processes'."
[[ $gpus =~ ^(0|[1-9][0-9]*)$ ]] || fail "--gpus must be a number from 0, not '$gpus'."
[[ $workdir == /shared/?* ]] || fail "The work directory must be on the shared volume: --workdir=/shared/DIR."
need kubectl "install it, and let it reach your cluster"

json() { # a string as JSON, which is YAML, and in which Kubernetes replaces no $(VARIABLE)
    local text=${1//\\/\\\\}
    text=${text//\"/\\\"} text=${text//$'\n'/\\n} text=${text//$'\t'/\\t}
    printf '"%s"' "${text//\$/\$\$}"
}

arguments=
for flag in "${flags[@]}" "--coordinator=$name-0.$name:8476" "--processes=$processes"; do
    arguments+="$(json "$flag"), "
done
arguments="[$arguments\"--process=\$(JOB_COMPLETION_INDEX)\"]"
platforms=cuda,cpu # named, so that training on the CPU instead is refused
((gpus)) || platforms=cpu

manifest=$(<launch/kubernetes.yaml)
fill() { manifest=${manifest//"\${$1}"/"$2"}; }
fill NAME "$name"
fill IMAGE "$image"
fill CLAIM "$claim"
fill PROCESSES "$processes"
fill FAILURES "$((10 * processes))"
fill GPUS "$gpus"
fill PLATFORMS "$platforms"
fill ARGUMENTS "$arguments" # last: what it holds is not replaced
if [[ $dry_run == yes ]]; then
    printf "kubectl apply -f - <<'END'\n%s\nEND\n" "$manifest"
else
    kubectl apply -f - <<<"$manifest"
fi
