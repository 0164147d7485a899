"""COVID-CT-MD: COVID-19, CAP and normal chest CTs as DICOM, with slice and lobe labels of 79 patients.

As published: ``COVID-19 subjects/P001/*.dcm``, ``Cap subjects/cap001/``, ``Normal subjects/normal001/`` (``... Cases``
on Figshare), next to them the labels (:mod:`slice_labels`). File names differ from patient to patient
(``98C14734-ASSH_1.dcm``, ``IM0001.dcm``); their order is not the order of the slices. Sex and age are in the DICOM
headers; the columns of the clinical table on Figshare could not be confirmed, so it is not read.

Known problems: identifiers that are not valid DICOM UIDs; JPEG Lossless compression; all scans are of one hospital, but
CAP and normal scans are older than the COVID-19 scans.
"""

import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from custom_components.datalists.case_files import existing_root, images_in, natural_key
from custom_components.datalists.scans import MASK_FOLDERS, class_label
from custom_components.datasets.conversion import Case, PublicSet, convert_cases
from custom_components.datasets.datalist import checked_ratio
from custom_components.datasets.diagnoses import diagnosis, dicom_case, normals_left_out, with_stratified_folds
from custom_components.datasets.slice_labels import SLICE_LABELS, TABLE, read_slice_labels, write_slice_labels
from custom_components.files.atomic import absolute_path
from custom_components.images.ct_reader import case_name, image_header
from custom_components.infection_size import NORMAL, size_group

SET = PublicSet(
    name="COVID-CT-MD",
    purpose="COVID-19 or CAP",
    patients="169 COVID-19, 60 CAP, 76 normal",
    labels="diagnosis; slices and lobes of 54 COVID-19 and 25 CAP",
    licence="none stated",
    size="not stated",
    page="https://github.com/ShahinSHH/COVID-CT-MD",
    citation="Afshar et al. 2021, doi:10.1038/s41597-021-00900-3",
    command="convert_covid_ct_md SOURCE TARGET",
)
CLASS_FOLDER = re.compile(r"(covid-19|cap|normal)(?: subjects| cases)?", re.IGNORECASE)
PATIENT = re.compile(r"(P|cap|normal)\d+")
LABELS = {"P": "covid", "cap": "cap", "normal": NORMAL}
# Folders between the data set and its patients, such as "Sample data" and "Cap subjects".
MOST_LEVELS = 3

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PatientFolder:
    """The folder of a patient.

    Args:
        path: folder of the DICOM series.
        label: ``covid``, ``cap`` or ``normal``.
        problem: why it cannot be used; empty when it can.
    """

    path: Path
    label: str
    problem: str = ""


def convert_covid_ct_md(
    source: str | Path,
    target: str | Path,
    lung_masks: str | Path = "",
    infection_masks: str | Path = "",
    normals: bool = False,
    num_folds: int = 5,
    seed: int = 0,
) -> Path:
    """Create the datalist of COVID-CT-MD; its scans stay where they are.

    The published set has no masks. Without masks, the datalist is for inference, and for ``segment_masks``, which makes
    masks. With both kinds of masks, it is for training, with ratios and folds as from ``build_datalist``.

    Args:
        source: the unpacked data set, or a folder of patients such as P001 and cap001.
        target: new or empty folder. It appears when the conversion is complete.
        lung_masks: folder of lung masks on the scans' own grids, ``P001.nii.gz`` ...
        infection_masks: folder of infection masks, in the same way.
        normals: list normal scans too, with the label ``normal``; not for training.
        num_folds: folds of cross-validation, if used for training.
        seed: random seed of the folds.

    Returns:
        The datalist; ``slice_labels`` has the slice and lobe labels, ``left_out.csv`` the skipped scans.

    Raises:
        ValueError: when there are no such folders, no scan can be used, or the target is not an empty folder.
    """
    root = existing_root(source)
    found = {
        key: _masks(folder) for key, folder in {"lung": lung_masks, "infection": infection_masks}.items() if folder
    }
    training = len(found) == len(MASK_FOLDERS)
    if training and normals:
        raise ValueError("normals and masks for training are set. The classifier has two classes: set one of them.")
    patients = patient_folders(root)
    left_out = normals_left_out({name: patient.label for name, patient in patients.items()}, normals)
    labels = read_slice_labels(_label_folders(root, patients))
    finish = partial(with_stratified_folds, num_folds=num_folds, seed=seed) if training else list
    convert = partial(_convert, masks=found, labels=labels, training=training)
    datalist = convert_cases(root, target, patients, convert, left_out, finish)
    if not training:
        missing = " and ".join(key for key in MASK_FOLDERS if key not in found)
        _logger.info(
            "The datalist is for inference. Training needs %s masks as well: run segment_masks on it.", missing
        )
    return datalist


