"""A CT series, findings without symmetry on its grid, and readers of what was written."""

from pathlib import Path

import highdicom
import nibabel as nib
import numpy as np
from custom_components.dicom.chest_series import Series
from custom_components.dicom.series import check_dicom_series
from custom_components.reports.scan.findings import Model, ScanFindings, Scores
from pydicom.sr.codedict import codes

from tests.written_images import AXIAL, ct_image, save

SHAPE = (13, 11, 7)
SPACING_MM = (0.75, 0.625, 2.5)
UIDS = {
    "StudyInstanceUID": "1.2.826.0.1.3680043.8.498.1",
    "series_uid": "1.2.826.0.1.3680043.8.498.2",
    "FrameOfReferenceUID": "1.2.826.0.1.3680043.8.498.3",
    "StudyDate": "20200401",
    "StudyTime": "120000",
    "StudyID": "1",
}
LABELS = ["Left lung", "Right lung", "Infection", "Ground glass", "Consolidation", "Pleural effusion"]
SCORES = Scores(p_us=0.71236, p_ss=0.25, p_final=0.48118, weight_us=0.5)
MODEL = Model("lungs and infection (VB-Net)", "0.3.0", "Müller.pt", "ab" * 32, "phantoms")


def series_files(folder: Path, orientation=AXIAL, **changes) -> Path:
    """A series with pixels that are not square; its file names are not in slice order."""
    normal = np.cross(orientation[:3], orientation[3:])
    for index in range(SHAPE[2]):
        position = np.array([-31.5, 17.25, 1402.125]) + 2.5 * index * normal
        identity = {**UIDS, "orientation": orientation, "number": index, **changes}
        image = ct_image(np.full(SHAPE[:2], index), position, SPACING_MM, **identity)
        save(image, folder / f"{index * 3 % SHAPE[2]}.dcm")
    return folder


def findings_of(folder: Path, **changes) -> ScanFindings:
    """Findings without symmetry; the infection lies in a lung, lesions overlap it, two slices are empty."""
    series = check_dicom_series(folder)
    rng = np.random.default_rng(4)
    lungs = rng.integers(0, 3, series.shape).astype(np.uint8)
    lungs[:, :, 0] = lungs[:, :, 4] = 0
    infection = ((rng.random(series.shape) < 0.3) & (lungs > 0)).astype(np.uint8)
    values = {
        "case_id": "012",
        "image_hu": np.zeros(series.shape, np.float32),
        "affine": series.affine,
        "lungs": lungs,
        "lung_source": "VB-Net",
        "infection": infection,
        "infection_source": "VB-Net",
        "lesions": rng.integers(0, 4, series.shape).astype(np.uint8),
        "lesion_slices": (1, 2, 3),
        "attention_us": rng.random(series.shape, dtype=np.float32),
        "attention_ss": rng.random(series.shape, dtype=np.float32) ** 2,
        "scores": SCORES,
        "series": Series("1.2.3", "1.2", "Thorax, 7 slices", "the only one", series.files),
        "models": (MODEL,),
    }
    return ScanFindings(**{**values, **changes})


def plain_findings(folder: Path, draw, **more) -> ScanFindings:
    """Lungs alone, drawn on the shape of a series, unless more is given."""
    series = check_dicom_series(folder)
    hu, lungs = np.zeros(series.shape, np.float32), draw(series.shape).astype(np.uint8)
    source = Series("1", "2", "", "", series.files)
    return ScanFindings("1", hu, series.affine, lungs, "by hand", series=source, **more)


def masks_of(findings: ScanFindings) -> dict[str, np.ndarray]:
    """Mask of each label, independent of the code under test."""
    found = {"Left lung": findings.lungs == 1, "Right lung": findings.lungs == 2, "Infection": findings.infection == 1}
    lesions = findings.lesions
    return found | {label: lesions == value for value, label in enumerate(LABELS[3:], 1)}


def on_the_grid(findings: ScanFindings, array: np.ndarray, affine: np.ndarray, is_lps: bool = False) -> np.ndarray:
    """A volume with its own affine (RAS or LPS mm) on the CT's grid; every voxel must match one of the CT."""
    to_index = np.linalg.inv(findings.affine) @ (np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine if is_lps else affine)
    turn = nib.io_orientation(to_index)
    to_index = to_index @ nib.orientations.inv_ornt_aff(turn, array.shape)
    first = np.rint(to_index[:3, 3]).astype(int)
    np.testing.assert_allclose(to_index, nib.affines.from_matvec(np.eye(3), first), atol=1e-3)
    array = nib.apply_orientation(array, turn)
    volume = np.zeros(findings.image_hu.shape, array.dtype)
    volume[tuple(slice(start, start + size) for start, size in zip(first, array.shape, strict=True))] = array
    return volume


def groups_of(path: Path) -> dict[str, highdicom.sr.MeasurementsAndQualitativeEvaluations]:
    """Measurement groups by tracking identifier."""
    content = highdicom.sr.srread(path).content
    groups = [*content.get_volumetric_roi_measurement_groups(), *content.get_image_measurement_groups()]
    return {group.tracking_identifier: group for group in groups}


def numbers_of(group: highdicom.sr.MeasurementsAndQualitativeEvaluations) -> dict[str, tuple[float, str]]:
    """Value and unit of each measurement, by code."""
    return {one.name.value: (float(one.value), one.unit.value) for one in group.get_measurements()}


def volume_of(group: highdicom.sr.MeasurementsAndQualitativeEvaluations) -> tuple[float, str]:
    return numbers_of(group)[codes.SCT.Volume.value]


def volume_ml(mask: np.ndarray) -> float:
    return mask.sum() * np.prod(SPACING_MM) / 1000
