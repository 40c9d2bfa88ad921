#!/bin/sh
# Line N of the plan is run N. Runs that are done end at once; submit again for the rest:
#   sbatch slurm.sh
# Where MaxArraySize is smaller than the plan, submit parts: OFFSET=1000 sbatch slurm.sh
#SBATCH --job-name=$study
#SBATCH --array=1-$runs%20
#SBATCH --cpus-per-task=1
#SBATCH --mem=4G
#SBATCH --time=08:00:00
#SBATCH --requeue
export CORES=1  # as many as a run is given above
line=$$((SLURM_ARRAY_TASK_ID + $${OFFSET:-0}))
sed -n "$${line}p" $plan | cut -f$field- | sh
