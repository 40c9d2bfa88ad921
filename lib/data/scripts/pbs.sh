#!/bin/sh
# Line N of the plan is run N. Runs that are done end at once; submit again for the rest:
#   qsub pbs.sh
#PBS -N $short
#PBS -J 1-$runs
#PBS -l select=1:ncpus=1:mem=4gb
#PBS -l walltime=08:00:00
#PBS -r y
export CORES=1  # as many as a run is given above
line=$$((PBS_ARRAY_INDEX + $${OFFSET:-0}))
sed -n "$${line}p" $plan | cut -f$field- | sh
