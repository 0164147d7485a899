import json
from pathlib import Path

import pytest
from custom_components.datalists.datalist_file import listed_path, new_datalist, path_inside, write_datalist
from hypothesis import given
from hypothesis import strategies as st

NAMES = st.lists(st.text("ab1. ", min_size=1).filter(lambda name: set(name) - {".", " "}), min_size=1, max_size=4)


@given(NAMES, NAMES)
def test_a_listed_path_leads_back_to_its_file(folder, file):
    root = Path("/").joinpath(*folder)
    for path in (root.joinpath(*file), Path("/").joinpath(*file)):
        assert path_inside(root, listed_path(root, path)) == path


def test_paths_in_a_datalist_are_relative_to_its_folder(tmp_path):
    cases = [{"case_id": "1", "image": str(tmp_path / "images" / "1.nii"), "site": "/not/a/path"}]
    write_datalist(cases, tmp_path / "list.json", path_keys=("image",))
    assert json.loads((tmp_path / "list.json").read_text()) == {
        "cases": [{"case_id": "1", "image": "images/1.nii", "site": "/not/a/path"}]
    }


def test_a_datalist_is_never_overwritten_and_always_json(tmp_path):
    (tmp_path / "mine.json").write_text("mine")
    with pytest.raises(ValueError, match=r"mine.json exists and is not overwritten. Set --output to another file"):
        new_datalist(tmp_path / "mine.json")
    with pytest.raises(ValueError, match="is not a JSON file"):
        new_datalist(tmp_path)
    with pytest.raises(ValueError, match="cannot be written to"):
        new_datalist(tmp_path / "mine.json" / "list.json")
    assert (tmp_path / "mine.json").read_text() == "mine"
