import pytest
from custom_components.study.runs.study_folder import check_study_folder, study_folder


def test_a_new_an_empty_and_the_studys_own_folder_are_accepted(tmp_path):
    for folder in (tmp_path / "new" / "er", tmp_path, tmp_path):
        check_study_folder(folder, "covid_cap_bundle")
        if folder == tmp_path:
            with study_folder(folder, "covid_cap_bundle"):
                pass
    assert (tmp_path / "study.json").is_file()


def test_a_folder_of_other_files_is_left_alone(tmp_path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "precious.txt").touch()
    with (
        pytest.raises(ValueError, match=r"contains files that are not a study. Choose a new or empty folder"),
        study_folder(tmp_path, "covid_cap_bundle"),
    ):
        pass
    assert [path.name for path in tmp_path.rglob("*")] == ["runs", "precious.txt"]


def test_a_study_of_the_other_bundle_is_refused(tmp_path):
    with study_folder(tmp_path, "covid_seg_bundle"):
        pass
    with pytest.raises(
        ValueError, match=r"contains a study of covid_seg_bundle. Choose another folder for covid_cap_bundle"
    ):
        check_study_folder(tmp_path, "covid_cap_bundle")
