"""CC-CCII, the China Consortium of Chest CT Image Investigation: 8-bit slices of COVID-19, pneumonia and normal scans.

As published (2019nCoVR): archives ``COVID19-1.zip``, ``CP-1.zip``, ``Normal-1.zip``, ... (``NCP-1.zip`` in the lists),
which unpack to ``NCP/<patient>/<scan>/0000.jpg`` or ``.png``, ``CP/`` and ``Normal/``; ``unzip_filenames.csv``
(zip_file, label, patient_id, scan_id, n_slice), ``metadata.csv`` (age and sex of some patients; the exact names of its
columns could not be confirmed) and ``lesions_slices.csv``.

Neither voxel size nor orientation nor the window of the intensities is published. Assumed, where no option says
otherwise: the lung window of level -600 and width 1500; a field of view of 350 mm and a scan of 300 mm from head to
feet (so slices are 300 mm / their number apart); rows to Posterior, columns to Left; slice 0 at the head. Volumes and
distances in mm are therefore estimates; the infection ratio does not depend on them.

Known problems (He et al. 2021, doi:10.1101/2020.06.08.20125963, who publish the clean list ``CT_cleaned_v2.csv`` of
version 1.0 at https://github.com/wang-shihao/HKBU_HPML_COVID-19): slices repeated, out of order or missing, scans that
show only the lungs; an archive that cannot be unpacked. Several scans of a patient, which stay in one fold; a number
that occurs in two classes counts as one patient. The hospital of a scan is not published (docs/public_data.md).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from custom_components.datalists.case_files import existing_root, natural_key
from custom_components.datasets.cc_ccii_tables import (
    DISCARDED,
    METADATA,
    UNZIPPED,
    Cleaning,
    read_cleaned,
    read_patients,
    read_spacings,
    read_unzipped,
)
from custom_components.datasets.conversion import Case, PublicSet, convert_cases, write_case
from custom_components.datasets.diagnoses import diagnosis, normals_left_out
from custom_components.datasets.slice_images import check_slices, distinct_slices, numbered_files, read_stack
from custom_components.files.atomic import absolute_path
from custom_components.labels import LUNG_WINDOW_HU

SET = PublicSet(
    name="CC-CCII",
    purpose="COVID-19 or CAP (8-bit)",
    patients="not stated",
    labels="diagnosis; slices with lesions",
    licence="CC BY 3.0 CN",
    size="not stated",
    page="http://ncov-ai.big.ac.cn/download",
    citation="Zhang et al. 2020, doi:10.1016/j.cell.2020.04.045",
    command="convert_cc_ccii SOURCE TARGET",
)
CLASSES = ("ncp", "cp", "normal")
# Folders between the data set and its classes, such as that of an archive.
MOST_LEVELS = 3
BRIGHTEST = 255.0
FIRST = {"head": -1, "feet": 1}
REMEDY = "Give the list of clean scans with --cleaned, which has the right order of some scans."

Key = tuple[str, str, str]


@dataclass(frozen=True)
class Scan:
    """A scan of the set.

    Args:
        key: class, patient and scan as published; the class in lower case.
        path: folder of the slices; None when the scan is listed but not there.
        archive: archive that holds it, and its number of slices; empty and 0 if not listed.
        problem: why it cannot be used; empty when it can.
    """

    key: Key
    path: Path | None
    archive: tuple[str, int] = ("", 0)
    problem: str = ""


@dataclass(frozen=True)
class Assumptions:
    """What the published files do not say.

    Args:
        window_hu: HU of the intensities 0 and 255.
        field_of_view_mm: width of the image.
        height_mm: length of the scan along the body.
        first: end at which slice 0 lies, ``head`` or ``feet``.
        spacings: pixel size and slice distance in mm of scans for which they are known.

    Raises:
        ValueError: when a value is not plausible.
    """

    window_hu: Sequence[float]
    field_of_view_mm: float
    height_mm: float
    first: str
    spacings: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.window_hu) != 2 or not -np.inf < self.window_hu[0] < self.window_hu[1] < np.inf:
            raise ValueError(f"window_hu is {self.window_hu}. Expected the HU of 0 and 255, such as [-1350, 150].")
        if not (100 <= self.field_of_view_mm <= 700 and 100 <= self.height_mm <= 700):
            raise ValueError(
                f"field_of_view_mm is {self.field_of_view_mm} and height_mm {self.height_mm}. Expected 100 to 700 mm."
            )
        if self.first not in FIRST:
            raise ValueError(f"first is {self.first!r}. Expected head or feet, the end at which slice 0 lies.")

    def volume(self, grey: np.ndarray, scan: str) -> tuple[np.ndarray, np.ndarray]:
        """CT in pseudo-HU, (X, Y, Z), and its affine.

        Args:
            grey: uint8, (slices, rows, columns).
            scan: number of the scan.
        """
        usual = (self.field_of_view_mm / grey.shape[2], self.height_mm / len(grey))
        pixel_mm, slice_mm = self.spacings.get(scan, usual)
        low, high = self.window_hu
        hu = (low + grey.astype(np.float32) / BRIGHTEST * (high - low)).transpose(2, 1, 0)
        affine = np.diag([-pixel_mm, -pixel_mm, slice_mm, 1.0])
        affine[:3, 3] = -affine[:3, :3] @ (np.array(hu.shape) - 1) / 2
        return hu[..., :: FIRST[self.first]], affine


def convert_cc_ccii(
    source: str | Path,
    target: str | Path,
    cleaned: str | Path = "",
    spacings: str | Path = "",
    window_hu: Sequence[float] = LUNG_WINDOW_HU,
    field_of_view_mm: float = 350.0,
    height_mm: float = 300.0,
    first: str = "head",
    normals: bool = False,
) -> Path:
    """Write the scans as volumes in pseudo-HU, and their datalist for inference and ``segment_masks``.

    NCP is covid and CP is cap. Blank slices and exact repeats are dropped; a scan whose neighbouring slices do not fit
    together is left out.

    Args:
        source: folder with ``NCP``, ``CP`` and ``Normal``, at any depth, and the published tables if available.
        target: new or empty folder. It appears when the conversion is complete.
        cleaned: ``CT_cleaned_v2.csv`` of He et al.; scans that it does not list are left out.
        spacings: CSV with scan_id, pixel_mm and slice_mm, for scans whose voxel size is known.
        window_hu: HU of the intensities 0 and 255, assumed.
        field_of_view_mm: width of the images, assumed.
        height_mm: length of a scan, assumed.
        first: end of slice 0, ``head`` or ``feet``, assumed.
        normals: write normal scans too, with the label ``normal``.

    Returns:
        The datalist; all scans of a patient have the same ``patient_id``. ``left_out.csv`` lists skipped scans.

    Raises:
        ValueError: when there are no such folders, a table or a value is not valid, no scan can be used, or the target
            is not an empty folder.
    """
    root = existing_root(source)
    sizes = read_spacings(absolute_path(spacings)) if spacings else {}
    assumed = Assumptions(window_hu, field_of_view_mm, height_mm, first, sizes)
    clean = read_cleaned(absolute_path(cleaned)) if cleaned else None
    folders = list(_class_folders(root))
    places = list(dict.fromkeys([root, *(folder.parent for folder in folders)]))
    scans = _scans(root, folders, places)
    table = _published(places, METADATA)
    patients = read_patients(table) if table else {}
    left_out = normals_left_out({name: diagnosis(scan.key[0]) for name, scan in scans.items()}, normals)
    convert = partial(_convert, assumed=assumed, clean=clean, patients=patients)
    return convert_cases(root, target, scans, convert, left_out)


def _class_folders(folder: Path, levels: int = MOST_LEVELS) -> Iterator[Path]:
    if folder.name.lower() in CLASSES:
        yield folder
        return
    inner = [one for one in folder.iterdir() if one.is_dir() and one.name[0] not in "._"] if levels >= 0 else []
    for one in sorted(inner):
        yield from _class_folders(one, levels - 1)


def _scans(root: Path, folders: Sequence[Path], places: Sequence[Path]) -> dict[str, Scan]:
    """Scans by case id, such as NCP_16_1164, in natural order; those that are listed but not there included."""
    table = _published(places, UNZIPPED)
    listed = read_unzipped(table) if table else {}
    found: dict[Key, Scan] = {key: Scan(key, None, archive) for key, archive in listed.items()}
    for path in (scan for folder in folders for scan in sorted(folder.glob("*/*")) if scan.is_dir()):
        key = (path.parents[1].name.lower(), path.parent.name, path.name)
        twice = key in found and found[key].path is not None
        problem = f"Case {_name(key)}: two folders have this scan. Remove one of them." if twice else ""
        found[key] = Scan(key, path, listed.get(key, ("", 0)), problem)
    if not any(scan.path for scan in found.values()):
        raise ValueError(
            f"Data set {root} has no scans. Expected NCP/<patient>/<scan>/0000.png, ..., and CP/: unpack the archives "
            "and give the folder that contains them."
        )
    return {_name(key): found[key] for key in sorted(found, key=lambda key: natural_key("/".join(key)))}


def _published(places: Sequence[Path], name: str) -> Path | None:
    return next((place / name for place in places if (place / name).is_file()), None)


def _name(key: Key) -> str:
    kind, patient, scan = key
    return f"{kind.upper() if kind != 'normal' else 'Normal'}_{patient}_{scan}"


def _convert(
    name: str,
    scan: Scan,
    folder: Path,
    assumed: Assumptions,
    clean: Mapping[Key, Cleaning] | None,
    patients: Mapping[str, Mapping[str, Any]],
) -> Case:
    archive, count = scan.archive
    if scan.path is None:
        raise ValueError(f"Case {name}: it is listed in {UNZIPPED}, but there is no folder. Unpack {archive}.")
    if scan.problem:
        raise ValueError(scan.problem)
    files = numbered_files(scan.path, name)
    if count not in (0, len(files)):
        raise ValueError(f"Case {name}: {len(files)} slices, {UNZIPPED} lists {count}. Unpack {archive} again.")
    order = _order(name, scan.key, list(files), clean)
    grey = read_stack(files, order, name)
    kept = distinct_slices(grey)
    check_slices(grey[kept], name, REMEDY)
    hu, affine = assumed.volume(grey[kept], scan.key[2])
    patient = scan.key[1]
    known = {"label": diagnosis(scan.key[0]), **patients.get(patient, {})}
    return {"case_id": name, "patient_id": patient, **write_case(folder, name, {"image": hu}, affine), **known}


def _order(name: str, key: Key, numbers: list[int], clean: Mapping[Key, Cleaning] | None) -> list[int]:
    """Numbers of the slices to read, in order."""
    if clean is None:
        gaps = sorted(set(range(numbers[0], numbers[-1])) - set(numbers)) if numbers else []
        if gaps:
            raise ValueError(f"Case {name}: {len(gaps)} slices are missing, the first is {gaps[0]}. {REMEDY}")
        return numbers
    row = clean.get(key)
    if row is None or row.segmented or row.repeated == DISCARDED:
        reason = "is not listed" if row is None else "shows only the lungs" if row.segmented else "is discarded"
        raise ValueError(f"Case {name}: it {reason}, according to the list of clean scans.")
    return row.apply(numbers)
