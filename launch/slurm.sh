#!/usr/bin/env bash
# Trains on a Slurm cluster with NVIDIA GPUs: one process on each node, or on each GPU with --ntasks-per-node=GPUS. Two
# minutes before its time is up the job leaves a checkpoint and queues itself again, as it does after a preemption or
# `scancel --signal=TERM JOB`; plain `scancel JOB` ends it.
# usage: sbatch --nodes=N --gpus-per-node=GPUS --cpus-per-task=C --time=T launch/slurm.sh \
#            --config=configs/X.py [--workdir=DIR] [--config.field=value ...]
#        launch/slurm.sh --dry-run --config=...       prints what the job would run
# Submit it in the folder of onebnet_jax: relative paths start there. That folder and the work directory must be on a
# disk that all nodes share. Where compute nodes have no network, run the launch/setup.sh line of the dry run on a login
# node first.
#SBATCH --job-name=onebnet
#SBATCH --ntasks-per-node=1
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=TERM@120
set -euo pipefail
cd "${SLURM_SUBMIT_DIR:-$(dirname "$0")/..}" # inside a job, $0 is a copy elsewhere
[[ -f launch/lib.sh ]] || { echo "error: Submit from the folder of onebnet_jax, not from $PWD." >&2; exit 2; }
source launch/lib.sh
check_trainer_flags "$@"
[[ $dry_run == yes || -n ${SLURM_JOB_ID:-} ]] || fail "Submit this script: sbatch --nodes=N ... launch/slurm.sh ..."
need srun "it comes with Slurm"

# The signal goes to the processes and not to this script, and the first to end does not take the others with it.
command=(srun --kill-on-bad-exit=0)
[[ -z ${SLURM_CPUS_PER_TASK:-} ]] || command+=("--cpus-per-task=$SLURM_CPUS_PER_TASK") # srun may not inherit it
command+=(env "JAX_PLATFORMS=cuda,cpu") # so that training on the CPU instead is refused
if [[ ${SLURM_NTASKS_PER_NODE:-1} == 1 ]]; then # or JAX would take one GPU for each process
    command+=("JAX_LOCAL_DEVICE_IDS=$(seq -s , 0 $((${SLURM_GPUS_ON_NODE:-1} - 1)))")
fi

run launch/setup.sh .venv-gpu requirements-train.txt 'jax[cuda12]'
status=0
run "${command[@]}" .venv-gpu/bin/python -m onebnet_jax.main "$@" || status=$?
[[ $dry_run == no ]] || echo "# if that ends with status 75, interrupted after a checkpoint:"
if [[ $dry_run == yes || $status == 75 ]]; then
    run scontrol requeue "${SLURM_JOB_ID:-JOB}"
fi
exit "$status"
