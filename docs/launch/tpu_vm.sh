#!/bin/bash
# docs/launch/tpu_vm.sh NAME ZONE CHIPS BUCKET train.py --config configs/gpt2.py      (not run by us)
#
# Makes a TPU slice (CHIPS is an accelerator type, v5litepod-16), installs jaxgpt on all of its machines and starts the
# same command on each; JAX finds out from the TPU which process is which. What --run.folder names must be the same on
# all machines, here a bucket that they may write to. Delete the slice afterwards: it costs as long as it is there.
set -euo pipefail
name=$1 zone=$2 chips=$3 bucket=$4
shift 4
gcloud compute tpus tpu-vm create "$name" --zone "$zone" --accelerator-type "$chips" --version v2-alpha-tpuv5-lite
gcloud compute tpus tpu-vm scp --recurse --worker=all --zone "$zone" . "$name":jaxgpt
machines=$(gcloud compute tpus tpu-vm describe "$name" --zone "$zone" --format 'value(networkEndpoints.len())')
gcloud compute tpus tpu-vm ssh "$name" --zone "$zone" --worker=all --command "
    cd jaxgpt && pip install --quiet -e '.[tpu,gcs]' &&
    JAX_NUM_PROCESSES=$machines python $* --run.folder gs://$bucket/runs"
echo "delete it: gcloud compute tpus tpu-vm delete $name --zone $zone"
