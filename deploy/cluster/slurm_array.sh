#!/bin/bash
# Diagnose a folder of scans as an array of jobs, without Ray. Each job takes every n-th scan; to repeat the job repeats
# nothing that is finished. All jobs write into one folder, on a file system with flock.
#
#   sbatch --array=0-31 deploy/cluster/slurm_array.sh /shared/scans /shared/results [further options of diagnose]
#
#SBATCH --job-name=diagnose
#SBATCH --cpus-per-task=2
#SBATCH --mem=8G
#SBATCH --time=24:00:00
#SBATCH --requeue
set -euo pipefail

scans=$(realpath "$1")
results=$(realpath -m "$2")
shift 2
number=$SLURM_ARRAY_TASK_ID
count=$SLURM_ARRAY_TASK_COUNT
first=${SLURM_ARRAY_TASK_MIN:-0}

shard=$(mktemp -d)
trap 'rm -rf "$shard"' EXIT
place=0
while IFS= read -r -d '' scan; do
    if ((place % count == number - first)); then
        ln -s "$scan" "$shard/"
    fi
    place=$((place + 1))
done < <(find "$scans" -mindepth 1 -maxdepth 1 -not -name '.*' -print0 | LC_ALL=C sort -z)
if [ -z "$(ls -A "$shard")" ]; then
    echo "Job $number of $count has no scan."
    exit 0
fi

export OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-2}
python -m custom_components diagnose "$shard" --output_dir "$results" "$@"
