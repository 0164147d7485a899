"""LCTSC, the Lung CT Segmentation Challenge 2017: planning CTs with contours of both lungs.

As published: ``LCTSC/LCTSC-Train-S1-001/<study>/<series>/1-001.dcm``, one CT and one RTSTRUCT per patient with
Esophagus, Heart, Lung_L, Lung_R and SpinalCord; 36 patients for training, 24 for the challenge's tests.

Known problems: one patient has ``Lung L`` in early versions; for a few of the S3 patients, users find the contours in
another frame of reference than the CT, so they are skipped; collapsed lung and tumour may lie outside the contours.
"""

import re
from pathlib import Path

import numpy as np
from custom_components.datalists.case_files import existing_root
from custom_components.datasets.contours import Contoured, contour_mask, read_structures
from custom_components.datasets.conversion import Case, PublicSet, convert_cases, write_case
from custom_components.datasets.ct_excerpts import HEALTHY_SETS, LUNG, OUTSIDE
from custom_components.datasets.placing import check_on_lungs
from custom_components.datasets.tcia import CollectionSeries, read_ct, series_by_patient
from custom_components.labels import LEFT, RIGHT

SET = PublicSet(
    name="LCTSC",
    purpose="lungs without infection",
    patients="60",
    labels="left and right lung (contours)",
    licence="CC BY 3.0",
    size="4.8 GB",
    page="https://www.cancerimagingarchive.net/collection/lctsc/",
    citation="Yang et al. 2017, doi:10.7937/K9/TCIA.2017.3R3FVZ08; Med Phys 2018, doi:10.1002/mp.13141",
    command="convert_lctsc SOURCE TARGET",
)
PATIENT = re.compile(r"LCTSC-(Train|Test)-S\d-\d{3}")
LUNGS = {"lungl": LEFT, "lungr": RIGHT}


def convert_lctsc(source: str | Path, target: str | Path) -> Path:
    """Write the CTs in HU with their lungs, and their datalist.

    Args:
        source: folder with the collection, at any depth.
        target: new or empty folder. It appears when the conversion is complete.

    Returns:
        The datalist, as written by ``convert_ct_excerpts``, plus a lung mask (1 left, 2 right); ``left_out.csv`` lists
        skipped scans.

    Raises:
        ValueError: when there are no such files, no scan can be used, or the folder is not empty.
    """
    root = existing_root(source)
    patients = series_by_patient(root, PATIENT)
    if not patients:
        raise ValueError(
            f"Data set {root} has no patients. Expected DICOM files (.dcm) of LCTSC-Train-S1-001 and "
            "others: give the folder of the downloaded collection."
        )
    return convert_cases(root, target, patients, _convert)


def _convert(name: str, series: list[CollectionSeries], folder: Path) -> Case:
    image = read_ct(series, name)
    [frame] = [one.frame for one in series if one.modality == "CT"]
    lungs = _lungs(series, frame, name)
    hu, affine = image[0].numpy(), image.affine.numpy()
    sides = np.zeros(hu.shape, np.uint8)
    for key, value in LUNGS.items():
        sides[contour_mask(lungs[key].contours, affine, hu.shape, name)] = value
    check_on_lungs(hu, sides, "the contoured lung", name)
    labels = np.where(sides > 0, LUNG, OUTSIDE)
    paths = write_case(folder, name, {"image": hu, "label": labels, "lung": sides}, affine)
    return {"case_id": name, "group": name, **paths, "label_sets": HEALTHY_SETS, "lung_values": [LUNG]}


def _lungs(series: list[CollectionSeries], frame: str, name: str) -> dict[str, Contoured]:
    files = [file for one in series if one.modality == "RTSTRUCT" for file in one.files]
    if len(files) != 1:
        raise ValueError(f"Case {name}: {len(files)} RTSTRUCT files. Expected one, with the contours of both lungs.")
    found = read_structures(files[0], name)
    missing = [key for key in LUNGS if key not in found or not found[key].contours]
    if missing:
        found_lungs = len(LUNGS) - len(missing)
        raise ValueError(f"Case {name}: the RTSTRUCT has contours of {found_lungs} lungs. Expected Lung_L and Lung_R.")
    if any(found[key].frame != frame for key in LUNGS):
        raise ValueError(f"Case {name}: the contours are in another frame of reference than the CT.")
    x_mm = {key: np.concatenate(found[key].contours)[:, 0].mean() for key in LUNGS}
    if x_mm["lungl"] < x_mm["lungr"]:
        raise ValueError(f"Case {name}: Lung_L lies to the right of Lung_R. Check the names of the structures.")
    return found
