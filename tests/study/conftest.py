import signal

import pytest

from tests.study.results_by_hand import classification_results, segmentation_results


@pytest.fixture(scope="session")
def diagnoses(tmp_path_factory):
    return classification_results(tmp_path_factory.mktemp("panels"))


@pytest.fixture(scope="session")
def segmentations(tmp_path_factory):
    return segmentation_results(tmp_path_factory.mktemp("overlays"))


@pytest.fixture(autouse=True)
def _ctrl_c_is_heard():
    """A program that was started in the background may ignore it, and so do those that it starts."""
    earlier = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, earlier)
