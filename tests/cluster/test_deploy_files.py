"""The files of deploy/cluster, as far as they can be checked without a cluster."""

import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
CLUSTER = ROOT / "deploy/cluster"
STAND_IN = """#!/bin/sh
while [ "$1" != diagnose ]; do shift; done
for scan in "$2"/*; do test -e "$scan" && echo "$(basename "$scan") $3 $4 $5" >> "$SEEN"; done
"""
INSTRUCTIONS = {"FROM", "ARG", "ENV", "WORKDIR", "COPY", "RUN", "USER", "CMD"}


@pytest.mark.parametrize("script", sorted(CLUSTER.glob("*.sh")), ids=lambda path: path.name)
def test_a_script_is_valid_bash_and_can_be_started(script):
    subprocess.run(["bash", "-n", script], check=True)
    assert os.access(script, os.X_OK)
    text = script.read_text(encoding="utf-8")
    assert "set -euo pipefail" in text
    assert "#SBATCH --requeue" in text


@pytest.mark.parametrize(("count", "first"), [(1, 0), (3, 0), (3, 1), (9, 0)])
def test_the_jobs_of_an_array_have_each_scan_once(tmp_path, count, first):
    scans, seen = tmp_path / "my scans", tmp_path / "seen"
    names = [f"s{number}.nii.gz" for number in range(5)] + ["a study"]
    for name in names[:-1]:
        scans.mkdir(exist_ok=True)
        (scans / name).touch()
    (scans / names[-1]).mkdir()
    (scans / ".hidden").touch()
    (tmp_path / "python").write_text(STAND_IN)
    (tmp_path / "python").chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "SEEN": str(seen)}
    for number in range(first, first + count):
        array = {"ID": number, "COUNT": count, "MIN": first}
        job = {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in array.items()}
        words = ["bash", CLUSTER / "slurm_array.sh", scans, tmp_path / "out", "--viewer False"]
        subprocess.run(words, env={**environment, **job, "TMPDIR": str(tmp_path)}, check=True)
    lines = seen.read_text(encoding="utf-8").splitlines()
    assert sorted(lines) == sorted(f"{name} --output_dir {tmp_path / 'out'} --viewer False" for name in names)
    assert not list(tmp_path.glob("tmp.*"))


def test_the_manifest_has_the_keys_of_a_ray_job_and_nodes_that_share_the_data():
    job = yaml.safe_load((CLUSTER / "kuberay.yaml").read_text(encoding="utf-8"))
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    assert job["spec"].keys() == {"entrypoint", "shutdownAfterJobFinishes", "backoffLimit", "rayClusterSpec"}
    cluster = job["spec"]["rayClusterSpec"]
    assert cluster.keys() == {"rayVersion", "authOptions", "headGroupSpec", "workerGroupSpecs"}
    assert f"ARG RAY_VERSION={cluster['rayVersion']}\n" in (CLUSTER / "Dockerfile").read_text(encoding="utf-8")
    assert cluster["authOptions"] == {"mode": "token"}
    (workers,) = cluster["workerGroupSpecs"]
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert workers.keys() == {"groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"}
    pods = [group["template"]["spec"] for group in (cluster["headGroupSpec"], workers)]
    images = {pod["containers"][0]["image"] for pod in pods}
    mounts = [(pod["containers"][0]["volumeMounts"], pod["volumes"]) for pod in pods]
    assert len(images) == 1
    assert mounts[0] == mounts[1]
    words = job["spec"]["entrypoint"].split()
    assert words[:4] == ["python", "-m", "custom_components", "diagnose"]
    from custom_components.command_line.verbs import read_verb

    read_verb("diagnose").arguments(words[4:])


def test_the_container_file_copies_what_is_there_and_installs_the_extra():
    text = (CLUSTER / "Dockerfile").read_text(encoding="utf-8")
    lines = [line for line in text.replace("\\\n", " ").splitlines() if line and not line.startswith("#")]
    assert {line.split()[0] for line in lines} == INSTRUCTIONS
    copied = [word for line in lines if line.startswith("COPY") for word in line.split()[1:-1]]
    assert all((ROOT / word).exists() for word in copied)
    assert '".[cluster]"' in text
    assert re.search(r"^cluster = \[\"ray\[default\]", (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.M)
    assert lines[-2:] == ["WORKDIR /home/ray", 'CMD ["python", "-m", "custom_components", "--help"]']
    assert "USER ray" in lines
