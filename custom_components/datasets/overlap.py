"""Find scans of a test set that are also in a training set, whatever their names, identifiers and file format."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from custom_components.datalists.case_files import existing_root
from custom_components.datalists.case_problems import shorten
from custom_components.datalists.datalist_file import datalist_content, datalist_file
from custom_components.datalists.scans import list_scans
from custom_components.datasets.conversion import load_volume
from custom_components.images.ct_reader import CTReader
from tqdm import tqdm

# Compared HU: without the air around the patient, which is filled in different ways, and without metal.
COMPARED_HU = (-990, 3000)


def scan_digest(path: str | Path) -> str:
    """SHA-256 of how often each HU occurs in a scan.

    It does not depend on the file format, the orientation, the order of the slices, names, headers or what fills the
    surround; two different scans have different digests.

    Args:
        path: NIfTI file or folder of one DICOM series.

    Raises:
        ValueError: when the scan cannot be read.
    """
    hu = np.rint(load_volume(path, CTReader()).numpy())
    low, high = COMPARED_HU
    inside = hu[(hu > low) & (hu < high)].astype(np.int64) - low
    return hashlib.sha256(np.bincount(inside, minlength=high - low).tobytes()).hexdigest()


def check_no_overlap(cases: Sequence[Mapping[str, Any]], train: str | Path) -> None:
    """Check that no scan is also in a training datalist: the same voxels, or the same patient.

    Args:
        cases: ``case_id``, ``image`` (absolute path) and ``patient_id`` of the test scans.
        train: the training datalist, or its folder.

    Raises:
        ValueError: lists the scans that are in both.
    """
    own = {str(case.get("patient_id", case["case_id"])): case["case_id"] for case in cases}
    own |= {scan_digest(case["image"]): case["case_id"] for case in tqdm(cases, "test scans", disable=None)}
    patients = _patients(existing_root(train))
    shared = []
    for scan in tqdm(list_scans(train, labelled=False), "training scans", disable=None):
        keys = {scan_digest(scan["image"]), scan["case_id"], patients.get(scan["case_id"], "")}
        shared += [f"{name} = {scan['case_id']}" for name in sorted({own[key] for key in keys & set(own)})]
    if shared:
        raise ValueError(
            f"{len(shared)} test scans are also in the training datalist {train}: {shorten(shared)}. Remove them from "
            "one of the two, or give the datalist that the network was trained on."
        )


def _patients(root: Path) -> dict[str, str]:
    """Patients of a datalist by case id; empty for a data set without one."""
    path = datalist_file(root)
    entries = datalist_content(path).get("cases", []) if path else []
    return {str(entry["case_id"]): str(entry["patient_id"]) for entry in entries if entry.get("patient_id")}
