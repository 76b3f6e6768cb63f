#!/bin/bash
# docs/launch/mpirun.sh 2 train.py --config configs/base.py
#
# Open MPI starts the processes of one run (on several machines with --hostfile, which see the same folder); JAX finds
# out from it which one each is. Without --bind-to none every process would have one core.
processes=$1
shift
exec mpirun -n "$processes" --bind-to none python "$@"
