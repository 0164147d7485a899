"""Data sets of phantoms for the segmentation bundle."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from custom_components.files.atomic import atomic_path, new_folder
from custom_components.labels import LUNG_WINDOW_HU, SYNTHETIC
from custom_components.phantom.cache import cached_folder
from custom_components.phantom.generate import SLICE_LEVELS_MM, make_slice, make_volume
from custom_components.phantom.nifti import phantom_hu, write_nifti_array
from custom_components.phantom.phantom import Phantom
from tqdm import tqdm

# Part of the names of cached folders: increase it when the same seed gives another phantom or datalist.
GENERATOR_VERSION = 2

SUFFIXES = ("png", "nii.gz")
PROGRESS_FROM = 20
_FOLDERS = {"image": "images", "label": "masks", "lung": "lungs"}


@dataclass(frozen=True)
class _Case:
    """A case to generate."""

    case_id: str
    group: str
    patient_seed: int
    level_mm: float = 0.0


def write_slice_dataset(
    folder: str | Path,
    num_slices: int = 40,
    size: Sequence[int] = (192, 192),
    seed: int = 0,
    suffix: str = "png",
    num_patients: int | None = None,
) -> Path:
    """Write axial slices with their masks; consecutive slices are of one patient, as in the public data.

    Args:
        folder: new or empty folder.
        num_slices: number of slices.
        size: pixels along x, y.
        seed: another seed gives other patients.
        suffix: ``png``: uint8 intensities of the lung window, rows are y; ``nii.gz``: int16 HU of shape (X, Y, 1).
        num_patients: number of patients; ``None`` gives each patient 2 to 4 slices.

    Returns:
        The folder: ``images``, ``masks``, ``lungs`` with files 000, 001, ..., and ``datalist.json`` whose ``cases``
        have case_id, image, label, lung (paths relative to the folder), group (the patient) and synthetic (true).

    Raises:
        ValueError: when an argument is out of range or the folder is not empty.
    """
    if suffix not in SUFFIXES:
        raise ValueError(f"Phantom data set: suffix is {suffix!r}. Expected one of {', '.join(SUFFIXES)}.")
    if len(size) != 2:
        raise ValueError(f"Phantom data set: size is {list(size)}. Expected two numbers of pixels, such as [192, 192].")
    check_count("num_slices", num_slices, 1)
    check_count("seed", seed, 0)
    counts = _slices_per_patient(num_slices, num_patients, np.random.default_rng([seed, 1]))
    cases = list(_slice_cases(counts, seed))
    phantoms = (make_slice(case.patient_seed, size, level_mm=case.level_mm) for case in cases)
    return _write_dataset(folder, cases, phantoms, suffix)


def write_volume_dataset(
    folder: str | Path,
    num_volumes: int = 4,
    shape: Sequence[int] = (128, 128, 48),
    spacing_mm: Sequence[float] = (2.8, 2.8, 6.0),
    seed: int = 0,
) -> Path:
    """Write chest CTs of different patients as NIfTI.

    Args:
        folder: new or empty folder.
        num_volumes: number of volumes.
        shape: voxels along x, y, z.
        spacing_mm: voxel size along x, y, z.
        seed: another seed gives other patients.

    Returns:
        The folder, with the layout of :func:`write_slice_dataset`.

    Raises:
        ValueError: when an argument is out of range or the folder is not empty.
    """
    check_count("num_volumes", num_volumes, 1)
    check_count("seed", seed, 0)
    cases = [
        _Case(f"{number:03d}", f"patient_{number:03d}", patient_seed(seed, number)) for number in range(num_volumes)
    ]
    phantoms = (make_volume(case.patient_seed, shape, spacing_mm) for case in cases)
    return _write_dataset(folder, cases, phantoms, "nii.gz")


def phantom_dataset(num_slices: int = 40, size: Sequence[int] = (192, 192), seed: int = 0) -> Path:
    """Folder of a slice data set in the cache; written if it does not exist.

    Args:
        num_slices: number of slices.
        size: pixels along x, y.
        seed: another seed gives other patients.

    Returns:
        As :func:`custom_components.phantom.cache.cached_folder`.

    Raises:
        ValueError: when an argument is out of range or the cache folder cannot be written to.
    """
    name = f"v{GENERATOR_VERSION}_{num_slices}_slices_{'x'.join(map(str, size))}_seed_{seed}"
    return cached_folder(name, lambda draft: write_slice_dataset(draft, num_slices, size, seed))


def check_count(name: str, count: int, least: int) -> None:
    """Check that an argument is a whole number and at least ``least``.

    Raises:
        ValueError: names the argument.
    """
    if isinstance(count, bool) or not isinstance(count, int | np.integer) or count < least:
        raise ValueError(f"Phantom data set: {name} is {count!r}. Expected a whole number, {least} or more.")


def _slices_per_patient(num_slices: int, num_patients: int | None, rng: np.random.Generator) -> list[int]:
    if num_patients is not None:
        check_count("num_patients", num_patients, 1)
        if num_patients > num_slices:
            raise ValueError(
                f"Phantom data set: {num_patients} patients for {num_slices} slices. "
                "Expected at least one slice per patient: decrease num_patients or increase num_slices."
            )
        return [len(part) for part in np.array_split(np.arange(num_slices), num_patients)]
    counts: list[int] = []
    while (remaining := num_slices - sum(counts)) > 0:
        counts.append(remaining if remaining <= 4 else min(int(rng.integers(2, 5)), remaining - 2))
    return counts


def _slice_cases(counts: Sequence[int], seed: int) -> Iterator[_Case]:
    """Slices of one patient are 12 to 24 mm apart, around a random level."""
    number = 0
    for patient, count in enumerate(counts):
        rng = np.random.default_rng([seed, 2, patient])
        levels = np.cumsum(rng.uniform(12.0, 24.0, size=count))
        levels += rng.uniform(*SLICE_LEVELS_MM) - levels.mean()
        for level in np.clip(levels, -100.0, 100.0):
            yield _Case(f"{number:03d}", f"patient_{patient:03d}", patient_seed(seed, patient), round(float(level), 1))
            number += 1


def patient_seed(seed: int, patient: int) -> int:
    """Seed of one patient; different for different patients and data sets."""
    return int(np.random.default_rng([seed, 3, patient]).integers(2**31))


def _write_dataset(folder: str | Path, cases: Sequence[_Case], phantoms: Iterator[Phantom], suffix: str) -> Path:
    entries = []
    progress = tqdm(phantoms, "phantom", total=len(cases), disable=len(cases) <= PROGRESS_FROM, unit="case")
    with new_folder(folder) as root:
        for case, phantom in zip(cases, progress, strict=True):
            paths = {kind: f"{part}/{case.case_id}.{suffix}" for kind, part in _FOLDERS.items()}
            image = window_grey(phantom) if suffix == "png" else phantom_hu(phantom)
            for kind, array in {"image": image, "label": phantom.label, "lung": phantom.lung}.items():
                if suffix == "png":
                    _write_png(array, root / paths[kind])
                else:
                    write_nifti_array(array, phantom, root / paths[kind])
            entries.append({"case_id": case.case_id, **paths, "group": case.group})
        write_phantom_datalist(root, entries)
    return Path(folder)


def write_phantom_datalist(root: Path, entries: Sequence[Mapping[str, object]]) -> None:
    """Write the cases of a data set, marked as synthetic, to ``datalist.json`` in its folder."""
    with atomic_path(root / "datalist.json") as temporary:
        cases = [{**entry, SYNTHETIC: True} for entry in entries]
        temporary.write_text(json.dumps({"cases": cases}, indent=1) + "\n", encoding="utf-8")


def window_grey(phantom: Phantom) -> np.ndarray:
    """The image in the lung window: uint8, 0 at -1350 HU and below, 255 at 150 HU and above, shape (X, Y, Z)."""
    low, high = LUNG_WINDOW_HU
    return np.rint(np.clip((phantom.image_hu - low) / (high - low), 0.0, 1.0) * 255).astype(np.uint8)


def _write_png(array: np.ndarray, path: Path) -> None:
    """Write a slice of shape (X, Y, 1) with y along the rows."""
    from PIL import Image

    with atomic_path(path) as temporary:
        Image.fromarray(np.ascontiguousarray(array[:, :, 0].T)).save(temporary)
