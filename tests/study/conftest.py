import io
from dataclasses import replace

import pytest
from PIL import Image

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


@pytest.fixture
def blank_figures(monkeypatch):
    """Files of one size instead of drawings, which take most of a report's time."""

    def files(drawing):
        picture = io.BytesIO()
        Image.new("RGB", (8, 8)).save(picture, "png")
        return {f"{drawing.name}.png": picture.getvalue(), f"{drawing.name}.pdf": b"%PDF"}

    monkeypatch.setattr("custom_components.study.report.study_report.drawing_files", files)
