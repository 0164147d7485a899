import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from custom_components.handlers.load_weights import LoadWeights
from custom_components.weights.model_card import read_card
from monai.bundle import ConfigParser

from tests.bundles.conftest import digests
from tools import monai_label
from tools.monai_label import (
    APP,
    UNTRAINABLE,
    check_diagnosed,
    check_studies,
    files_of,
    guide,
    keeps_other_weights,
    main,
    place_bundle,
    prepare_app,
    server_command,
)
from tools.package_bundles import BUNDLES, ROOT, WEIGHTS

SEG, CAP = "covid_seg_bundle", "covid_cap_bundle"


def write(path: Path, content: str = "{}\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return path


@pytest.fixture
def bundles(tmp_path) -> list[Path]:
    """Two bundles in form, with a link to their code, weights, and what work leaves beside them."""
    write(tmp_path / "repository/custom_components/__init__.py", "first")
    write(tmp_path / "repository/custom_components/__pycache__/old.pyc")
    folders = [tmp_path / "repository" / name for name in BUNDLES]
    for folder in folders:
        for name in ("configs/inference.json", "configs/train.yaml", "docs/README.md", "eval/a.json", "cache/a.pt"):
            write(folder / name)
        write(folder / "models/resume_checkpoint_epoch=1.pt")
        write(folder / WEIGHTS, f"weights of {folder.name}")
        (folder / "custom_components").symlink_to("../custom_components")
    return folders


@pytest.fixture
def python(tmp_path) -> Path:
    return write(tmp_path / "environment/bin/python")


@pytest.fixture(autouse=True)
def fetched(monkeypatch) -> list[Path]:
    """Apps that were fetched, without the environment that has them."""
    found = []

    def fetch(app: Path, python: Path) -> None:
        found.append(app)
        write(app / "main.py", "unmodified")

    monkeypatch.setattr(monai_label, "fetch_app", fetch)
    return found


def test_the_app_gets_the_whole_bundles_and_no_other_files(bundles, python, tmp_path):
    app = prepare_app(tmp_path / "label", bundles, python)
    assert app == tmp_path / "label" / APP
    code = {"custom_components/__init__.py", "configs/inference.json", "docs/README.md", WEIGHTS}
    assert set(digests(app / "model" / SEG)) == {*code, "configs/train.yaml"}
    assert set(digests(app / "model" / CAP)) == code
    assert not [path for path in app.rglob("*") if path.is_symlink() or path.name.startswith(".partial")]


def test_a_training_writes_where_the_server_looks_for_weights(tmp_path):
    place_bundle(ROOT / SEG, tmp_path / SEG)
    config = ConfigParser.load_config_file(tmp_path / SEG / "configs" / "train.yaml")
    assert config["ckpt_dir"] == "$@bundle_root + '/models'"
    assert (tmp_path / SEG / "models" / "model.json").is_file()


def test_the_bundles_are_only_read(bundles, python, tmp_path):
    before = digests(tmp_path / "repository")
    prepare_app(tmp_path / "label", bundles, python)
    assert digests(tmp_path / "repository") == before


def test_a_second_start_updates_code_and_configs_and_keeps_trained_weights(bundles, python, tmp_path, fetched):
    app = prepare_app(tmp_path / "label", bundles, python)
    placed = app / "model" / SEG
    assert not keeps_other_weights(bundles[1], app)
    write(placed / WEIGHTS, "trained in the viewer")
    write(placed / "configs/left.yaml")
    write(tmp_path / "repository/custom_components/__init__.py", "second")
    assert prepare_app(tmp_path / "label", bundles, python) == app
    assert (placed / WEIGHTS).read_text(encoding="utf-8") == "trained in the viewer"
    assert (placed / "custom_components/__init__.py").read_text(encoding="utf-8") == "second"
    assert not (placed / "configs/left.yaml").exists()
    assert fetched == [app]
    assert [keeps_other_weights(bundle, app) for bundle in bundles] == [bundle.name == SEG for bundle in bundles]


def test_a_training_in_the_app_starts_from_the_shipped_weights_with_their_network_and_size(tmp_path):
    placed = tmp_path / "model" / SEG
    place_bundle(ROOT / SEG, placed)
    config = ConfigParser(ConfigParser.load_config_file(str(placed / "configs/train.yaml")))
    LoadWeights(placed / WEIGHTS, config.get_parsed_content("network_def"))()
    assert config.get_parsed_content("spatial_size") == read_card(placed / WEIGHTS)["settings"]["spatial_size"]


def test_a_bundle_without_weights_is_rejected_before_anything_is_written(bundles, python, tmp_path, fetched):
    (bundles[0] / WEIGHTS).unlink()
    with pytest.raises(ValueError, match=rf"{bundles[0].name} has no weights: .* is missing. Train them as .*"):
        prepare_app(tmp_path / "label", bundles, python)
    assert fetched == []
    assert not (tmp_path / "label").exists()


def test_the_other_bundle_is_offered_alone(bundles, python, tmp_path):
    for bundle, other in zip(bundles, reversed(bundles), strict=True):
        (bundle / WEIGHTS).unlink()
        with pytest.raises(ValueError, match=rf"make label BUNDLES={other.name} STUDIES="):
            prepare_app(tmp_path / "label", [bundle], python)
        write(bundle / WEIGHTS)


def test_a_folder_without_bundle_and_a_missing_environment_are_rejected(bundles, python, tmp_path):
    with pytest.raises(ValueError, match=r"repository is not a bundle: it has no configs/inference\.json"):
        prepare_app(tmp_path / "label", [tmp_path / "repository"], python)
    with pytest.raises(ValueError, match=r"nowhere/python does not exist.* make label-setup"):
        prepare_app(tmp_path / "label", bundles, Path("nowhere/python"))


def test_studies_are_a_folder_or_a_server(tmp_path):
    assert check_studies(str(tmp_path)) == str(tmp_path)
    assert check_studies("http://127.0.0.1:8042/dicom-web") == "http://127.0.0.1:8042/dicom-web"
    with pytest.raises(ValueError, match=r"STUDIES is 'nowhere'. Expected a folder of NIfTI volumes, or the address"):
        check_studies("nowhere")
    assert not Path("nowhere").exists()


def test_results_are_a_folder_with_reports(tmp_path):
    with pytest.raises(ValueError, match=r"which has no reports. Expected the output folder of diagnose"):
        check_diagnosed(tmp_path)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "report.json").touch()
    check_diagnosed(tmp_path)
    check_diagnosed(None)


