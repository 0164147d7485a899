import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
import yaml
from custom_components import phantom

from tools import package_bundles
from tools.check_package import CHECKS, Package, failures
from tools.package_bundles import (
    BUNDLES,
    DOWNLOADS,
    LARGEST_FILE_BYTES,
    LARGEST_WEIGHTS_BYTES,
    NECESSARY,
    ROOT,
    WEIGHTS,
    copy_files,
    package_bundle,
    packaged_files,
    write_zip,
)

SEG, CAP = "covid_seg_bundle", "covid_cap_bundle"
ZOO = Path(os.environ.get("MODEL_ZOO", ""))
SCHEMA = Path(os.environ.get("MONAI_META_SCHEMA") or ROOT.parent / "shared" / "schema" / "meta_schema_20240725.json")
HEADINGS = [
    "# Model Overview", "## Data", "### Preprocessing", "## Training configuration", "### Input", "### Output",
    "## Performance", "## MONAI Bundle Commands", "# References", "# License",
]  # fmt: skip
"""Of the READMEs in the Model Zoo, in their order."""

NETWORK = {SEG: {"network_def": {"features": [8, 16]}}, CAP: {"layers": [1, 1, 1, 1], "block_inplanes": [4, 4, 4, 4]}}
"""What makes the networks of inference.json tiny."""

needs_schema = pytest.mark.skipif(
    not SCHEMA.is_file(), reason="no copy of MONAI's metadata schema: name one in MONAI_META_SCHEMA"
)

LEFT_BY_WORK = (
    "cache/scan.pt",
    "eval/summary.json",
    "models/uniform/model.pt",
    "models/resume_checkpoint_epoch=1.pt",
    "configs/.train.yaml.swp",
    "custom_components/__pycache__/loss.pyc",
    "custom_components/loss.pyc",
)


def write(path: Path, content: bytes = b"{}\n") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


@pytest.fixture
def bundle(tmp_path) -> Path:
    """A bundle in form, whose custom_components is a link, as it lies there after work."""
    folder = tmp_path / "repository" / "toy_bundle"
    code = folder.with_name("custom_components")
    code.mkdir(parents=True)
    folder.mkdir()
    (folder / "custom_components").symlink_to("../custom_components")
    for name in (*NECESSARY, "docs/figures/a.png", "custom_components/losses/loss.py", *LEFT_BY_WORK):
        write(folder / name)
    write(folder / "configs/metadata.json", b'{"version": "1.2.3"}\n')
    return folder


@pytest.fixture
def verified(monkeypatch) -> None:
    """Let every package pass."""
    monkeypatch.setattr(package_bundles, "verify", lambda *_: None)


def names_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def give_weights(bundle: Path, size: int, **entry: str) -> None:
    """Weights of that many bytes, and what large_files.yml says of them."""
    write(bundle / WEIGHTS, b"w" * size)
    if entry:
        entry = {"path": WEIGHTS, "url": "https://example.org/model.pt", "hash_type": "sha256", **entry}
        write(bundle / DOWNLOADS, yaml.safe_dump({"large_files": [entry]}).encode())


def test_a_package_holds_the_bundle_and_nothing_that_work_leaves_there(bundle):
    expected = {*NECESSARY, "docs/figures/a.png", "custom_components/losses/loss.py"}
    assert set(packaged_files(bundle)) == expected
    assert list(packaged_files(bundle)) == sorted(expected)


def test_the_link_becomes_a_folder(bundle, tmp_path):
    copy_files(packaged_files(bundle), tmp_path / "copy")
    assert not any(path.is_symlink() for path in (tmp_path / "copy").rglob("*"))
    assert (tmp_path / "copy/custom_components/losses/loss.py").read_bytes() == b"{}\n"


def test_folder_and_zip_get_their_names_and_the_bundle_stays_as_it_is(bundle, tmp_path, verified):
    before = {path: path.stat().st_mtime_ns for path in bundle.parent.rglob("*")}
    folder = package_bundle(bundle, tmp_path / "dist")
    assert folder == tmp_path / "dist" / "toy_bundle"
    assert {path.name for path in folder.parent.iterdir()} == {"toy_bundle", "toy_bundle_v1.2.3.zip"}
    assert {path: path.stat().st_mtime_ns for path in bundle.parent.rglob("*")} == before


