"""Runs of slices of the 20 public COVID-19 volumes (Zenodo 3757476) as scans in pseudo-HU."""

import csv
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
from custom_components.datalists.case_files import existing_root, natural_key
from custom_components.datalists.case_problems import shorten
from custom_components.datalists.datalist_file import DATALIST_NAME, write_datalist
from custom_components.datalists.scans import MASK_FOLDERS, PATH_KEYS
from custom_components.files.atomic import new_folder
from custom_components.images.nifti import check_extent
from custom_components.images.writers import save_volume
from custom_components.infection_size import CLASS_NAMES, COVID, size_group
from scipy import ndimage
from tqdm import tqdm

FOLDERS = {"image": "images", **MASK_FOLDERS}
ARRAYS = ("ct", "lung", "infection")
COLUMNS = ("name", "patient_id", "slice_mm", "rows_to")

# Neighbouring slices of one scan correlate with 0.71 or more, the seams between two scans with 0.55 or less.
SEAM_CORRELATION = 0.65
# Largest unpacked run: 1,000 slices of 1,024 x 1,024 with both masks.
MOST_BYTES = 3 * 2**30

# Every n-th pixel is compared.
SEAM_STEP = 4

# Distances from the lungs, in pixels, between which lie fat and other soft tissue: chest wall, heart, diaphragm.
WALL_PX = (3, 8)
# Quantile of its intensities that is fat.
FAT_QUANTILE = 0.25
# HU of the air around the patient, lung without infection, the fat around it, and the brightest pixel.
LANDMARKS_HU = (-1000.0, -860.0, -100.0, 700.0)
BRIGHTEST, LEAST_HU = 255.0, -1024.0

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SliceRun:
    """Consecutive slices of one scan, as published.

    Args:
        name: case id.
        grey: uint8 (slices, rows, columns), slices towards the head.
        lung: 0/1, infected lung included, same shape.
        infection: 0/1, same shape.
    """

    name: str
    grey: np.ndarray
    lung: np.ndarray
    infection: np.ndarray


def convert_covid20_slices(
    source: str | Path,
    target: str | Path,
    spacing_mm: Sequence[float] = (1.5, 1.5, 1.5),
    table: str | Path = "",
    num_folds: int = 5,
) -> Path:
    """Write runs of slices as NIfTI scans with lung and infection masks, and their datalist.

    A run is cut where neighbouring slices do not belong together: ``volume_0279_1``, ``volume_0279_2``. A single slice
    is not a volume and is skipped with a warning. Intensities become pseudo-HU (:func:`equalized_to_hu`). The published
    files have neither voxel size nor orientation: where you know better than the defaults, give a table. Folds are by
    patient, assigned in order.

    Args:
        source: folder of ``volume_NNNN.npz`` with ct (uint8), lung and infection (0/1), each (slices, rows, columns).
        target: new or empty folder. It appears when the conversion is complete.
        spacing_mm: assumed voxel size along columns, rows and slices.
        table: CSV with the columns name (of a scan, such as volume_0279_1) and, where known, patient_id, slice_mm
            and rows_to (``P``, the default: anterior is up; ``A``: anterior is down).
        num_folds: folds of cross-validation, at most one per patient.

    Returns:
        The datalist, in the form that ``build_datalist`` writes; every label is covid.

    Raises:
        ValueError: when a file has another form, no run has two slices that belong together, a voxel size is not
            plausible in mm, the table names an unknown scan, or the folder is not empty.
    """
    root = existing_root(source)
    files = sorted(root.glob("volume_*.npz"), key=lambda path: natural_key(path.name))
    if not files:
        raise ValueError(f"Data set {root} has no volume_*.npz. Give the folder of the runs of slices.")
    if len(spacing_mm) != 3 or not all(0 < step < np.inf for step in spacing_mm):
        raise ValueError(f"spacing_mm is {tuple(spacing_mm)}. Expected three sizes in mm: columns, rows, slices.")
    rows = _table(table)
    cases, single = [], []
    with new_folder(target) as folder:
        for run in (run for path in tqdm(files, "runs", disable=None) for run in _runs(path)):
            row = rows.pop(run.name, {})
            if len(run.grey) > 1:
                cases.append(_write(run, folder, spacing_mm, row))
            else:
                single.append(run.name)
        if rows:
            raise ValueError(f"Table {table} names {', '.join(rows)}, but {root} has no such scan. Correct the names.")
        if not cases:
            raise ValueError(
                f"Data set {root} has only single slices: {shorten(single)}. Expected runs of two or more slices."
            )
        write_datalist(with_folds(cases, num_folds), folder / DATALIST_NAME, PATH_KEYS)
    _logger.info("Wrote %s: %d scans.", target, len(cases))
    if single:
        _logger.warning("%d scans with a single slice were skipped: %s.", len(single), shorten(single))
    return Path(str(target)) / DATALIST_NAME


