import json
import re
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from custom_components import AttentionResNet, DualSamplingNet
from custom_components.weights.model_card import write_card

from tests.tools.conftest import SCHEMA, needs_schema, tiny, write
from tools.check_package import Package, failures
from tools.package_bundles import BUNDLES, ROOT

HEADINGS = [
    "# Model Overview", "## Data", "### Preprocessing", "## Training configuration", "### Input", "### Output",
    "## Performance", "## MONAI Bundle Commands", "# References", "# License",
]  # fmt: skip
"""Of the READMEs in the Model Zoo, in their order."""


@pytest.fixture(params=BUNDLES)
def package(request, tmp_path) -> Package:
    """A bundle as it is packaged, with a tiny network for inference."""
    return Package(tiny(request.param, tmp_path), SCHEMA)


def test_the_shipped_files_have_the_form_of_the_zoo(package):
    package.files()
    package.json_format()


@pytest.mark.parametrize("name", BUNDLES)
def test_the_readme_has_the_headings_of_the_zoo_in_their_order(name):
    lines = (ROOT / name / "docs/README.md").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line in HEADINGS] == HEADINGS


@needs_schema
def test_metadata_outside_the_schema_are_reported(package):
    package.schema_of_metadata()
    path = Path(package.metadata)
    write(path, path.read_bytes().replace(b'"version":', b'"edition":'))
    with pytest.raises(ValueError, match="'version' is a required property"):
        package.schema_of_metadata()


def test_without_network_and_schema_the_other_checks_are_done(package, monkeypatch, capsys):
    def refuse(*args, **kwargs):
        raise URLError("no network")

    monkeypatch.setattr("monai.apps.utils._download_with_progress", refuse)
    alone = Package(package.folder)
    monkeypatch.setattr("tools.check_package.CHECKS", (Package.files, Package.schema_of_metadata))
    assert failures(alone) == 0
    name = package.folder.name
    said = capsys.readouterr().out
    assert f"{name}: files: ok" in said
    assert f"{name}: schema_of_metadata: skipped: MONAI's schema is not available" in said


def test_a_link_and_a_cache_are_reported(package):
    (package.folder / "docs/link").symlink_to("README.md")
    with pytest.raises(ValueError, match="docs/link is a link or a cache"):
        package.files()
    (package.folder / "docs/link").unlink()
    (package.folder / "custom_components/__pycache__").mkdir()
    with pytest.raises(ValueError, match="custom_components/__pycache__ is a link or a cache"):
        package.files()


def test_json_that_a_formatter_would_change_is_reported(package):
    path = Path(package.inference)
    write(path, path.read_bytes().replace(b'    "', b'  "', 1))
    with pytest.raises(ValueError, match=r"configs/inference.json is not what json.dumps"):
        package.json_format()


def test_a_target_that_does_not_exist_is_reported_in_every_config(package):
    path = package.folder / "configs/evaluate.yaml"
    write(path, path.read_bytes().replace(b"custom_components.LoadWeights", b"custom_components.LoadWeight"))
    with pytest.raises(ValueError, match=r"evaluate.yaml: _target_ custom_components.LoadWeight cannot be imported"):
        package.targets()


def test_code_from_elsewhere_is_reported(package):
    """As it does here, where the repository's package was imported before."""
    with pytest.raises(ValueError, match=r"^custom_components.* was imported from .*, not from the package"):
        package.targets()


def test_a_property_under_another_name_is_reported(package):
    path = Path(package.inference)
    write(path, re.sub(rb'"(@?)preprocessing"', rb'"\1my_preprocessing"', path.read_bytes()))
    with pytest.raises(ValueError, match=r"configs/inference\.json has no preprocessing"):
        package.properties([("inference.json",)])


def test_a_network_with_other_channels_than_in_the_metadata_is_reported(package):
    package.network()
    metadata = json.loads(Path(package.metadata).read_text(encoding="utf-8"))
    metadata["network_data_format"]["outputs"]["pred"]["num_channels"] = 7
    write(Path(package.metadata), json.dumps(metadata).encode())
    with pytest.raises(ValueError, match=r"output channel number .* doesn't match: `7`"):
        package.network()


def test_the_export_gives_the_networks_logits_and_other_weights_are_reported(package, monkeypatch):
    package.make_weights(seed=0)
    package.torchscript()
    export = package.weights.with_name("verified.ts").read_bytes()
    package.make_weights(seed=1)
    monkeypatch.setattr("tools.check_package.ckpt_export", lambda _, path, *__, **___: write(Path(path), export))
    with pytest.raises(ValueError, match="TorchScript's logits differ by up to"):
        package.torchscript()


def test_weights_of_another_network_are_checked_with_the_network_of_their_card(tmp_path):
    folder = tiny("covid_cap_bundle", tmp_path)
    inference = folder / "configs/inference.json"
    shrunk = json.loads(inference.read_text(encoding="utf-8"))
    arguments = {name: shrunk[name] for name in ("layers", "block_inplanes")}
    write(inference, (ROOT / "covid_cap_bundle/configs/inference.json").read_bytes())
    package = Package(folder, SCHEMA)
    network = DualSamplingNet(AttentionResNet(**arguments), AttentionResNet(**arguments))
    package.weights.parent.mkdir(exist_ok=True)
    torch.save(network.state_dict(), package.weights)
    write_card(package.weights, {"settings": arguments})
    package.torchscript()


def test_new_weights_are_a_state_dict_that_depends_only_on_the_seed(package):
    states = []
    for seed in (0, 0, 1):
        package.make_weights(seed)
        states.append(torch.load(package.weights, weights_only=True))
    name = next(iter(states[0]))
    assert torch.equal(states[0][name], states[1][name])
    assert not torch.equal(states[0][name], states[2][name])


def test_a_failed_check_does_not_stop_the_others(package, monkeypatch, capsys):
    def broken(_):
        """Fails."""
        raise KeyError("gone")

    monkeypatch.setattr("tools.check_package.CHECKS", (broken, Package.files))
    assert failures(package) == 1
    name = package.folder.name
    assert capsys.readouterr().out == f"{name}: broken: FAILED: KeyError: 'gone'\n{name}: files: ok\n"