def test_the_server_accepts_connections_from_this_computer_only():
    command = server_command(Path("env/python"), Path("app"), [SEG, CAP], "/scans", 8123)
    pairs = dict(zip(command[4::2], command[5::2], strict=False))
    assert command[:4] == ["env/python", "-m", "monailabel.main", "start_server"]
    assert (pairs["--host"], pairs["--port"], pairs["--studies"]) == ("127.0.0.1", "8123", "/scans")
    assert pairs["--uvicorn_app"] == "label_server:app"
    assert f"--conf models {SEG},{CAP} --conf zoo_source local --conf sam2 false" in " ".join(command)


def test_the_command_the_addresses_and_the_source_of_the_weights_are_printed():
    told = guide(["python", "-m", "monailabel.main"], 8123, {SEG: Path("app/model.pt")})
    assert "MONAI Label: python -m monailabel.main\n" in told
    assert "server: http://127.0.0.1:8123\n" in told
    assert "http://127.0.0.1:8123/ohif/\n" in told
    assert f"{SEG}: the app keeps its own weights; to use the bundle's, delete app/model.pt\n" in told


def test_a_check_lists_what_is_missing_and_writes_nothing(bundles, tmp_path, capsys, fetched):
    given = [*map(str, bundles), "--studies", str(tmp_path), "--app", str(tmp_path / "label"), "--check"]
    main(given)
    (bundles[1] / WEIGHTS).unlink()
    with pytest.raises(SystemExit) as ended:
        main(given)
    assert ended.value.code == 1
    assert capsys.readouterr().err.startswith(f"{bundles[1].name} has no weights")
    assert not (tmp_path / "label").exists()


@pytest.mark.slow
def test_without_weights_make_label_refuses_before_it_installs_anything(tmp_path):
    bare = ["make", "-o", "none", f"BIN={Path(sys.executable).parent}", "STAMP=none", "PYTHON=false", "label"]
    unnamed = subprocess.run(bare, cwd=ROOT, capture_output=True, encoding="utf-8", check=False)
    assert unnamed.returncode == 2
    assert "make label STUDIES=/path/to/studies" in unnamed.stdout
    write(tmp_path / "weightless_bundle/configs/inference.json")
    named = [*bare, f"STUDIES={tmp_path}", f"BUNDLES={tmp_path / 'weightless_bundle'}", "LABEL_STAMP=never"]
    refused = subprocess.run(named, cwd=ROOT, capture_output=True, encoding="utf-8", check=False)
    assert refused.returncode == 2
    assert "weightless_bundle has no weights" in refused.stderr


def test_the_files_that_are_not_copied_exist_in_the_bundle():
    for name, file in UNTRAINABLE.items():
        assert (ROOT / name / file).is_file()
        assert file not in files_of(ROOT / name)


def test_the_environment_has_the_versions_of_the_metadata_except_for_two():
    pins = dict(re.findall(r"^([\w-]+)(?:\[\w+\])?==(\S+)$", (ROOT / "requirements/label.txt").read_text(), re.M))
    for name in BUNDLES:
        metadata = json.loads((ROOT / name / "configs/metadata.json").read_text(encoding="utf-8"))
        wanted = {**metadata["required_packages_version"], "torch": metadata["pytorch_version"]}
        wanted |= {"monai": metadata["monai_version"], "numpy": metadata["numpy_version"]}
        assert {key for key, version in wanted.items() if pins[key] != version} == {"numpy", "pydicom"}
    assert pins["numpy"].startswith("1.26.")
    assert pins["pydicom"].startswith("2.")
