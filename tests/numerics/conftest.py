import logging
import sys
from pathlib import Path

import pytest
from custom_components.phantom import make_slice, write_scan_dataset

from tests.bundles.seg.conftest import LESIONS_ML, SLICE_SIZE, write_png_slice


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    """No test runs in the bundle's folder; the process gets its excepthook back."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)


@pytest.fixture(scope="session")
def slices(tmp_path_factory) -> Path:
    """Four patients with a slice each, in PNG."""
    folder = tmp_path_factory.mktemp("slices")
    for number in range(4):
        write_png_slice(make_slice(number, SLICE_SIZE, lesions_ml=LESIONS_ML), folder, f"{number:03d}")
    return folder


@pytest.fixture(scope="session")
def scans(tmp_path_factory) -> Path:
    """Four scans of each disease in two folds."""
    return write_scan_dataset(tmp_path_factory.mktemp("scans") / "set", 8, (64, 60, 28), (5.6, 6.0, 10.0), num_folds=2)


@pytest.fixture(autouse=True)
def _quiet(caplog):
    caplog.set_level(logging.WARNING)
