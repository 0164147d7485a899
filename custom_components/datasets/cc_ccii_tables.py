"""Tables of CC-CCII: the published lists of scans and patients, and the list of clean scans by He et al."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from custom_components.datasets.conversion import read_rows
from custom_components.datasets.diagnoses import sex_and_age

UNZIPPED, METADATA = "unzip_filenames.csv", "metadata.csv"
DISCARDED = "discard"


@dataclass(frozen=True)
class Cleaning:
    """A row of ``CT_cleaned.csv``: cls, pid, scan_id, is_seg, is_repeat, repeat_ids, re_order.

    Args:
        segmented: the images show only the lungs.
        repeated: slices to leave out: ``0-46;132``, or ``discard`` for the whole scan.
        order: slices in the right order: ``30+41-52+0-29``, or ``reverse``; empty if the order is right.
    """

    segmented: bool
    repeated: str
    order: str

    def apply(self, numbers: Sequence[int]) -> list[int]:
        """Numbers of the slices to use, in order.

        Args:
            numbers: the slices that there are, in the order of their numbers.

        Example:
            >>> Cleaning(False, "1;3-4", "5-6+0-4").apply(range(7))
            [5, 6, 0, 2]
        """
        ordered = list(reversed(numbers)) if self.order == "reverse" else list(numbers)
        if self.order and self.order != "reverse":
            there = set(numbers)
            ordered = [number for number in _spans(self.order, "+") if number in there]
        out = set() if self.repeated == DISCARDED else set(_spans(self.repeated, ";"))
        return [number for number in ordered if number not in out]


def read_cleaned(path: Path) -> dict[tuple[str, str, str], Cleaning]:
    """The list of clean scans by class, patient and scan.

    Args:
        path: ``CT_cleaned.csv`` or ``CT_cleaned_v2.csv`` of He et al.

    Raises:
        ValueError: when it has another form.
    """
    rows = read_rows(path, ("cls", "pid", "scan_id", "is_seg", "repeat_ids", "re_order"))
    keys = [(row["cls"].lower(), row["pid"], row["scan_id"]) for row in rows]
    entries = [Cleaning(row["is_seg"] == "1", row["repeat_ids"], row["re_order"]) for row in rows]
    cleaned = dict(zip(keys, entries, strict=True))
    for key, row in cleaned.items():
        try:
            row.apply(())
        except ValueError:
            raise ValueError(
                f"Table {path}: scan {'/'.join(key)} has the slices {row.repeated!r} and the order {row.order!r}. "
                "Expected numbers and spans such as 0-46;132 and 30+41-52+0-29."
            ) from None
    return cleaned


def read_unzipped(path: Path) -> dict[tuple[str, str, str], tuple[str, int]]:
    """Archive and number of slices of each scan by class, patient and scan.

    Args:
        path: ``unzip_filenames.csv``: zip_file, label, patient_id, scan_id, n_slice.

    Raises:
        ValueError: when it has another form.
    """
    rows = read_rows(path, ("zip_file", "label", "patient_id", "scan_id", "n_slice"))
    try:
        return {
            (row["label"].lower(), row["patient_id"], row["scan_id"]): (row["zip_file"], int(float(row["n_slice"])))
            for row in rows
        }
    except ValueError as error:
        raise ValueError(f"Table {path} cannot be read: {error}. Expected a number of slices in each row.") from error


def read_patients(path: Path) -> dict[str, dict[str, Any]]:
    """Sex and age by patient.

    Args:
        path: ``metadata.csv``; the columns ``patient_id`` and those that begin with age and sex are used, whose form
            is ``Sex(Male1/Female2)`` or letters.

    Raises:
        ValueError: when it has no patients.
    """
    found: dict[str, dict[str, Any]] = {}
    for row in read_rows(path, ("patient_id",)):
        sex, age = (next((row[name] for name in row if name.lower().startswith(part)), "") for part in ("sex", "age"))
        found[row["patient_id"]] = sex_and_age({"1": "M", "2": "F", "1.0": "M", "2.0": "F"}.get(sex, sex), age)
    return found


def read_spacings(path: Path) -> dict[str, tuple[float, float]]:
    """Pixel size and slice distance in mm by scan.

    Args:
        path: CSV with scan_id, pixel_mm and slice_mm.

    Raises:
        ValueError: when it has another form, or a size is not positive.
    """
    rows = read_rows(path, ("scan_id", "pixel_mm", "slice_mm"))
    try:
        sizes = {row["scan_id"]: (float(row["pixel_mm"]), float(row["slice_mm"])) for row in rows}
    except ValueError as error:
        raise ValueError(f"Table {path} cannot be read: {error}. Expected sizes in mm.") from error
    wrong = [scan for scan, size in sizes.items() if not all(0 < step < 100 for step in size)]
    if wrong:
        raise ValueError(f"Table {path}: scan {wrong[0]} has the sizes {sizes[wrong[0]]}. Expected sizes in mm.")
    return sizes


def _spans(text: str, separator: str) -> list[int]:
    """Numbers of a list of numbers and spans; a span includes both ends."""
    numbers: list[int] = []
    for part in filter(None, re.split(re.escape(separator), text.strip())):
        first, _, last = part.partition("-")
        numbers += range(int(first), int(last or first) + 1)
    return numbers
