"""Shared parts of the sets with a diagnosis per scan: names of the classes, normal scans, age and sex, folds."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from custom_components.datalists.folds import assign_folds
from custom_components.datalists.scans import class_label, scan_problems
from custom_components.dicom.files import read_dicom
from custom_components.dicom.header_text import quiet_pydicom
from custom_components.infection_size import CAP, CLASS_NAMES, COVID, NORMAL

# Published names of the classes in lower case: letters and digits only.
NAMES = {
    CLASS_NAMES[COVID]: ("covid", "covid19", "ncp"),
    CLASS_NAMES[CAP]: ("cap", "cp", "communityacquiredpneumonia", "pneumonia"),
    NORMAL: ("normal", "healthy", "control"),
}
NORMAL_REASON = "Normal: the classifier distinguishes COVID-19 and CAP. Set --normals to list it."


def diagnosis(name: str) -> str:
    """Label of a class by its published name: ``covid``, ``cap`` or ``normal``; empty when it is none of them.

    Example:
        >>> diagnosis("COVID-19"), diagnosis("Cap "), diagnosis("Normal"), diagnosis("PCR")
        ('covid', 'cap', 'normal', '')
    """
    return next((label for label, names in NAMES.items() if plain_name(name) in names), "")


def plain_name(text: str) -> str:
    """Letters and digits of a published name, in lower case.

    Example:
        >>> plain_name("Patient ID")
        'patientid'
    """
    return re.sub("[^a-z0-9]", "", text.lower())


def normals_left_out(labels: Mapping[str, str], normals: bool) -> dict[str, str]:
    """Normal scans with the reason for skipping them; none when they are asked for.

    Args:
        labels: ``covid``, ``cap`` or ``normal`` by case id.
        normals: whether normal scans are listed.
    """
    return {} if normals else {name: NORMAL_REASON for name, label in labels.items() if label == NORMAL}


def sex_and_age(sex: object, age: object) -> dict[str, Any]:
    """Sex (``M`` or ``F``) and age in years as datalist entries; what is missing or unclear is left out.

    Example:
        >>> sex_and_age("F", "035Y"), sex_and_age("male", 71.0), sex_and_age("O", "")
        ({'sex': 'F', 'age': 35}, {'sex': 'M', 'age': 71}, {})
    """
    letter = str(sex or "").strip().upper()[:1]
    years = re.fullmatch(r"0*(\d{1,3})(?:\.0*)?Y?", str(age or "").strip().upper())
    known: dict[str, Any] = {"sex": letter} if letter in ("M", "F") else {}
    return known | ({"age": int(years[1])} if years else {})


def dicom_case(case: Mapping[str, Any]) -> dict[str, Any]:
    """Check a scan that stays where it is, and add what its DICOM headers say of sex and age.

    Args:
        case: entry of a datalist; ``image`` is the folder of one DICOM series.

    Raises:
        ValueError: names the case when the series does not form a volume or a mask is not on its grid.
    """
    if problems := scan_problems(dict(case)):
        raise ValueError(problems[0])
    for path in sorted(Path(case["image"]).iterdir()):
        try:
            with quiet_pydicom():
                header = read_dicom(path, stop_before_pixels=True, specific_tags=["PatientSex", "PatientAge"])
                return {**case, **sex_and_age(header.get("PatientSex"), header.get("PatientAge"))}
        except Exception:  # pydicom raises many types of errors; other files are tried
            continue
    return dict(case)


def with_stratified_folds(cases: Sequence[dict[str, Any]], num_folds: int, seed: int) -> list[dict[str, Any]]:
    """Assign patients to folds with the classes and size groups spread evenly.

    Args:
        cases: entries of a datalist with ``patient_id``, ``label`` (``covid`` or ``cap``) and ``group``.
        num_folds: folds of cross-validation; 1 for evaluation only.
        seed: random seed.

    Raises:
        ValueError: when a class has too few patients.
    """
    folds = assign_folds([{**case, "label": class_label(case["label"])} for case in cases], num_folds, seed)
    return [{**case, "fold": fold} for case, fold in zip(cases, folds, strict=True)]