def patient_folders(root: Path) -> dict[str, PatientFolder]:
    """Folders of the patients by name; the class is that of the folder above, or of the name.

    Args:
        root: the unpacked data set.

    Raises:
        ValueError: when no patient is found.
    """
    patients: dict[str, PatientFolder] = {}
    for folder, label in sorted(_folders(root), key=lambda pair: natural_key(str(pair[0]))):
        match = PATIENT.fullmatch(folder.name)
        named = LABELS[match[1]] if match else label
        problem = "" if label in ("", named) else f"Case {folder.name}: the name says {named}, the folder {label}."
        if folder.name in patients:
            problem = f"Case {folder.name}: two folders have this name. Remove one of them."
        patients[folder.name] = PatientFolder(folder, named, problem)
    if not patients:
        raise ValueError(
            f"Data set {root} has no patients. Expected the folders 'COVID-19 subjects' and 'Cap subjects' (or '... "
            "Cases') of COVID-CT-MD, or folders such as P001 and cap001: unpack the archives and give the folder that "
            "contains them."
        )
    return patients


def _folders(root: Path, levels: int = MOST_LEVELS) -> Iterator[tuple[Path, str]]:
    """Folders of patients with the class of the folder above them; empty when that is not a class."""
    above = CLASS_FOLDER.fullmatch(root.name)
    for folder in root.iterdir():
        if folder.name.startswith(".") or not folder.is_dir():
            continue
        if above or PATIENT.fullmatch(folder.name):
            yield folder, diagnosis(above[1]) if above else ""
        elif levels > 1:
            yield from _folders(folder, levels - 1)


def _label_folders(root: Path, patients: Mapping[str, PatientFolder]) -> list[Path]:
    """Folders that may hold the labels: the data set and those above the patients."""
    above = [parent for patient in patients.values() for parent in patient.path.parents[:MOST_LEVELS]]
    return list(dict.fromkeys([root, *(folder for folder in above if folder.is_relative_to(root))]))


def _masks(folder: str | Path) -> dict[str, str]:
    path = absolute_path(folder)
    if not path.is_dir():
        raise ValueError(f"Masks {path} are not a folder. Give the folder of the masks, P001.nii.gz, ...")
    return {case_name(file): str(file) for file in images_in(path)}


def _convert(
    name: str,
    patient: PatientFolder,
    folder: Path,
    masks: Mapping[str, Mapping[str, str]],
    labels: Mapping[str, np.ndarray],
    training: bool,
) -> Case:
    if patient.problem:
        raise ValueError(patient.problem)
    missing = [key for key, files in masks.items() if name not in files and patient.label != NORMAL]
    if missing:
        raise ValueError(f"Case {name}: there is no {' and no '.join(missing)} mask {name}.nii.gz.")
    own = {key: files[name] for key, files in masks.items() if name in files}
    case = dicom_case({"case_id": name, "patient_id": name, "image": str(patient.path), **own, "label": patient.label})
    if name in labels:
        place = Path(SLICE_LABELS) / f"{name}{TABLE}"
        if write_slice_labels(labels[name], image_header(patient.path).shape[2], folder / place, name):
            case[SLICE_LABELS] = place.as_posix()
    if not training:
        return case
    ratio = checked_ratio(case)
    return {**case, "ratio": ratio, "group": size_group(class_label(patient.label), ratio)}
