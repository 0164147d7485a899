"""Masks that were corrected in a viewer, as training data: checked against their scans and listed."""

import logging
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from custom_components.datalists.case_files import existing_root, natural_key
from custom_components.datalists.case_problems import shorten
from custom_components.datalists.scans import class_label
from custom_components.datasets.conversion import convert_cases, nifti_files, write_case
from custom_components.datasets.covid20_slices import with_folds
from custom_components.datasets.placing import check_on_lungs
from custom_components.diagnosis.queue import scan_sources
from custom_components.diagnosis.scan_source import ScanSource, is_nifti
from custom_components.images.ct_reader import LabelReader, case_name
from custom_components.images.geometry import mask_on_image
from custom_components.infection_size import CLASS_NAMES, size_group
from custom_components.labels import IGNORE_LABEL, LESION_CLASSES
from custom_components.masks.dicom_seg import is_segmentation, read_segmentation, segmented_series
from monai.data import MetaTensor
from monai.transforms import LoadImage

_logger = logging.getLogger(__name__)

LESIONS = "lesions"
INFECTION = "infection"
LUNGS = "lungs"
# End of a file's name -> its mask; MONAI Label and ITK-SNAP often keep the name of the scan alone.
ENDS = {"_lesions": LESIONS, "_seg": LESIONS, "_infection": INFECTION, "_lungs": LUNGS, "_lung": LUNGS}
# Values that a mask may have.
VALUES = {LESIONS: (0, *range(1, len(LESION_CLASSES) + 1), IGNORE_LABEL), INFECTION: (0, 1, 255), LUNGS: (0, 1, 2, 255)}


def take_corrections(
    corrections: str | Path,
    scans: str | Path,
    target: str | Path,
    structure: str = LESIONS,
    label: str = "covid",
    num_folds: int = 1,
) -> Path:
    """Write corrected masks with their scans as a data set for training.

    A correction is a NIfTI mask or a DICOM segmentation, from 3D Slicer, OHIF, ITK-SNAP or MONAI Label. A segmentation
    names the series it belongs to; a NIfTI mask is named like its scan (SeriesInstanceUID or file name), with
    ``_lesions``, ``_infection`` or ``_lungs`` at the end as ``diagnose`` writes it, or without.

    Args:
        corrections: a file, or a folder with files at any depth.
        scans: the scans they belong to, as for ``diagnose``.
        target: new or empty folder. It appears when it is complete.
        structure: ``lesions`` for ``covid_seg_bundle``, or ``infection`` (with lungs) for VB-Net.
        label: diagnosis of the scans in a list of infection, ``covid`` or ``cap``; VB-Net does not use it.
        num_folds: folds of cross-validation, by patient.

    Returns:
        The datalist; ``left_out.csv`` lists corrections that cannot be used, with the reason.

    Raises:
        ValueError: when there are no corrections or scans, or none can be used.
    """
    if structure not in (LESIONS, INFECTION):
        raise ValueError(f"structure is {structure!r}. Expected {LESIONS!r} or {INFECTION!r}.")
    if label not in CLASS_NAMES.values():
        raise ValueError(f"label is {label!r}. Expected {' or '.join(map(repr, CLASS_NAMES.values()))}.")
    sources = {source.case_id: source for source in scan_sources(scans)}
    found, strangers = _by_case(_files(existing_root(corrections)), sources, structure)
    if strangers:
        _logger.warning("%d files belong to none of the scans: %s", len(strangers), shorten(strangers))
    if not found:
        raise ValueError(
            f"No correction in {corrections} belongs to one of the {len(sources)} scans. Expected a DICOM segmentation "
            f"of their series, or a NIfTI mask with their name: {shorten(sorted(sources))}."
        )
    patients: dict[str, str] = {}
    convert = partial(_convert, sources=sources, structure=structure, label=label, patients=patients)
    return convert_cases(
        Path(str(corrections)), target, found, convert, finish=partial(with_folds, num_folds=num_folds)
    )


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    others = (one for one in path.rglob("*") if one.is_file() and one.name[0] != "." and not is_nifti(one))
    found = [*nifti_files(path), *filter(is_segmentation, others)]
    return sorted(found, key=lambda one: natural_key(str(one)))


