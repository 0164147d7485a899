"""Written DICOM objects of one scan in three orientations."""

from pathlib import Path

import numpy as np
import pytest
from custom_components.reports.dicom.objects import write_dicom_objects
from custom_components.reports.scan.findings import ScanFindings

from tests.reports.dicom.scans import findings_of, series_files
from tests.written_images import AXIAL

# Tilted rows and columns; and rows to the right, so that slices run from head to feet.
TILTED = (1, 0, 0, 0, np.cos(0.3), np.sin(0.3))
HEAD_FIRST = (-1, 0, 0, 0, 1, 0)


@pytest.fixture(scope="package", params=[AXIAL, TILTED, HEAD_FIRST], ids=["axial", "tilted", "head first"])
def written(request, tmp_path_factory) -> tuple[ScanFindings, dict[str, Path]]:
    findings = findings_of(series_files(tmp_path_factory.mktemp("ct"), orientation=request.param))
    return findings, write_dicom_objects(findings, tmp_path_factory.mktemp("out") / "dicom")


@pytest.fixture
def axial(tmp_path) -> ScanFindings:
    return findings_of(series_files(tmp_path / "ct"))