def test_a_second_package_replaces_the_first(bundle, tmp_path, verified):
    package_bundle(bundle, tmp_path / "dist")
    (bundle / "docs/figures/a.png").unlink()
    folder = package_bundle(bundle, tmp_path / "dist")
    with zipfile.ZipFile(folder.parent / "toy_bundle_v1.2.3.zip") as archive:
        assert {name.removeprefix("toy_bundle/") for name in archive.namelist()} == names_in(folder)
    assert "docs/figures/a.png" not in names_in(folder)


def test_the_zip_depends_on_contents_alone(tmp_path):
    archives = []
    for number, names in enumerate((("a.txt", "b/c.txt"), ("b/c.txt", "a.txt"))):
        folder = tmp_path / str(number) / "toy_bundle"
        for name in names:
            write(folder / name, name.encode())
            os.utime(folder / name, (1e9 + number, 1e9 + number))
            (folder / name).chmod(0o600 + 0o44 * number)
        archives.append(tmp_path / f"{number}.zip")
        write_zip(folder, archives[-1])
    assert archives[0].read_bytes() == archives[1].read_bytes()
    with zipfile.ZipFile(archives[0]) as archive:
        assert archive.namelist() == ["toy_bundle/a.txt", "toy_bundle/b/c.txt"]
        assert archive.read("toy_bundle/b/c.txt") == b"b/c.txt"


def test_what_fails_leaves_the_older_package_and_nothing_else(bundle, tmp_path, verified, monkeypatch):
    folder = package_bundle(bundle, tmp_path / "dist")
    before = {path.name: path.read_bytes() for path in folder.parent.glob("*.zip")}
    write(bundle / "docs/README.md", b"changed\n")

    def fails(*_):
        raise ValueError("no")

    monkeypatch.setattr(package_bundles, "verify", fails)
    with pytest.raises(ValueError, match="no"):
        package_bundle(bundle, tmp_path / "dist")
    assert {path.name: path.read_bytes() for path in folder.parent.glob("*.zip")} == before
    assert (folder / "docs/README.md").read_bytes() == b"{}\n"
    assert {path.name for path in folder.parent.iterdir()} == {"toy_bundle", *before}


@pytest.mark.parametrize("name", ["LICENSE", "configs/inference.json", "custom_components/__init__.py"])
def test_a_file_that_is_missing_is_named(bundle, name):
    (bundle / name).unlink()
    with pytest.raises(ValueError, match=f"toy_bundle lacks {name}"):
        packaged_files(bundle)


@pytest.mark.parametrize("dist", [".", "toy_bundle", "toy_bundle/dist"])
def test_a_package_never_overwrites_a_bundle(bundle, dist, verified):
    with pytest.raises(ValueError, match=r"would overwrite a bundle.*--dist"):
        package_bundle(bundle, bundle.parent / dist)
    assert (bundle / "custom_components").is_symlink()
    assert not (bundle / "dist").exists()


def test_a_package_never_overwrites_what_it_is_made_of(bundle, tmp_path, verified):
    """Be it a package itself, without a link."""
    folder = package_bundle(bundle, tmp_path / "dist")
    before = names_in(folder)
    with pytest.raises(ValueError, match="would overwrite a bundle"):
        package_bundle(folder, folder.parent)
    assert names_in(folder) == before


def test_a_figure_above_the_limit_is_refused(bundle):
    write(bundle / "docs/figures/a.png", b"p" * LARGEST_FILE_BYTES)
    assert "docs/figures/a.png" in packaged_files(bundle)
    write(bundle / "docs/figures/a.png", b"p" * (LARGEST_FILE_BYTES + 1))
    with pytest.raises(ValueError, match=r"a\.png has 1,048,577 bytes, .* takes 1,048,576. Make it smaller"):
        packaged_files(bundle)


