"""Whether two scans may be compared: of one patient, not the same scan, in order, and with the same models."""

from collections.abc import Mapping
from typing import Any

from custom_components.diagnosis.scan_source import ScanSource
from custom_components.dicom.files import read_dicom

# The date of a scan, in order of preference.
_DATES = ("AcquisitionDate", "SeriesDate", "StudyDate")


def check_pair(earlier: ScanSource, later: ScanSource, different_patient_ids: bool = False) -> None:
    """Check that two scans are different ones of one patient. Patient identifiers are compared, never shown.

    Args:
        earlier: the earlier scan.
        later: the later scan.
        different_patient_ids: whether the PatientIDs of DICOM series may differ.

    Raises:
        ValueError: names both cases and what to do.
    """
    names = f"Cases {earlier.case_id} and {later.case_id}"
    if earlier.sha256 == later.sha256:
        raise ValueError(f"{names} are the same scan. Name two different scans of one patient.")
    ids = [source.chest.patient_id for source in (earlier, later) if source.chest is not None]
    if len(ids) == 2 and all(ids) and ids[0] != ids[1] and not different_patient_ids:
        raise ValueError(
            f"{names} have different PatientIDs. Name two scans of one patient, or add --different_patient_ids if "
            "they are of one patient under two pseudonyms."
        )


def pair_warnings(
    earlier: ScanSource, later: ScanSource, earlier_report: Mapping[str, Any], later_report: Mapping[str, Any]
) -> list[str]:
    """What may make a comparison wrong, in sentences without dates and identifiers.

    Args:
        earlier: the earlier scan.
        later: the later scan.
        earlier_report: its ``report.json``.
        later_report: ``report.json`` of the later scan.
    """
    warnings = []
    dates = [_date(source) for source in (earlier, later)]
    if all(dates) and dates[0] > dates[1]:
        warnings.append(
            "The DICOM date of the earlier scan is after that of the later scan: exchange them if they were mixed up."
        )
    if _software(earlier_report) != _software(later_report):
        warnings.append(
            "The scans were diagnosed with different weights or methods, so that a difference may not be a change of "
            "the patient: remove the folders of both cases and run the same command again."
        )
    for name, report in (("earlier", earlier_report), ("later", later_report)):
        warnings += [f"In the {name} scan: {text}" for text in report["warnings"]]
    return warnings


def _software(report: Mapping[str, Any]) -> tuple[Any, ...]:
    """What made the masks: weights by purpose, and the methods for lungs and infection."""
    weights = sorted((model["name"], model["sha256"]) for model in report["models"])
    return weights, report["lungs"]["source"], report["infection"]["source"]


def _date(source: ScanSource) -> str:
    """Date of a DICOM series as YYYYMMDD; empty if unknown."""
    if source.series is None:
        return ""
    with source.series.files[0].open("rb") as file:
        header = read_dicom(file, stop_before_pixels=True, specific_tags=list(_DATES))
    dates = (str(header.get(name) or "").replace(".", "") for name in _DATES)
    return next((date for date in dates if len(date) == 8 and date.isdigit()), "")
