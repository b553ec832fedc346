#!/bin/bash -l
#SBATCH --job-name=petavox-train
#SBATCH --nodes={nodes}
#SBATCH --ntasks-per-node={ranks_per_node}
#SBATCH --cpus-per-task={threads}
#SBATCH --time={walltime}
{scheduler_lines}
# {total_ranks} ranks: {nodes} nodes with {ranks_per_node} each, one for each device ({kind}).
# A lost node ends the job; submit it again and it goes on from the last checkpoint.
set -eu
cd "$SLURM_SUBMIT_DIR"

{setup}

export MASTER_ADDR="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)"
export MASTER_PORT={port}
export OMP_NUM_THREADS={threads}
export PYTHONUNBUFFERED=1

RESUME=""
if ls {out}/checkpoints/step-*/state.safetensors >/dev/null 2>&1; then RESUME="--resume"; fi

srun --kill-on-bad-exit=1 \
  {command} $RESUME
