"""Data sets of phantoms with the two diseases for the classifier."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from custom_components.files.atomic import new_folder
from custom_components.infection_size import NORMAL, size_group
from custom_components.phantom.body.disease import DISEASES, RARE_SHARE
from custom_components.phantom.body.grid import Grid
from custom_components.phantom.cache import cached_folder
from custom_components.phantom.dataset import (
    GENERATOR_VERSION,
    PROGRESS_FROM,
    check_count,
    patient_seed,
    write_phantom_datalist,
)
from custom_components.phantom.generate import make_scan, make_volume
from custom_components.phantom.nifti import phantom_hu, write_nifti_array
from custom_components.phantom.phantom import Phantom
from tqdm import tqdm

# Part of the names of cached folders: increase it when the same seed gives another disease.
SCAN_VERSION = 1

# Field of view of the cached scans along x, y, z.
SCAN_FIELD_MM = (374.4, 374.4, 280.0)

# Number of the first person with a normal scan: the patients with a disease have smaller ones.
FIRST_NORMAL = 10**6

# Every fourth patient with the same disease and size has two scans.
PATIENTS_PER_PAIR = 4


@dataclass(frozen=True)
class PlannedScan:
    """A scan to generate.

    Args:
        disease: ``covid`` or ``cap``; ``normal`` for none.
        number: index among the scans of the disease.
        patient: index among the patients with the disease.
        examination: index among the scans of the patient.
        rare: whether the infection has the rare size of the disease.
        fold: fold of cross-validation.
    """

    disease: str
    number: int
    patient: int
    examination: int
    rare: bool
    fold: int


def write_scan_dataset(
    folder: str | Path,
    num_scans: int = 40,
    shape: Sequence[int] = (96, 96, 40),
    spacing_mm: Sequence[float] = (3.9, 3.9, 7.0),
    seed: int = 0,
    minority: float = RARE_SHARE,
    num_folds: int = 5,
    num_normals: int = 0,
) -> Path:
    """Write chest CTs with COVID-19 and with community-acquired pneumonia, as NIfTI.

    About one patient in four has two scans. With the same seed, a longer data set begins with the shorter one.

    Args:
        folder: new or empty folder.
        num_scans: number of scans, half of each disease; an odd one is COVID-19.
        shape: voxels along x, y, z.
        spacing_mm: voxel size along x, y, z.
        seed: another seed gives other patients.
        minority: share of the scans of each disease with its rare size (small COVID-19, large CAP), 0 to 1.
        num_folds: folds of cross-validation; each patient is in one fold, both diseases are in each fold, and every
            size group is in as many folds as possible.
        num_normals: number of additional normal scans, each of another person, for three classes.

    Returns:
        The folder: ``images`` (int16 HU), ``lungs`` and ``infections`` (uint8 0/1) with files covid_000.nii.gz, ...,
        cap_000.nii.gz, ..., and ``datalist.json`` whose ``cases`` have case_id, patient_id, image, lung, infection
        (paths relative to the folder), label (``covid``, ``cap`` or ``normal``), fold, ratio (infection volume /
        lung volume), group (size group or ``normal``) and synthetic (true).

    Raises:
        ValueError: when an argument is out of range, there are too few patients for the folds, the voxels are too
            coarse for small lesions, or the folder is not empty.
    """
    check_count("seed", seed, 0)
    check_count("num_normals", num_normals, 0)
    if 0 < num_normals < num_folds:
        raise ValueError(
            f"Phantom data set: {num_normals} normal scans are too few for {num_folds} folds with some in each. "
            "Decrease num_folds or increase num_normals."
        )
    scans = plan_scans(num_scans, minority, num_folds)
    Grid.centred(shape, spacing_mm)
    if shape[2] < 2:
        raise ValueError(f"Phantom shape is {tuple(shape)}. Expected scans of two slices or more.")
    progress = tqdm(scans, "phantom", disable=num_scans <= PROGRESS_FROM, unit="scan")
    with new_folder(folder) as root:
        entries = [_write_scan(root, scan, _make(scan, seed, shape, spacing_mm), seed) for scan in progress]
        for number in range(num_normals):
            healthy = make_volume(patient_seed(seed, FIRST_NORMAL + number), shape, spacing_mm, {})
            person = PlannedScan(NORMAL, number, number, 0, rare=False, fold=number % num_folds)
            entries.append(_write_scan(root, person, healthy, seed))
        write_phantom_datalist(root, entries)
    return Path(folder)


def phantom_scan_dataset(num_scans: int = 40, shape: Sequence[int] = (96, 96, 40), seed: int = 0) -> Path:
    """Folder of a data set with both diseases in the cache; written if it does not exist.

    Args:
        num_scans: number of scans.
        shape: voxels along x, y, z, of a field of view of 374 x 374 x 280 mm.
        seed: another seed gives other patients.

    Returns:
        As :func:`custom_components.phantom.cache.cached_folder`, with the layout of :func:`write_scan_dataset`.

    Raises:
        ValueError: when an argument is out of range or the cache folder cannot be written to.
    """
    version = f"v{GENERATOR_VERSION}.{SCAN_VERSION}"
    name = f"{version}_{num_scans}_scans_{'x'.join(map(str, shape))}_seed_{seed}"
    sides = zip(SCAN_FIELD_MM, shape, strict=False)  # the length of shape is checked later
    spacing_mm = tuple(round(field_mm / max(count, 1), 3) for field_mm, count in sides)
    return cached_folder(name, lambda draft: write_scan_dataset(draft, num_scans, shape, spacing_mm, seed))


def plan_scans(num_scans: int, minority: float = RARE_SHARE, num_folds: int = 5) -> list[PlannedScan]:
    """Assign scans to patients, sizes and folds; arguments as :func:`write_scan_dataset`.

    Returns:
        The scans, COVID-19 first.

    Raises:
        ValueError: when an argument is out of range or there are too few patients for the folds.

    Example:
        >>> [(scan.disease, scan.rare, scan.fold) for scan in plan_scans(4, minority=0.5, num_folds=2)]
        [('covid', False, 0), ('covid', True, 1), ('cap', False, 0), ('cap', True, 1)]
    """
    check_count("num_scans", num_scans, 2)
    check_count("num_folds", num_folds, 2)
    if not 0 <= minority <= 1:
        raise ValueError(f"Phantom data set: minority is {minority!r}. Expected a share, 0 to 1.")
    counts = dict(zip(DISEASES, ((num_scans + 1) // 2, num_scans // 2), strict=True))
    scans = [scan for disease, count in counts.items() for scan in _plan_disease(disease, count, minority, num_folds)]
    for disease in DISEASES:
        patients = len({scan.patient for scan in scans if scan.disease == disease})
        if patients < num_folds:
            raise ValueError(
                f"Phantom data set: {num_scans} scans give {patients} patients with {disease}, too few for {num_folds} "
                "folds with both diseases in each. Decrease num_folds or increase num_scans."
            )
    return scans


def _plan_disease(disease: str, count: int, minority: float, num_folds: int) -> Iterator[PlannedScan]:
    """Patients with usual sizes fill the folds from the first, those with rare sizes from the last fold."""
    patients, number, rare_scans = {False: 0, True: 0}, 0, 0
    while number < count:
        rare = round(minority * (number + 1)) > rare_scans
        pair = patients[rare] % PATIENTS_PER_PAIR == PATIENTS_PER_PAIR - 1
        scans = min(2 if pair else 1, count - number)
        fold = patients[rare] % num_folds
        fold = num_folds - 1 - fold if rare else fold
        for examination in range(scans):
            yield PlannedScan(disease, number + examination, sum(patients.values()), examination, rare, fold)
        patients[rare] += 1
        number, rare_scans = number + scans, rare_scans + rare * scans


def _make(scan: PlannedScan, seed: int, shape: Sequence[int], spacing_mm: Sequence[float]) -> Phantom:
    """Generate a scan; no patient has both diseases."""
    kind = DISEASES[scan.disease]
    patient = patient_seed(seed, 2 * scan.patient + kind.label)
    source = np.random.default_rng([seed, 4, kind.label, scan.number])
    ratio = kind.random_ratio(source, scan.rare)
    return make_scan(scan.disease, ratio, patient, shape, spacing_mm, scan.examination)


def _write_scan(root: Path, scan: PlannedScan, phantom: Phantom, seed: int) -> dict[str, object]:
    """Write the three files of a scan and return its datalist entry; the patient's name is unique for the seed."""
    case_id = f"{scan.disease}_{scan.number:03d}"
    arrays = {"image": phantom_hu(phantom), "lung": phantom.lung, "infection": phantom.infection}
    paths = {kind: f"{kind}s/{case_id}.nii.gz" for kind in arrays}
    for kind, array in arrays.items():
        write_nifti_array(array, phantom, root / paths[kind])
    ratio = phantom.infection_ratio
    return {
        "case_id": case_id,
        "patient_id": f"{scan.disease}_patient_{scan.patient:03d}" + (f"_of_seed_{seed}" if seed else ""),
        **paths,
        "label": scan.disease,
        "fold": scan.fold,
        "ratio": ratio,
        "group": size_group(DISEASES[scan.disease].label, ratio) if scan.disease in DISEASES else NORMAL,
    }
