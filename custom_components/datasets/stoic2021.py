"""STOIC2021, the public training set of the challenge: COVID-19 by RT-PCR, with severity; no CAP.

As published: ``data/mha/<PatientID>.mha`` and ``metadata/reference.csv`` (PatientID, probCOVID, probSevere: 0 or 1).
Sex and age (in steps of ten years, ``055Y``) are in the headers of the images.

Known problems: probCOVID 0 means a negative RT-PCR test of a patient with symptoms, which is neither normal nor CAP, so
these patients are left out; about 20 hospitals, which are not named; sex or age is missing in some headers.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from custom_components.datalists.case_files import existing_root, natural_key
from custom_components.datasets.conversion import Case, PublicSet, convert_cases, read_rows, write_case
from custom_components.datasets.diagnoses import sex_and_age
from custom_components.dicom.header_text import error_text
from custom_components.images.nifti import check_extent
from custom_components.infection_size import CLASS_NAMES, COVID

SET = PublicSet(
    name="STOIC2021",
    purpose="COVID-19 without CAP: masks, pre-training",
    patients="2000",
    labels="RT-PCR, severe outcome",
    licence="CC BY-NC 4.0",
    size="not stated",
    page="https://registry.opendata.aws/stoic2021-training/",
    citation="Revel et al. 2021, doi:10.1148/radiol.2021210384",
    command="convert_stoic2021 SOURCE TARGET",
)
REFERENCE = "reference.csv"
COLUMNS = ("PatientID", "probCOVID", "probSevere")
FACTS = ("PatientSex", "PatientAge")


@dataclass(frozen=True)
class StoicLabels:
    """Labels of a patient as published: ``0`` or ``1``; empty when the patient is not listed."""

    covid: str = ""
    severe: str = ""


def convert_stoic2021(source: str | Path, target: str | Path) -> Path:
    """Write the scans of patients with a positive RT-PCR test, and their datalist for inference and ``segment_masks``.

    Args:
        source: folder with ``data/mha`` and ``metadata/reference.csv``, at any depth.
        target: new or empty folder. It appears when the conversion is complete.

    Returns:
        The datalist; each case has ``severe`` (0 or 1), and sex and age if known. ``left_out.csv`` lists the others.

    Raises:
        ValueError: when there are no such files, the table has another form, no scan can be used, or the target is not
            an empty folder.
    """
    root = existing_root(source)
    files = sorted(
        (path for path in root.rglob("*.mha") if path.name[0] != "."), key=lambda path: natural_key(path.stem)
    )
    tables = sorted(root.rglob(REFERENCE))
    if not files or not tables:
        raise ValueError(
            f"Data set {root} has {len(files)} .mha files and {len(tables)} {REFERENCE}. Expected data/mha/1.mha, ..., "
            f"and metadata/{REFERENCE}: give the folder that contains both."
        )
    outcomes = _outcomes(tables[0])
    sources = {f"stoic_{path.stem}": (path, outcomes.get(path.stem, StoicLabels())) for path in files}
    return convert_cases(root, target, sources, _convert)


def _outcomes(path: Path) -> Mapping[str, StoicLabels]:
    rows = [[row[name].removesuffix(".0") for name in COLUMNS] for row in read_rows(path, COLUMNS)]
    return {patient: StoicLabels(covid, severe) for patient, covid, severe in rows}


def _convert(name: str, source: tuple[Path, StoicLabels], folder: Path) -> Case:
    path, outcome = source
    if outcome.covid != "1" or outcome.severe not in ("0", "1"):
        reasons = {"": f"it is not in {REFERENCE}", "0": "its RT-PCR test was negative: neither COVID-19 nor CAP"}
        raise ValueError(f"Case {name}: {reasons.get(outcome.covid, f'its labels in {REFERENCE} are not 0 or 1')}.")
    hu, affine, facts = _read(path, name)
    paths = write_case(folder, name, {"image": hu}, affine)
    known = {"label": CLASS_NAMES[COVID], "severe": int(outcome.severe), **facts}
    return {"case_id": name, "patient_id": name, **paths, **known}


def _read(path: Path, name: str) -> tuple[np.ndarray, np.ndarray, Case]:
    """CT in HU, (X, Y, Z), its affine, and sex and age."""
    import SimpleITK

    try:
        image = SimpleITK.ReadImage(str(path), SimpleITK.sitkFloat32)
    except Exception as error:  # SimpleITK raises different types
        raise ValueError(
            f"Case {name}: {path.name} is truncated or not a MetaImage: {error_text(error)}. Download it again."
        ) from error
    if image.GetDimension() != 3:
        raise ValueError(f"Case {name}: {path.name} has {image.GetDimension()} dimensions. Expected one volume.")
    hu = SimpleITK.GetArrayFromImage(image).T
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine  # from LPS
    check_extent(path, name, affine, hu.shape)
    sex, age = (image.GetMetaData(key) if image.HasMetaDataKey(key) else "" for key in FACTS)
    return hu, affine, sex_and_age(sex, age)
