import json
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from custom_components.datalists.case_files import existing_root
from custom_components.datalists.scans import list_scans
from custom_components.datalists.slices import list_cases


@pytest.mark.parametrize("name", ["~", "~a", "~/b", "2020.10", "a,b", "Müller", ".."])
def test_an_existing_folder_is_used_whatever_its_name(name, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    Path(name).mkdir(parents=True, exist_ok=True)
    assert existing_root(name).samefile(tmp_path / "here" / name)


def test_otherwise_a_tilde_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    (tmp_path / "me" / "scans").mkdir(parents=True)
    assert existing_root("~/scans") == tmp_path / "me" / "scans"


LISTS = {"slices": partial(list_cases, require_labels=False), "scans": partial(list_scans, labelled=False)}


@pytest.fixture(params=LISTS)
def list_images(request):
    """Both functions, for images without masks."""
    return LISTS[request.param]


def test_a_missing_data_set_is_an_error_with_the_option(list_images):
    with pytest.raises(ValueError, match=r"^dataset_dir is missing. Set --dataset_dir /path/to/data, or"):
        list_images(None)


def test_images_of_the_same_name_are_an_error_if_results_have_their_names(list_images, tmp_path):
    cases = [{"case_id": name, "image": f"{name}/image.nii.gz"} for name in ("a", "b")]
    path = tmp_path / "list.json"
    path.write_text(json.dumps({"cases": cases}), encoding="utf-8")
    with pytest.raises(ValueError, match=r"names of images occur more than once: image\. Results are named after"):
        list_images(path, check_files=False)


def test_a_broken_series_is_reported_unless_files_are_not_checked(list_images, tmp_path, write_series, hu):
    write_series(hu, name="scans/P002")
    write_series(hu, name="scans/P003", edit={3: {"Modality": "MR"}})
    with pytest.raises(ValueError, match=r"has 1 problem:\n  - image: Case P003: .* is of modality MR"):
        list_images(tmp_path / "scans")
    assert len(list_images(tmp_path / "scans", check_files=False)) == 2


def test_the_word_phantom_lists_the_synthetic_data_set(list_images, tmp_path, write_nifti, hu, monkeypatch):
    write_nifti(tmp_path / "images" / "a.nii", hu.astype("int16"))
    module = SimpleNamespace(phantom_dataset=lambda: tmp_path, phantom_scan_dataset=lambda: tmp_path)
    monkeypatch.setitem(sys.modules, "custom_components.phantom", module)
    assert list_images("phantom") == list_images(tmp_path) != []
