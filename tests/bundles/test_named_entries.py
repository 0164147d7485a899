import re
from typing import Any

import pytest
from monai.bundle import ConfigParser

from tests.bundles.conftest import ROOT, nodes

FILES = [
    path
    for path in sorted(ROOT.glob("covid_*_bundle/configs/**/*"))
    if path.suffix in (".yaml", ".json") and path.name not in ("metadata.json", "onnx_export.yaml")
]


def numbered(config: dict[str, Any]) -> list[str]:
    """Ids of list items by their number, among the keys, references and macros of a config."""
    found = [str(key) for node in nodes(config) if isinstance(node, dict) for key in node]
    found += [id_ for node in nodes(config) if isinstance(node, str) for id_ in re.findall(r"[@%][\w#:]+", node)]
    return [id_ for id_ in found if re.search(r"(?:#|::)-?\d+(?:#|:|$)", id_)]


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parents[1].name}/{path.name}")
def test_a_config_names_what_it_changes_and_never_numbers_it(path):
    assert numbered(ConfigParser.load_config_file(path)) == []


@pytest.mark.parametrize(
    "config",
    [{"postprocessing#transforms#1#keys": "pred"}, {"a": {"b": "@handlers::0::path"}}, {"a": ["$%handlers#10 + 1"]}],
)
def test_a_number_would_be_noticed(config):
    assert len(numbered(config)) == 1
    assert numbered({"postprocessing#transforms": [1], "a2#b_3": "@grid", "c": "$@window_hu[0] + @p#x1"}) == []
