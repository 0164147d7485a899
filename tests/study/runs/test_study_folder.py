import shutil

import pytest
from custom_components.study.runs.study_folder import check_study_folder, study_folder


def test_a_new_an_empty_and_the_studys_own_folder_are_accepted(tmp_path):
    for folder in (tmp_path / "new" / "er", tmp_path, tmp_path):
        with study_folder(folder, "covid_cap_bundle"):
            assert (folder / "study.json").is_file()
        shutil.rmtree(tmp_path / "new", ignore_errors=True)


def test_a_study_of_the_other_bundle_is_refused(tmp_path):
    with study_folder(tmp_path, "covid_seg_bundle"):
        pass
    with pytest.raises(
        ValueError, match=r"contains a study of covid_seg_bundle. Choose another folder for covid_cap_bundle"
    ):
        check_study_folder(tmp_path, "covid_cap_bundle")
