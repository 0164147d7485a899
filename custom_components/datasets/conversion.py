"""Shared parts of the converters: finding files, reading tables, writing the folder, listing skipped scans."""

import csv
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from custom_components.datalists.case_files import natural_key
from custom_components.datalists.case_problems import problem_report
from custom_components.datalists.datalist_file import DATALIST_NAME, write_datalist
from custom_components.files.atomic import new_folder
from custom_components.files.report_files import write_csv
from custom_components.images.ct_reader import NIFTI_SUFFIXES, CTReader
from custom_components.images.writers import save_volume
from monai.data import MetaTensor
from tqdm import tqdm

LEFT_OUT = "left_out.csv"
FOLDERS = {"image": "images", "label": "masks", "lung": "lungs", "infection": "infections"}
INT16 = (-(2**15), 2**15 - 1)

Case = dict[str, Any]
Source = TypeVar("Source")

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PublicSet:
    """Facts about a public data set.

    Args:
        name: published name.
        purpose: its use in this project.
        patients: number of patients, or of scans if patients are unknown.
        labels: annotated structures.
        licence: licence stated at the source.
        size: size of the download.
        page: download page.
        citation: authors, year, DOI.
        command: command that converts it, with its arguments.
    """

    name: str
    purpose: str
    patients: str
    labels: str
    licence: str
    size: str
    page: str
    citation: str
    command: str


def nifti_files(root: Path) -> list[Path]:
    """NIfTI files at any depth in natural order, without hidden ones (which macOS adds to archives).

    Args:
        root: the unpacked data set.
    """
    found = [path for path in root.rglob("*.nii*") if path.name.lower().endswith(NIFTI_SUFFIXES) and path.is_file()]
    return sorted((path for path in found if path.name[0] != "."), key=lambda path: natural_key(str(path)))


def load_volume(path: str | Path, reader: CTReader) -> MetaTensor:
    """Voxels of a file in its own data type, shape (1, X, Y, Z), with the affine."""
    array, meta = reader.get_data(reader.read(path))
    return MetaTensor(torch.from_numpy(array)[None], affine=torch.from_numpy(meta["affine"]))


def write_case(folder: Path, name: str, arrays: Mapping[str, np.ndarray], affine: np.ndarray) -> dict[str, str]:
    """Write the volumes of a case.

    Args:
        folder: folder of the converted set.
        name: name of the case.
        arrays: image in HU, shape (X, Y, Z), and masks, by the keys of ``FOLDERS``.
        affine: (4, 4), voxel index to RAS mm.

    Returns:
        The files by key, relative to the folder; images are int16, masks uint8.
    """
    paths = {key: f"{FOLDERS[key]}/{name}.nii.gz" for key in arrays}
    for key, array in arrays.items():
        stored = np.rint(array).clip(*INT16).astype(np.int16) if key == "image" else array.astype(np.uint8)
        save_volume(stored, affine, folder / paths[key])
    return paths


def read_rows(path: Path, columns: Sequence[str] = ()) -> list[dict[str, str]]:
    """Rows of a CSV without the spaces around names and values.

    Args:
        path: the file.
        columns: columns that it must have.

    Raises:
        ValueError: when it cannot be read or lacks a column.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [
                {str(name).strip(): str(value or "").strip() for name, value in row.items()}
                for row in csv.DictReader(file)
            ]
    except (OSError, ValueError, csv.Error) as error:
        raise ValueError(f"Table {path} cannot be read: {error}. Expected a CSV in UTF-8.") from error
    missing = [name for name in columns if rows and name not in rows[0]]
    if missing or not rows:
        expected = f" Expected {', '.join(columns)}." if columns else ""
        raise ValueError(f"Table {path} has no {', '.join(missing) or 'rows'}.{expected}")
    return rows


def convert_cases(
    root: Path,
    target: str | Path,
    sources: Mapping[str, Source],
    convert: Callable[[str, Source, Path], Case],
    left_out: Mapping[str, str] | None = None,
    finish: Callable[[Sequence[Case]], Sequence[Case]] = list,
) -> Path:
    """Convert scans one by one; unusable ones are skipped and listed with the reason.

    Args:
        root: the unpacked data set, for messages.
        target: new or empty folder. It appears when the conversion is complete.
        sources: source files of each case by name.
        convert: writes the files of a case into a folder and returns its datalist entry; its ValueError is the reason
            for skipping the case.
        left_out: cases that are always skipped, with the reason.
        finish: completes the entries of all cases.

    Returns:
        The datalist.

    Raises:
        ValueError: when no case is left, or the folder is not empty.
    """
    reasons, cases = dict(left_out or {}), []
    with new_folder(target) as folder:
        for name in tqdm([name for name in sources if name not in reasons], "scans", disable=None):
            try:
                cases.append(convert(name, sources[name], folder))
            except ValueError as error:
                reasons[name] = str(error)
        if not cases:
            raise ValueError(problem_report(root, list(reasons.values())))
        write_datalist(finish(cases), folder / DATALIST_NAME, path_keys=())
        rows = [{"case_id": name, "reason": reason} for name, reason in sorted(reasons.items())]
        write_csv(folder / LEFT_OUT, rows, ("case_id", "reason"))
    _logger.info("Wrote %s: %d scans; %d were skipped, see %s.", target, len(cases), len(reasons), LEFT_OUT)
    return Path(str(target)) / DATALIST_NAME
