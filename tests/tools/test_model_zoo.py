"""The rules of MONAI's Model Zoo, by its own programs where they can be had."""

import json
import os
import shutil
from pathlib import Path

import pytest
from custom_components import phantom

from tests.tools.conftest import CAP, SCHEMA, SEG, needs_schema, run, tiny, write
from tools.check_package import Package
from tools.package_bundles import BUNDLES, ROOT, copy_files, packaged_files

ZOO = Path(os.environ.get("MODEL_ZOO", ""))

needs_zoo = pytest.mark.skipif(
    not (ZOO / "ci").is_dir(), reason="no checkout of Project-MONAI/model-zoo: name one in MODEL_ZOO"
)

IDIOM = """
import json, sys
from monai.bundle import ConfigWorkflow
for arguments in json.loads(sys.argv[1]):
    workflow = ConfigWorkflow(**arguments)
    workflow.initialize()
    assert workflow.check_properties() == [], arguments
    workflow.run()
    workflow.finalize()
import custom_components
print(custom_components.__file__)
"""
"""What the unit tests of the Model Zoo do with a bundle."""

SEG_SMALL = {"spatial_size": [32, 32], "network_def#features": [8, 16]}
CAP_SMALL = {"grid": [16, 32, 32], "layers": [1, 1, 1, 1], "block_inplanes": [4, 4, 4, 4], "no_max_pool": True}
SHORT = {"epochs": 1, "num_workers": 0, "fold": 0, "batch_size": 4}


def random_data(name: str, folder: Path) -> None:
    if name == SEG:
        phantom.write_slice_dataset(folder, num_slices=8, size=(40, 36), seed=1, num_patients=4)
    else:
        phantom.write_scan_dataset(folder, num_scans=8, shape=(56, 52, 24), spacing_mm=(6.7, 7.2, 11.7), num_folds=2)


def workflows(name: str, package: Path, work: Path) -> list[dict]:
    """Arguments of training, evaluation and inference."""
    own = {"dataset_dir": str(work / "data"), "bundle_root": str(package)}
    own |= {SEG: SEG_SMALL, CAP: {**CAP_SMALL, "cache_dir": ""}}[name]
    files = {key: str(package / "configs" / key) for key in ("train.yaml", "evaluate.yaml", "inference.json")}
    both = {"meta_file": str(package / "configs/metadata.json"), "logging_file": str(package / "configs/logging.conf")}
    folds = {"num_folds": 4, "draws_per_image": 1} if name == SEG else {}
    weights = {"ckpt_path": str(work / "models/model.pt")}
    inference = weights if name == SEG else {"handlers#0#_disabled_": True}  # DS takes both branches: not loaded
    own_inference = {key: value for key, value in own.items() if key != "cache_dir"}
    return [
        {"workflow_type": "train", "config_file": files["train.yaml"], "ckpt_dir": str(work / "models"),
         "output_dir": str(work / "output"), **SHORT, **folds, **own, **both},
        {"workflow_type": "infer", "config_file": [files["train.yaml"], files["evaluate.yaml"]],
         "output_dir": str(work / "eval"), **weights, **own, **both},
        {"workflow_type": "infer", "config_file": files["inference.json"], "output_dir": str(work / "results"),
         **inference, **own_inference, **both},
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", BUNDLES)
def test_the_package_trains_evaluates_and_infers_as_in_the_unit_tests_of_the_zoo(name, tmp_path):
    package, work = tmp_path / "models" / name, tmp_path / "work"
    copy_files(packaged_files(ROOT / name), package)
    random_data(name, work / "data")
    arguments = json.dumps(workflows(name, package, work))
    done = run(["-P", "-c", IDIOM, arguments], work, PYTHONPATH=str(package))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == str(package / "custom_components/__init__.py")
    assert (work / "eval/summary.json").is_file()
    assert len(list((work / "results").iterdir())) == 8


@pytest.mark.slow
@needs_schema
@needs_zoo
@pytest.mark.parametrize("name", BUNDLES)
def test_the_package_passes_the_full_mode_of_the_zoos_own_ci(name, tmp_path):
    package = Package(tiny(name, tmp_path / "models"), SCHEMA)
    assert name not in (ZOO / "ci/bundle_custom_data.py").read_text(encoding="utf-8")
    package.make_weights()
    write(package.folder / "eval/schema.json", SCHEMA.read_bytes())
    shutil.copyfile(ZOO / "models/model_info.json", tmp_path / "models/model_info.json")
    done = run([str(ZOO / "ci/verify_bundle.py"), "-b", name, "-p", "models", "-m", "full"], tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "export weights into TorchScript module successfully." in done.stdout


FORMATTERS = {
    "isort": ["--check", "models"],
    "black": ["--skip-magic-trailing-comma", "--check", "models"],
    "flake8": ["models", "--count"],
}
"""What the zoo's runtests.sh calls, with the settings of its setup.cfg and pyproject.toml."""

HOOKS = {
    "end_of_file_fixer": "*",
    "trailing_whitespace_fixer": "*",
    "check_yaml": "*.yaml",
    "check_docstring_first": "*.py",
    "pretty_format_json": "*.json",
    "detect_private_key": "*",
    "mixed_line_ending": "*",
}
"""Of the zoo's .pre-commit-config.yaml, and the files that they are given."""

HOOK_ARGUMENTS = {"pretty_format_json": ["--no-sort-keys", "--indent=4"]}


@pytest.fixture(scope="module")
def zoo(tmp_path_factory) -> Path:
    """A zoo of its own settings and our bundles."""
    folder = tmp_path_factory.mktemp("zoo")
    for name in ("setup.cfg", "pyproject.toml"):
        shutil.copyfile(ZOO / name, folder / name)
    for name in BUNDLES:
        copy_files(packaged_files(ROOT / name), folder / "models" / name)
    return folder


@needs_zoo
@pytest.mark.parametrize("program", FORMATTERS)
def test_the_code_is_formatted_as_the_zoos_runtests_asks(program, zoo):
    pytest.importorskip(program, reason=f"needs {program}: pip install -e .[zoo]")
    done = run(["-m", program, *FORMATTERS[program]], zoo)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_zoo
@pytest.mark.parametrize("hook", HOOKS)
def test_the_files_pass_the_hooks_of_the_zoo(hook, zoo):
    pytest.importorskip("pre_commit_hooks", reason="needs pre-commit-hooks: pip install -e .[zoo]")
    text = (path for path in (zoo / "models").rglob(HOOKS[hook]) if path.is_file() and path.suffix != ".png")
    files = [str(path.relative_to(zoo)) for path in text]
    done = run(["-m", f"pre_commit_hooks.{hook}", *HOOK_ARGUMENTS.get(hook, []), *files], zoo)
    assert done.returncode == 0, done.stdout + done.stderr