def equalized_to_hu(grey: np.ndarray, lung: np.ndarray, infection: np.ndarray) -> np.ndarray:
    """Map the intensities of a contrast-equalised run to HU by a monotone curve through its own landmarks.

    The landmarks are the medians of the air around the patient (darker than lung) and of lung without infection, the
    lower quartile of the soft tissue around the lungs, which is fat, and the brightest intensity; between them the
    curve is straight.

    Args:
        grey: uint8, shape (slices, rows, columns).
        lung: 0/1, infected lung included, same shape.
        infection: 0/1, same shape.

    Returns:
        float32 HU, at least -1024, same shape.

    Raises:
        ValueError: when the landmarks are not in increasing order: the masks are empty or not on the lungs.

    Example:
        >>> grey = np.full((1, 40, 40), 30, np.uint8)
        >>> grey[0, 4:36, 4:36], grey[0, 16:24, 16:24] = 150, 60
        >>> hu = equalized_to_hu(grey, grey == 60, grey == 0)
        >>> hu[0, 0, 0], hu[0, 20, 20], hu[0, 8, 8]
        (np.float32(-1000.0), np.float32(-860.0), np.float32(-100.0))
    """
    inside = np.asarray(lung, bool) | np.asarray(infection, bool)
    healthy = inside & ~np.asarray(infection, bool)
    lung_grey = _quantile(grey[healthy], 0.5)
    around = _grown(inside, WALL_PX[1]) & ~_grown(inside, WALL_PX[0])
    air, fat = _quantile(grey[~inside & (grey < lung_grey)], 0.5), _quantile(grey[around], FAT_QUANTILE)
    landmarks = (air, lung_grey, fat, BRIGHTEST)
    if not all(low < high for low, high in pairwise(landmarks)):
        raise ValueError(
            "Intensities of air, lung, fat and the brightest pixel are "
            f"{', '.join(f'{value:g}' for value in landmarks)}. Expected each brighter than the one before: check that "
            "the lung mask lies on the lungs."
        )
    steepness = (LANDMARKS_HU[1] - LANDMARKS_HU[0]) / (landmarks[1] - landmarks[0])
    darkest = LANDMARKS_HU[0] - steepness * (landmarks[0] + 1)
    curve = np.interp(np.arange(256), (-1, *landmarks), (darkest, *LANDMARKS_HU))
    return np.maximum(curve, LEAST_HU).astype(np.float32)[grey]


def seams(grey: np.ndarray) -> list[int]:
    """Slices at which another scan begins in a run.

    Args:
        grey: shape (slices, rows, columns).

    Returns:
        Slice indices k for which slice k - 1 belongs to another scan.

    Example:
        >>> wave = np.sin(np.arange(64.0))[None, :, None] * np.ones((5, 1, 8))
        >>> seams(np.concatenate([wave, wave.transpose(0, 2, 1).repeat(8, 1)[:, :, :8], -wave]))
        [5, 10]
    """
    coarse = np.asarray(grey, np.float32)[:, ::SEAM_STEP, ::SEAM_STEP].reshape(len(grey), -1)
    coarse -= coarse.mean(axis=1, keepdims=True)
    coarse /= np.maximum(np.linalg.norm(coarse, axis=1, keepdims=True), 1e-6)
    correlation = (coarse[1:] * coarse[:-1]).sum(axis=1)
    return (np.flatnonzero(correlation < SEAM_CORRELATION) + 1).tolist()


def _runs(path: Path) -> Iterator[SliceRun]:
    grey, lung, infection = _load(path)
    starts = [0, *seams(grey)]
    for number, (start, stop) in enumerate(zip(starts, [*starts[1:], len(grey)], strict=True), start=1):
        name = path.stem if len(starts) == 1 else f"{path.stem}_{number}"
        own = slice(start, stop)
        yield SliceRun(name, grey[own], (lung | infection)[own], infection[own])


def _load(path: Path) -> list[np.ndarray]:
    try:
        check_unpacked(path)
        with np.load(path, allow_pickle=False) as file:
            arrays = [file[name] for name in ARRAYS]
    except Exception as error:  # zip, zlib and NumPy raise different types
        reason = str(error) or type(error).__name__
        raise ValueError(
            f"{path.name} cannot be read: {reason}. Expected an .npz with the arrays {', '.join(ARRAYS)}."
        ) from error
    shapes = {array.shape for array in arrays}
    if len(shapes) > 1 or arrays[0].ndim != 3 or any(array.dtype != np.uint8 for array in arrays):
        found = ", ".join(f"{name} {array.dtype} {array.shape}" for name, array in zip(ARRAYS, arrays, strict=True))
        raise ValueError(f"{path.name} has {found}. Expected uint8 of one shape (slices, rows, columns).")
    for name, mask in zip(ARRAYS[1:], arrays[1:], strict=True):
        if mask.max(initial=0) > 1:
            raise ValueError(f"{path.name}: {name} goes up to {mask.max()}. Expected a mask of 0 and 1.")
    return arrays


