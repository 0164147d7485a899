import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from monai.bundle import verify_metadata

from tests.bundles.conftest import ROOT

BUNDLES = ["covid_cap_bundle", "covid_seg_bundle"]
SCHEMA_VARIABLE = "MONAI_META_SCHEMA"
SCHEMA = Path(os.environ.get(SCHEMA_VARIABLE) or ROOT.parent / "shared" / "schema" / "meta_schema_20240725.json")


def metadata_of(bundle: str) -> dict[str, Any]:
    return json.loads((ROOT / bundle / "configs" / "metadata.json").read_text(encoding="utf-8"))


@pytest.mark.skipif(not SCHEMA.is_file(), reason=f"no copy of MONAI's metadata schema: name one in {SCHEMA_VARIABLE}")
@pytest.mark.parametrize("bundle", BUNDLES)
def test_the_metadata_follow_the_schema(bundle):
    meta_file = ROOT / bundle / "configs" / "metadata.json"
    assert metadata_of(bundle)["schema"].endswith("meta_schema_20240725.json")
    verify_metadata(meta_file=str(meta_file), filepath=str(SCHEMA))


@pytest.mark.parametrize("bundle", BUNDLES)
def test_every_required_package_is_a_dependency_of_the_project_and_pinned(bundle):
    dependencies = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    required = metadata_of(bundle)["required_packages_version"]
    declared = set(re.findall(r'^    "([\w-]+)[>=]=', dependencies, re.MULTILINE))
    assert set(required) <= declared
    assert all(re.fullmatch(r"\d+(\.\d+)+", version) for version in required.values())
