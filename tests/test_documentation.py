"""Every command of the READMEs runs as it is written, on a tiny phantom data set and a tiny network."""

import json
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from custom_components import __version__, phantom

ROOT = Path(__file__).resolve().parents[1]
READMES = ("README.md", "covid_seg_bundle/docs/README.md")
SMALL = {"--spatial_size": "[32, 32]", "--network_def#features": "[8, 16]"}
SHORT = {**SMALL, "--epochs": "1", "--draws_per_image": "1", "--num_workers": "0", "--num_folds": "4", "--fold": "0"}


def commands(readme):
    """Lines of the fenced blocks that start a program."""
    blocks = re.findall(r"^```\n(.*?)^```", (ROOT / readme).read_text(encoding="utf-8"), re.S | re.M)
    lines = [line.split("  #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if re.match(r"(python|torchrun|make|cd)\b", line)]


def bundle_commands():
    found = dict.fromkeys(line for readme in READMES for line in commands(readme) if "monai.bundle" in line)
    return sorted(found, key=lambda line: " training " not in line)  # what is trained first is then applied


def with_options(arguments, options):
    """Arguments with options set, replacing those that stand there with a dashed name."""
    for name, value in options.items():
        if name in arguments:
            arguments[arguments.index(name) + 1] = value
        else:
            arguments += [name, value]
    return arguments


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """A bundle folder of its own, a data set, a scan, a trained checkpoint."""
    root = tmp_path_factory.mktemp("readme")
    shutil.copytree(ROOT / "covid_seg_bundle", root / "bundle", symlinks=False)
    phantom.write_slice_dataset(root / "data", num_slices=8, size=(40, 40), seed=1, num_patients=4)
    run(["--config_file", "configs/train.yaml", "--dataset_dir", str(root / "data")], "training", root, SHORT)
    return root


def run(arguments, verb, root, options):
    argv = ["monai.bundle", "run", *([verb] if verb else []), *with_options(list(arguments), options)]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root / "bundle")
        patch.setattr(sys, "argv", argv)
        runpy.run_module("monai.bundle", run_name="__main__", alter_sys=False)


def small_options(line, root):
    if "training" not in line:
        return {**SMALL, **({"--num_folds": "4", "--fold": "0"} if "evaluating" in line else {})}
    return {**SHORT, "--ckpt_dir": str(root / "others" / str(abs(hash(line))))}


@pytest.mark.parametrize("line", bundle_commands())
def test_a_bundle_command_of_the_readmes_runs_as_written(line, places, monkeypatch):
    scan = places / "data" / "images" / "003.png"
    here = {"/path/to/data": str(places / "data"), "/path/to/scan": str(scan), "/path/to/results": str(places / "out")}
    words = [here.get(word, word) for word in shlex.split(line)]
    if words[0] == "torchrun":
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        options = with_options(words, small_options(line, places))
        subprocess.run(
            [sys.executable, "-m", "torch.distributed.run", *options[1:]],
            cwd=places / "bundle",
            check=True,
            timeout=400,
        )
        return
    assert words[:4] == ["python", "-m", "monai.bundle", "run"]
    verb = None if words[4].startswith("--") else words[4]
    run(words[4 if verb is None else 5 :], verb, places, small_options(line, places))
    if "inference" in line:
        assert {path.name for path in (places / "out" / "003").iterdir()} >= {"003_seg.nii.gz", "003_lesions.json"}


def test_the_make_verbs_of_the_readme_exist_and_bare_make_lists_them():
    listed = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    named = set(re.findall(r"make ([a-z-]+)", (ROOT / "README.md").read_text(encoding="utf-8") + listed))
    for verb in named:
        subprocess.run(["make", "-n", verb], cwd=ROOT, capture_output=True, check=True)
    assert {"demo", "test", "check", "bench"} <= named


def test_the_demo_runs_from_phantom_to_report(tmp_path):
    """The recipe itself, on few slices and for one epoch, with this interpreter instead of a new .venv."""
    (tmp_path / "covid_seg_bundle").symlink_to(ROOT / "covid_seg_bundle")
    small = ["STAMP=none", f"BIN={Path(sys.executable).parent}", "DEMO_SLICES=20", "DEMO_EPOCHS=1"]
    (tmp_path / "none").touch()
    command = ["make", "-f", str(ROOT / "Makefile"), "-o", "none", "demo", *small]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "| pleural effusion |" in done.stdout
    assert (tmp_path / "demo/results/scan/scan_seg.nii.gz").is_file()
    assert list((tmp_path / "demo/eval").glob("*/*_overlay_*.png"))


def test_links_of_the_readmes_lead_somewhere():
    for readme in READMES:
        folder = (ROOT / readme).parent
        for target in re.findall(r"\]\((?!http)([^)]+)\)", (ROOT / readme).read_text(encoding="utf-8")):
            assert (folder / target.split("#")[0]).exists(), f"{readme} links to {target}"


def test_versions_agree():
    metadata = (ROOT / "covid_seg_bundle/configs/metadata.json").read_text(encoding="utf-8")
    assert f'"version": "{__version__}"' in metadata
    assert f'"changelog": {{\n        "{__version__}"' in metadata
    assert f"\n## {__version__}\n" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"\nversion: {__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


def test_pinned_versions_of_the_metadata_are_those_of_the_constraints():
    metadata = json.loads((ROOT / "covid_seg_bundle/configs/metadata.json").read_text(encoding="utf-8"))
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    required = {**metadata["required_packages_version"], "torch": metadata["pytorch_version"]}
    required |= {"monai": metadata["monai_version"], "numpy": metadata["numpy_version"]}
    assert {name: pins[name] for name in required} == required
