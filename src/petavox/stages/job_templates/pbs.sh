#!/bin/bash -l
#PBS -N petavox-train
#PBS -l select={nodes}{select}
#PBS -l place=scatter
#PBS -l walltime={walltime}
{scheduler_lines}
# {total_ranks} ranks: {nodes} nodes with {ranks_per_node} each, one for each device ({kind}).
# A lost node ends the job; submit it again and it goes on from the last checkpoint.
set -eu
cd "$PBS_O_WORKDIR"

{setup}

export MASTER_ADDR="$(head -n 1 "$PBS_NODEFILE")"
export MASTER_PORT={port}
export OMP_NUM_THREADS={threads}
export PYTHONUNBUFFERED=1

RESUME=""
if ls {out}/checkpoints/step-*/state.safetensors >/dev/null 2>&1; then RESUME="--resume"; fi

mpiexec -n {total_ranks} --ppn {ranks_per_node} --depth={threads} --cpu-bind depth \
  {command} $RESUME
