"""One version of the package and its bundles, and one pin of each library, in all files that name them."""

import json
from pathlib import Path

import pytest
from custom_components import __version__

ROOT = Path(__file__).resolve().parents[1]
BUNDLES = ("covid_seg_bundle", "covid_cap_bundle")
PLACES = {
    **dict.fromkeys((f"{bundle}/configs/metadata.json" for bundle in BUNDLES), '"version": "{}"'),
    "CHANGELOG.md": "\n## {}\n",
    "CITATION.cff": "\nversion: {}\n",
    "deploy/covid_seg_app/app.yaml": "\n  version: {}\n",
    "deploy/covid_cap_app/app.yaml": "\n  version: {}\n",
}
PINS = ("constraints.txt", "deploy/covid_seg_app/requirements.txt", "deploy/covid_cap_app/requirements.txt")


def metadata_of(bundle):
    return json.loads((ROOT / bundle / "configs/metadata.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("file", PLACES)
def test_every_file_has_the_version_of_the_package(file):
    assert PLACES[file].format(__version__) in (ROOT / file).read_text(encoding="utf-8")


@pytest.mark.parametrize("bundle", BUNDLES)
def test_the_version_is_the_first_and_newest_of_the_bundles_changelog(bundle):
    versions = list(metadata_of(bundle)["changelog"])
    newest = max(versions, key=lambda version: [int(part) for part in version.split(".")])
    assert __version__ == newest == versions[0]


@pytest.mark.parametrize("file", PINS)
@pytest.mark.parametrize("bundle", BUNDLES)
def test_pinned_versions_are_those_of_the_metadata(bundle, file):
    if file.startswith("deploy") and bundle.split("_")[1] not in file:
        pytest.skip("the app of the other bundle")
    lines = (ROOT / file).read_text(encoding="utf-8").lower().splitlines()  # pip does not distinguish cases
    pins = dict(line.split("==") for line in lines if "==" in line)
    metadata = metadata_of(bundle)
    required = {**metadata["required_packages_version"], "torch": metadata["pytorch_version"]}
    required |= {"monai": metadata["monai_version"], "numpy": metadata["numpy_version"]}
    assert {name: pins[name.lower()] for name in required} == required
