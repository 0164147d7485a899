import pytest

from tests.study.results_by_hand import classification_results, segmentation_results


@pytest.fixture(scope="session")
def diagnoses(tmp_path_factory):
    return classification_results(tmp_path_factory.mktemp("panels"))


@pytest.fixture(scope="session")
def segmentations(tmp_path_factory):
    return segmentation_results(tmp_path_factory.mktemp("overlays"))