def test_weights_up_to_the_limit_are_packaged_and_larger_ones_have_to_be_uploaded(bundle):
    give_weights(bundle, LARGEST_WEIGHTS_BYTES)
    assert WEIGHTS in packaged_files(bundle)
    give_weights(bundle, LARGEST_WEIGHTS_BYTES + 1)
    with pytest.raises(ValueError, match=f"{WEIGHTS} has 25,000,001 bytes.*Upload it and name it in {DOWNLOADS}"):
        packaged_files(bundle)


def test_uploaded_weights_are_named_and_not_packaged(bundle):
    give_weights(bundle, 5, hash_val=hashlib.sha256(b"wwwww").hexdigest())
    files = packaged_files(bundle)
    assert DOWNLOADS in files
    assert WEIGHTS not in files


def test_other_weights_than_the_uploaded_ones_are_noticed(bundle):
    give_weights(bundle, 5, hash_val=hashlib.sha256(b"other").hexdigest())
    with pytest.raises(ValueError, match=r"model.pt has sha256 [0-9a-f]{64}, large_files.yml says .* Upload this file"):
        packaged_files(bundle)


def test_a_download_without_url_or_hash_is_refused(bundle):
    give_weights(bundle, 5, url="", hash_val="")
    with pytest.raises(ValueError, match=f"an entry of {DOWNLOADS} has no hash_val, url"):
        packaged_files(bundle)


@pytest.fixture(params=BUNDLES)
def package(request, tmp_path) -> Package:
    """A bundle as it is packaged, with a tiny network for inference."""
    return Package(tiny(request.param, tmp_path), SCHEMA)


def tiny(name: str, parent: Path) -> Path:
    folder = parent / name
    copy_files(packaged_files(ROOT / name), folder)
    config = json.loads((folder / "configs/inference.json").read_text(encoding="utf-8"))
    for key, value in NETWORK[name].items():
        config[key] = {**config[key], **value} if isinstance(value, dict) else value
    write(folder / "configs/inference.json", (json.dumps(config, indent=4) + "\n").encode())
    return folder


def test_the_shipped_files_have_the_form_of_the_zoo(package):
    package.files()
    package.json_format()


@pytest.mark.parametrize("name", BUNDLES)
def test_the_readme_has_the_headings_of_the_zoo_in_their_order(name):
    lines = (ROOT / name / "docs/README.md").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line in HEADINGS] == HEADINGS


@needs_schema
def test_metadata_outside_the_schema_are_noticed(package):
    package.schema_of_metadata()
    path = Path(package.metadata)
    write(path, path.read_bytes().replace(b'"version":', b'"edition":'))
    with pytest.raises(ValueError, match="'version' is a required property"):
        package.schema_of_metadata()


def test_a_link_and_a_cache_are_noticed(package):
    (package.folder / "docs/link").symlink_to("README.md")
    with pytest.raises(ValueError, match="docs/link is a link or a cache"):
        package.files()
    (package.folder / "docs/link").unlink()
    (package.folder / "custom_components/__pycache__").mkdir()
    with pytest.raises(ValueError, match="custom_components/__pycache__ is a link or a cache"):
        package.files()


def test_json_that_a_formatter_would_change_is_noticed(package):
    path = Path(package.inference)
    write(path, path.read_bytes().replace(b'    "', b'  "', 1))
    with pytest.raises(ValueError, match=r"configs/inference.json is not what json.dumps"):
        package.json_format()


def test_a_target_that_does_not_exist_is_noticed_in_every_config(package):
    path = package.folder / "configs/evaluate.yaml"
    write(path, path.read_bytes().replace(b"custom_components.LoadWeights", b"custom_components.LoadWeight"))
    with pytest.raises(ValueError, match=r"evaluate.yaml: _target_ custom_components.LoadWeight cannot be imported"):
        package.targets()


def test_code_that_comes_from_elsewhere_is_noticed(package):
    """As it does here, where the repository's package was imported before."""
    with pytest.raises(ValueError, match=r"^custom_components.* was imported from .*, not from the package"):
        package.targets()


def test_a_property_under_another_name_is_noticed(package):
    path = Path(package.inference)
    write(path, re.sub(rb'"(@?)preprocessing"', rb'"\1my_preprocessing"', path.read_bytes()))
    with pytest.raises(ValueError, match=r"configs/inference\.json has no preprocessing"):
        package.properties(("inference.json",))


