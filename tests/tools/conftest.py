import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tools.package_bundles import ROOT, copy_files, packaged_files

SEG, CAP = "covid_seg_bundle", "covid_cap_bundle"
SCHEMA = Path(os.environ.get("MONAI_META_SCHEMA") or ROOT.parent / "shared" / "schema" / "meta_schema_20240725.json")
NETWORK = {SEG: {"network_def": {"features": [8, 16]}}, CAP: {"layers": [1, 1, 1, 1], "block_inplanes": [4, 4, 4, 4]}}
"""What makes the networks of inference.json tiny."""

needs_schema = pytest.mark.skipif(
    not SCHEMA.is_file(), reason="no copy of MONAI's metadata schema: name one in MONAI_META_SCHEMA"
)


def write(path: Path, content: bytes = b"{}\n") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def names_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def tiny(name: str, parent: Path) -> Path:
    folder = parent / name
    copy_files(packaged_files(ROOT / name), folder)
    config = json.loads((folder / "configs/inference.json").read_text(encoding="utf-8"))
    for key, value in NETWORK[name].items():
        config[key] = {**config[key], **value} if isinstance(value, dict) else value
    write(folder / "configs/inference.json", (json.dumps(config, indent=4) + "\n").encode())
    return folder


def run(command: list[str], cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1", **variables}
    return subprocess.run([sys.executable, *command], cwd=cwd, env=environment, capture_output=True, encoding="utf-8")
