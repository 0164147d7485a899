#!/bin/bash
# Diagnose a folder of scans by a Ray cluster on the nodes of one job. The same command resumes.
#
#   sbatch --nodes=8 deploy/cluster/slurm_ray.sh /shared/scans /shared/results [further options of diagnose]
#
#SBATCH --job-name=diagnose-ray
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --mem=64G
#SBATCH --time=24:00:00
#SBATCH --requeue
set -euo pipefail

scans=$(realpath "$1")
results=$(realpath -m "$2")
shift 2
export RAY_USAGE_STATS_ENABLED=0
export RAY_AUTH_MODE=token           # without it, any user of these nodes could run programs as you
RAY_AUTH_TOKEN=$(python -c "import secrets; print(secrets.token_hex(32))")
export RAY_AUTH_TOKEN
cpus=${SLURM_CPUS_PER_TASK:-16}
port=${RAY_PORT:-6379}
nodes=$(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=$(head -n 1 <<<"$nodes")
address=$(srun --nodes=1 --ntasks=1 -w "$head" hostname --ip-address | awk '{print $1}'):$port

# Ray on each node ends with this job; the dashboard is at port 8265 of the head, for this node only.
srun --nodes=1 --ntasks=1 -w "$head" ray start --head --port="$port" --num-cpus="$cpus" --block &
sleep 20
if [ "$SLURM_JOB_NUM_NODES" -gt 1 ]; then
    srun --nodes="$((SLURM_JOB_NUM_NODES - 1))" --exclude="$head" \
        ray start --address="$address" --num-cpus="$cpus" --block &
    sleep 10
fi

python -m custom_components diagnose "$scans" --output_dir "$results" --engine ray --address "$address" "$@"
