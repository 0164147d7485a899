import json
import logging
import re

import nibabel as nib
import numpy as np
import pytest
from custom_components.datasets.datalist import check_datalist
from custom_components.phantom import write_scan_dataset

from tests.bundles.conftest import digests

SHAPE, SPACING_MM = (36, 32, 14), (10.0, 11.3, 20.0)


@pytest.fixture
def data(tmp_path):
    """Four scans, two of each class, with their datalist."""
    return write_scan_dataset(tmp_path / "set", 4, SHAPE, SPACING_MM, num_folds=2)


def relist(data, case_id, change):
    path = data / "datalist.json"
    cases = json.loads(path.read_text(encoding="utf-8"))["cases"]
    [case] = [case for case in cases if case["case_id"] == case_id]
    case |= change(case)
    path.write_text(json.dumps({"cases": cases}), encoding="utf-8")
    return case


def replace(write_nifti, data, folder, case_id, change):
    path = data / folder / f"{case_id}.nii.gz"
    image = nib.load(path)
    write_nifti(path, change(np.asarray(image.dataobj)), image.affine)


def test_a_good_list_is_logged_with_its_folds_and_not_changed(data, caplog):
    before = digests(data)
    with caplog.at_level(logging.INFO):
        check_datalist(data)
    assert f"All scans of {data} can be used:\nfold  patients  scans" in caplog.text
    assert "_patient_" not in caplog.text
    assert digests(data) == before


def test_problems_of_voxels_are_reported_together(data, write_nifti):
    replace(write_nifti, data, "lungs", "covid_000", np.zeros_like)
    replace(write_nifti, data, "images", "covid_001", lambda hu: hu + 1024)
    replace(
        write_nifti, data, "images", "cap_000", lambda hu: np.where(np.arange(hu.size).reshape(hu.shape), hu, np.nan)
    )
    replace(write_nifti, data, "infections", "cap_001", np.ones_like)
    with pytest.raises(ValueError, match=r"^Data set .* has 4 problems:") as caught:
        check_datalist(data / "datalist.json")
    for problem in (
        r"Case covid_000: lung mask is empty \(0 of 16,128 voxels\)",
        r"Case covid_001: median inside the lung mask is \d+ HU",
        r"Case cap_000: 1 of 16,128 values are NaN or infinite",
        r"Case cap_001: \d+.\d % of the infection .* lies outside the lung mask",
    ):
        assert re.search(problem, str(caught.value))


@pytest.mark.parametrize("off", [2e-4, -2e-4])
def test_a_ratio_that_differs_from_the_masks_is_reported(data, off):
    relist(data, "covid_000", lambda case: {"ratio": case["ratio"] + 9e-5, "group": None})
    check_datalist(data)
    wrong = relist(data, "covid_000", lambda case: {"ratio": case["ratio"] - 9e-5 + off})["ratio"]
    message = rf"Case covid_000: ratio is {wrong:.4f} but that of the masks is {wrong - off:.4f}\. .* build_datalist"
    with pytest.raises(ValueError, match=message):
        check_datalist(data)


def test_problems_of_the_list_are_reported_before_a_scan_is_read(data, monkeypatch):
    monkeypatch.setattr("custom_components.datasets.datalist.checked_ratio", lambda case: pytest.fail("read"))
    relist(data, "cap_000", lambda case: {"label": "flu"})
    with pytest.raises(ValueError, match="Case cap_000: label is 'flu'"):
        check_datalist(data)
