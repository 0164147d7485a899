"""What `pip install` brings: the package, and beside it configs and weights of both bundles."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
WEIGHTS = {
    f"{bundle}/models/{name}.{kind}"
    for bundle, name in (("covid_cap_bundle", "vbnet"), ("covid_seg_bundle", "model"))
    for kind in ("pt", "json")
}


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The wheel's content, in a folder that is nowhere near the repository."""
    pytest.importorskip("setuptools", minversion="77")
    source, out = tmp_path_factory.mktemp("source") / "copy", tmp_path_factory.mktemp("out")
    kept = ("custom_components", "covid_cap_bundle", "covid_seg_bundle")
    ignored = shutil.ignore_patterns("__pycache__", "eval", "cache", "output", "*.ts", "*.onnx")
    for name in kept:
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    (source / "covid_cap_bundle" / "models" / "model.pt").write_bytes(b"a user's own")
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", out, source]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = out.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(out / "site")
    return out / "site"


def test_the_wheel_contains_package_configs_and_weights_once_each(installed):
    files = {path.relative_to(installed).as_posix() for path in installed.rglob("*") if path.is_file()}
    assert files >= WEIGHTS
    assert {"covid_cap_bundle/configs/inference.json", "custom_components/reports/scan/report.html.j2"} <= files
    viewer = ("viewer.html.j2", "viewer.js", "niivue/niivue.umd.js.gz", "niivue/LICENSE")
    assert {f"custom_components/reports/scan/{name}" for name in viewer} <= files
    assert {
        f"custom_components/serve/page/{name}" for name in ("page.html", "page.css", "page.js", "upload.js")
    } <= files
    assert not any("bundle/custom_components" in name or name.endswith("cap_bundle/models/model.pt") for name in files)


def test_an_installed_package_finds_its_weights(installed, tmp_path):
    program = (
        "from custom_components.diagnosis.pipeline import Diagnosis\n"
        "found = Diagnosis()\n"
        "print(found.segmenter.model.trained_on, '/', found.lesions.model.trained_on, '/', found.classifier)"
    )
    environment = {**os.environ, "PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1].startswith("Zenodo 3757476")
    assert "SIRM / MedSeg" in done.stdout
    assert done.stdout.rstrip().endswith("/ None")
