from pathlib import Path

import pytest
from custom_components.datalists.case_files import existing_root
from custom_components.datalists.scans import list_scans
from custom_components.datalists.slices import list_cases


@pytest.mark.parametrize("name", ["~", "~a", "~/b", "2020.10", "a,b", "Müller", ".."])
def test_a_folder_that_is_there_is_meant_whatever_its_name(name, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    Path(name).mkdir(parents=True, exist_ok=True)
    assert existing_root(name).samefile(tmp_path / "here" / name)


def test_else_the_home_folder_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    (tmp_path / "me" / "scans").mkdir(parents=True)
    assert existing_root("~/scans") == tmp_path / "me" / "scans"


@pytest.mark.parametrize("list_them", [list_cases, list_scans])
def test_no_data_set_is_refused_with_what_to_write(list_them):
    with pytest.raises(ValueError, match=r"^dataset_dir is missing. Set --dataset_dir /path/to/data, or"):
        list_them(None)