def _by_case(
    files: Iterable[Path], sources: Mapping[str, ScanSource], structure: str
) -> tuple[dict[str, dict[str, Path]], list[str]]:
    """Files by case and mask (``""`` for a segmentation), and names of files without a scan."""
    found: dict[str, dict[str, Path]] = {}
    strangers = []
    for file in files:
        case, kind = _named(file, sources, structure)
        if case not in sources:
            strangers.append(file.name)
        elif kind in found.setdefault(case, {}):
            raise ValueError(
                f"Case {case}: there are two corrections, {found[case][kind].name} and {file.name}. Keep one of them."
            )
        else:
            found[case][kind] = file
    return found, strangers


def _named(file: Path, sources: Mapping[str, ScanSource], structure: str) -> tuple[str, str]:
    if not is_nifti(file):
        return (segmented_series(file), "") if is_segmentation(file) else ("", "")
    name = case_name(file)
    if name in sources:
        return name, structure
    return next(((name.removesuffix(end), kind) for end, kind in ENDS.items() if name.endswith(end)), ("", ""))


def _convert(
    case: str,
    files: Mapping[str, Path],
    folder: Path,
    sources: Mapping[str, ScanSource],
    structure: str,
    label: str,
    patients: dict[str, str],
) -> dict[str, Any]:
    image = sources[case].image()
    masks = read_segmentation(files[""], image, case) if "" in files else {}
    masks |= {kind: _mask(file, kind, image, case) for kind, file in files.items() if kind}
    for kind in (LUNGS, INFECTION) if structure == INFECTION else (LESIONS,):
        if kind not in masks:
            raise ValueError(f"Case {case}: there is no mask of {kind}. Save {kind} too, or set --structure.")
    arrays = {"image": image[0].numpy()}
    if LUNGS in masks:
        check_on_lungs(arrays["image"], masks[LUNGS], LUNGS, case)
    if structure == LESIONS:
        arrays |= {"label": masks[LESIONS]} | ({"lung": masks[LUNGS] > 0} if LUNGS in masks else {})
    else:
        arrays |= {"lung": masks[LUNGS] > 0, "infection": masks[INFECTION] > 0}
    paths = write_case(folder, case, arrays, image.affine.numpy())
    chest = sources[case].chest
    known = chest.patient_id if chest is not None and chest.patient_id else case  # stays in memory
    patient = patients.setdefault(known, f"patient_{len(patients) + 1:03d}")
    if structure == LESIONS:
        return {"case_id": case, "patient_id": patient, "group": patient, **paths}
    ratio = round(float((arrays["infection"] & arrays["lung"]).sum() / arrays["lung"].sum()), 6)
    group = size_group(class_label(label), ratio)
    return {"case_id": case, "patient_id": patient, **paths, "label": label, "ratio": ratio, "group": group}


def _mask(file: Path, kind: str, image: MetaTensor, case: str) -> np.ndarray:
    """A NIfTI mask on the voxels of its scan, uint8 (X, Y, Z)."""
    mask = LoadImage(reader=LabelReader(), ensure_channel_first=True)(file)
    placed = np.asarray(mask_on_image(mask, image, kind, case)[0])
    strange = sorted(set(np.unique(placed).tolist()) - set(VALUES[kind]))
    if strange:
        raise ValueError(
            f"Case {case}: {file.name} has the values {', '.join(f'{value:g}' for value in strange[:5])}. Expected "
            f"{', '.join(map(str, VALUES[kind]))} for {kind}."
        )
    return placed.astype(np.uint8)
