from dataclasses import replace

import pytest

from tests.study.labelled_by_hand import labelled_results
from tests.study.results_by_hand import classification_results, segmentation_results


@pytest.fixture(scope="session")
def diagnoses(tmp_path_factory):
    return classification_results(tmp_path_factory.mktemp("panels"))


@pytest.fixture(scope="session")
def labelled(diagnoses):
    """The study with slice labels of five scans of each class and set."""
    return replace(diagnoses, slices=labelled_results(diagnoses))


@pytest.fixture(scope="session")
def segmentations(tmp_path_factory):
    return segmentation_results(tmp_path_factory.mktemp("overlays"))
