"""Slice and lobe labels of COVID-CT-MD.

As published: ``Index.csv`` (Label Index, Diagnosis, Relative Path, Folder/ID), ``Slice-level-labels.npy`` (79, 200) and
``Lobe-level-labels.npy`` (79, 200, 5), each also as ``-updated-1.npy`` with corrected labels of P001 and P006, which is
preferred. Lobes: left lower, left upper, right lower, right middle, right upper.

Known problems: the column Label Index skips 43, so that from P044 on it is one larger than the row of the arrays. Rows
are therefore counted by position: 79 patients are listed and the arrays have 79 rows. On cap001, the labels of the row
by position agree with the dense parts of the left lung (correlation 0.85), those of the row by Label Index less (0.47).
The authors sort slices by SliceLocation without stating the direction; index 0 is the slice nearest the head, as the
same comparison shows on P002, cap001 and cap002.
"""

import csv
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from custom_components.files.report_files import write_csv

INDEX, INDEX_COLUMN = "Index.csv", "Folder/ID"
SLICES, LOBES = "Slice-level-labels", "Lobe-level-labels"
NUM_LOBES = 5
TABLE = "_slices.csv"
COLUMNS = ("slice_index_sorted_by_SliceLocation", "infected", *(f"lobe_{number}" for number in range(1, NUM_LOBES + 1)))
# Key of a case in the datalist: the table of its labels.
SLICE_LABELS = "slice_labels"

_logger = logging.getLogger(__name__)


def read_slice_labels(folders: Sequence[Path]) -> dict[str, np.ndarray]:
    """Labels of the labelled patients.

    Args:
        folders: folders that may hold the published files, or tables such as ``P001_slices.csv`` with ``COLUMNS``.

    Returns:
        By patient, uint8 (slices, 1 + lobes): infected, then the lobes if known; slices from the head, and possibly
        more rows than slices. Empty when nothing is published there.

    Raises:
        ValueError: when files do not belong together or cannot be read.
    """
    index = next((folder / INDEX for folder in folders if (folder / INDEX).is_file()), None)
    slices, lobes = (_newest(folders, name) for name in (SLICES, LOBES))
    tables = [path for folder in folders for path in sorted(folder.glob(f"*{TABLE}"))]
    labels = {path.name.removesuffix(TABLE): read_slice_table(path) for path in tables}
    if slices is None or index is None:
        return labels
    patients, arrays = _patients(index), [_array(path) for path in (slices, lobes) if path]
    rows = {len(array) for array in arrays}
    if rows != {len(patients)} or any(array.shape[:2] != arrays[0].shape[:2] for array in arrays):
        shapes = " and ".join(str(array.shape) for array in arrays)
        raise ValueError(
            f"{index.name} lists {len(patients)} patients, but the labels have the shape {shapes}. Expected a row for "
            "each: use the files of one release."
        )
    _logger.info("Slice labels are read from %s.", ", ".join(path.name for path in (slices, lobes) if path))
    joined = np.concatenate([array.reshape(*array.shape[:2], -1) for array in arrays], axis=2)
    return dict(zip(patients, joined, strict=True)) | labels


def read_slice_table(path: Path) -> np.ndarray:
    """Labels of one scan from a table, as :func:`write_slice_labels` writes it.

    Args:
        path: CSV with ``COLUMNS``; those of the lobes may be missing.

    Returns:
        uint8 (slices, 1 + lobes): infected, then the lobes if known; slices from the head.

    Raises:
        ValueError: when it cannot be read, or has other values than 0 and 1.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = sorted(csv.DictReader(file), key=lambda row: int(row[COLUMNS[0]]))
        labels = np.array([[row[name] for name in COLUMNS[1:] if name in row] for row in rows], dtype=np.uint8)
    except (OSError, KeyError, TypeError, ValueError, csv.Error) as error:
        raise ValueError(f"{path} cannot be read: {error!r}. Expected a CSV with {', '.join(COLUMNS)}.") from error
    if labels.ndim != 2 or labels.max(initial=0) > 1:
        raise ValueError(f"{path} has other values than 0 and 1. Expected labels of slices and lobes.")
    return labels


def write_slice_labels(labels: np.ndarray, slices: int, path: Path, case: str) -> bool:
    """Write the labels of a scan as a table; labels that do not fit the scan are not written and cause a warning.

    Args:
        labels: (slices or more, 1 + lobes).
        slices: number of slices of the scan.
        path: CSV to write.
        case: for messages.

    Returns:
        Whether they were written.
    """
    if len(labels) < slices or labels[slices:].any():
        marked = np.flatnonzero(labels.any(axis=1))
        _logger.warning(
            "Case %s: the slice labels reach slice %d of %d, but the scan has %d slices. They are not used.",
            case, marked[-1] if len(marked) else 0, len(labels), slices,
        )  # fmt: skip
        return False
    rows = [dict(zip(COLUMNS, (k, *row), strict=False)) for k, row in enumerate(labels[:slices].tolist())]
    path.parent.mkdir(exist_ok=True)
    write_csv(path, rows, COLUMNS[: 1 + labels.shape[1]])
    return True


def _newest(folders: Sequence[Path], name: str) -> Path | None:
    """The updated file of a name if there is one, else the first release."""
    found = [path for folder in folders for path in folder.glob(f"{name}*.npy")]
    return max(found, key=lambda path: ("updated" in path.name, path.name), default=None)


def _patients(index: Path) -> list[str]:
    try:
        with index.open(newline="", encoding="utf-8-sig") as file:
            return [row[INDEX_COLUMN].strip() for row in csv.DictReader(file)]
    except (OSError, KeyError, AttributeError, ValueError, csv.Error) as error:
        raise ValueError(
            f"{index} cannot be read: {error!r}. Expected a CSV with the column {INDEX_COLUMN}."
        ) from error


def _array(path: Path) -> np.ndarray:
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"{path} cannot be read: {error}. Download it again.") from error
    if array.ndim not in (2, 3) or not np.isin(array, (0, 1)).all():
        raise ValueError(
            f"{path} has the shape {array.shape}. Expected labels of 0 and 1, (patients, slices[, lobes])."
        )
    return array.astype(np.uint8)