def check_unpacked(path: Path) -> None:
    """Raise ValueError when an unpacked .npz would be larger than any run of slices or scan."""
    with ZipFile(path) as archive:
        size = sum(member.file_size for member in archive.infolist())
    if size > MOST_BYTES:
        raise ValueError(f"unpacked it has {size:,} bytes, at most {MOST_BYTES:,} are expected")


def _write(run: SliceRun, folder: Path, spacing_mm: Sequence[float], row: Mapping[str, str]) -> dict[str, Any]:
    """Write the three files of a scan; returns its datalist entry."""
    try:
        hu = equalized_to_hu(run.grey, run.lung, run.infection)
    except ValueError as error:
        raise ValueError(f"Case {run.name}: {error}") from error
    affine = _affine(run, spacing_mm, row)
    paths = {key: str(folder / name / f"{run.name}.nii.gz") for key, name in FOLDERS.items()}
    check_extent(Path(paths["image"]), run.name, affine, run.grey.shape[::-1])
    arrays = {"image": np.rint(hu).astype(np.int16), "lung": run.lung, "infection": run.infection}
    for key, array in arrays.items():
        save_volume(array.transpose(2, 1, 0), affine, Path(paths[key]))
    ratio = float(run.infection.sum() / run.lung.sum())
    return covid_entry(run.name, row.get("patient_id") or run.name, paths, ratio)


def covid_entry(name: str, patient_id: str, paths: Mapping[str, str], ratio: float) -> dict[str, Any]:
    """Entry of a datalist for a scan of COVID-19 with its masks.

    Args:
        name: case id.
        patient_id: pseudonym.
        paths: image, lung and infection mask.
        ratio: infection volume / lung volume.
    """
    rounded = round(ratio, 6)
    known = {"label": CLASS_NAMES[COVID], "ratio": rounded, "group": size_group(COVID, rounded)}
    return {"case_id": name, "patient_id": patient_id, **paths, **known}


def _affine(run: SliceRun, spacing_mm: Sequence[float], row: Mapping[str, str]) -> np.ndarray:
    """Columns to Left, rows to Posterior or Anterior, slices to Superior; the origin is the centre of the volume."""
    down = {"P": -1.0, "A": 1.0}.get((row.get("rows_to") or "P").strip().upper())
    if down is None:
        raise ValueError(f"Case {run.name}: rows_to is {row['rows_to']!r}. Expected P (anterior is up) or A.")
    slice_mm = _number(row.get("slice_mm") or spacing_mm[2])
    if not 0 < slice_mm < np.inf:
        raise ValueError(f"Case {run.name}: slice_mm is {row['slice_mm']!r}. Expected a size in mm, such as 1.5.")
    affine = np.diag([-spacing_mm[0], down * spacing_mm[1], slice_mm, 1.0])
    affine[:3, 3] = -affine[:3, :3] @ (np.array(run.grey.shape[::-1]) - 1) / 2
    return affine


def _number(value: str | float) -> float:
    try:
        return float(value)
    except ValueError:
        return float("nan")


def with_folds(cases: Sequence[dict[str, Any]], num_folds: int) -> list[dict[str, Any]]:
    """Assign patients to folds in turn.

    Args:
        cases: entries of a datalist.
        num_folds: folds of cross-validation, at most one per patient.

    Raises:
        ValueError: when there are fewer patients.
    """
    patients = list(dict.fromkeys(case["patient_id"] for case in cases))
    if not 1 <= num_folds <= len(patients):
        raise ValueError(f"num_folds is {num_folds}. Expected 1 to {len(patients)}, the number of patients.")
    return [{**case, "fold": patients.index(case["patient_id"]) % num_folds} for case in cases]


def _table(path: str | Path) -> dict[str, dict[str, str]]:
    if not path:
        return {}
    try:
        with Path(str(path)).open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, restval="")
            rows, columns = list(reader), reader.fieldnames or []
    except (OSError, ValueError, csv.Error) as error:
        raise ValueError(f"Table {path} cannot be read: {error}. Expected a CSV in UTF-8.") from error
    if "name" not in columns or not set(columns) <= set(COLUMNS) or any(None in row for row in rows):
        raise ValueError(
            f"Table {path} has the columns {columns}. Expected {', '.join(COLUMNS)}, and no row with more values."
        )
    return {row["name"]: row for row in rows}


def _grown(mask: np.ndarray, pixels: int) -> np.ndarray:
    return ndimage.binary_dilation(mask, np.pad(np.ones((1, 3, 3), bool), ((1, 1), (0, 0), (0, 0))), pixels)


def _quantile(values: np.ndarray, share: float) -> float:
    return float(np.quantile(values, share)) if values.size else float("nan")