def test_a_network_of_other_channels_than_the_metadata_say_is_noticed(package):
    package.network()
    metadata = json.loads(Path(package.metadata).read_text(encoding="utf-8"))
    metadata["network_data_format"]["outputs"]["pred"]["num_channels"] = 7
    write(Path(package.metadata), json.dumps(metadata).encode())
    with pytest.raises(ValueError, match=r"output channel number .* doesn't match: `7`"):
        package.network()


def test_the_export_gives_the_networks_logits_and_other_weights_are_noticed(package, monkeypatch):
    package.make_weights(seed=0)
    package.torchscript()
    export = package.weights.with_name("verified.ts").read_bytes()
    package.make_weights(seed=1)
    monkeypatch.setattr("tools.check_package.ckpt_export", lambda _, path, *__, **___: write(Path(path), export))
    with pytest.raises(ValueError, match="TorchScript's logits differ by up to"):
        package.torchscript()


def test_made_weights_are_a_plain_state_dict_that_the_seed_decides(package):
    states = []
    for seed in (0, 0, 1):
        package.make_weights(seed)
        states.append(torch.load(package.weights, weights_only=True))
    name = next(iter(states[0]))
    assert torch.equal(states[0][name], states[1][name])
    assert not torch.equal(states[0][name], states[2][name])


def test_one_failed_check_keeps_no_other_from_running(package, monkeypatch, capsys):
    def broken(_):
        """Fails."""
        raise KeyError("gone")

    monkeypatch.setattr("tools.check_package.CHECKS", (broken, Package.files))
    assert failures(package) == 1
    name = package.folder.name
    assert capsys.readouterr().out == f"{name}: broken: FAILED: KeyError: 'gone'\n{name}: files: ok\n"


def run(command: list[str], cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1", **variables}
    return subprocess.run([sys.executable, *command], cwd=cwd, env=environment, capture_output=True, text=True)


@pytest.mark.slow
@needs_schema
@pytest.mark.parametrize("name", BUNDLES)
def test_a_bundle_with_a_tiny_network_is_packaged_by_the_command(name, tmp_path):
    bundle = tiny(name, tmp_path)
    command = [str(ROOT / "tools/package_bundles.py"), str(bundle), "--dist", "dist", "--schema", str(SCHEMA)]
    done = run(command, tmp_path, PYTHONPATH=str(ROOT))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith(f"{name}: no weights: verified with random ones\n")
    assert [line for line in done.stdout.splitlines() if line.endswith(": ok")] == [
        f"{name}: {check.__name__}: ok" for check in CHECKS
    ]
    assert names_in(tmp_path / "dist" / name) == names_in(bundle)
    assert not (tmp_path / "dist" / name / WEIGHTS).exists()


@pytest.mark.slow
@needs_schema
def test_a_bundle_that_fails_is_not_packaged_and_the_command_says_why(tmp_path):
    bundle = tiny(SEG, tmp_path)
    write(bundle / WEIGHTS, b"no weights")
    command = [str(ROOT / "tools/package_bundles.py"), str(bundle), "--dist", "dist", "--schema", str(SCHEMA)]
    done = run(command, tmp_path, PYTHONPATH=str(ROOT))
    assert done.returncode == 1
    assert f"{SEG} is not packaged, it does not pass its checks" in done.stderr
    assert f"{SEG}: torchscript: FAILED: UnpicklingError" in done.stderr
    assert f"{SEG}: network: ok" in done.stderr
    assert list((tmp_path / "dist").iterdir()) == []


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
        {"workflow_type": "infer", "config_file": files["evaluate.yaml"], "output_dir": str(work / "eval"),
         **weights, **own, **both},
        {"workflow_type": "infer", "config_file": files["inference.json"], "output_dir": str(work / "results"),
         **inference, **own_inference, **both},
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", BUNDLES)
def test_the_package_trains_evaluates_and_infers_in_the_idiom_of_the_zoos_unit_tests(name, tmp_path):
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
@pytest.mark.skipif(not (ZOO / "ci").is_dir(), reason="no checkout of Project-MONAI/model-zoo: name one in MODEL_ZOO")
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
