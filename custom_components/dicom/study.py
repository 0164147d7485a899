"""List the series of a DICOM study folder from headers alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from custom_components.dicom.files import is_dicom_file
from custom_components.dicom.header_text import plain_text, quiet_pydicom, safe_description
from custom_components.dicom.headers import IDENTITY, ImageFile, read_image_file
from custom_components.dicom.identifiers import common_uid
from custom_components.dicom.numbers import finite_numbers
from custom_components.dicom.series import MEDIA_STORAGE_DIRECTORY, first_copies, is_one_in_pieces, look, series_key

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

LOCALIZER = "LOCALIZER"
# Attributes with at most one value.
SINGLE = ("SamplesPerPixel", "NumberOfFrames")
# Without these a file cannot be assigned to a series.
NEEDED = frozenset((*SINGLE, "ImagePositionPatient", "ImageOrientationPatient"))

# Positions closer than this are the same slice.
_SAME_PLACE_MM = 0.01


@dataclass(frozen=True, eq=False)
class StudySeries:
    """One series of a study; localizer images with the same UID form a separate series.

    Args:
        images: file and header of each image, without duplicates.
    """

    images: tuple[ImageFile, ...]

    @cached_property
    def headers(self) -> tuple[Any, ...]:
        """Header of each image; with the patient's name."""
        return tuple(image.header for image in self.images)

    @property
    def files(self) -> tuple[Path, ...]:
        """File of each image."""
        return tuple(image.path for image in self.images)

    @cached_property
    def uid(self) -> str:
        """SeriesInstanceUID, or its substitute in DICOM outputs if it is not valid."""
        return common_uid(self.headers, "SeriesInstanceUID", self._content)

    @cached_property
    def study_uid(self) -> str:
        """StudyInstanceUID, or its substitute if it is not valid."""
        return common_uid(self.headers, "StudyInstanceUID", self._content)

    def _content(self, number: int) -> bytes:
        return self.files[number].read_bytes()

    @property
    def number(self) -> int | None:
        """SeriesNumber; None when it is missing or not one number."""
        try:
            return int(self.headers[0].get("SeriesNumber"))
        except (TypeError, ValueError):
            return None

    @cached_property
    def image_type(self) -> frozenset[str]:
        """Values of ImageType, upper case."""
        return frozenset(image_type(self.headers[0]))

    @cached_property
    def description(self) -> str:
        """SeriesDescription; withheld if it contains the patient's ID or family name."""
        return safe_description(self.headers[0])

    @cached_property
    def normal(self) -> np.ndarray | None:
        """Unit normal of the slices (LPS); None when it is missing in an image or differs between images."""
        found = [finite_numbers(header, "ImageOrientationPatient") for header in self.headers]
        if any(value is None for value in found):
            return None
        directions = np.asarray(found, dtype=float)
        if np.abs(directions - directions[0]).max() > 1e-2:
            return None
        normal = np.cross(directions[0, :3], directions[0, 3:])
        return normal / max(float(np.linalg.norm(normal)), 1e-9)

    @cached_property
    def heights_mm(self) -> np.ndarray:
        """Increasing, unique positions of the slices along their normal; empty when unknown."""
        places = [finite_numbers(header, "ImagePositionPatient") for header in self.headers]
        if self.normal is None or any(value is None for value in places):
            return np.zeros(0)
        heights = np.sort(np.asarray(places, dtype=float) @ self.normal)
        return heights[np.diff(heights, prepend=-np.inf) > _SAME_PLACE_MM]

    @property
    def spacing_mm(self) -> float:
        """Median distance between slices; NaN for a single slice."""
        return float(np.median(np.diff(self.heights_mm))) if len(self.heights_mm) > 1 else float("nan")

    @property
    def extent_mm(self) -> float:
        """Distance from the first to the last slice along the normal."""
        return float(np.ptp(self.heights_mm)) if len(self.heights_mm) else 0.0

    def text(self, tag: str) -> str:
        """Value of a tag of the first image as one line; empty when missing."""
        return plain_text(self.headers[0].get(tag))

    def __str__(self) -> str:
        number = "?" if self.number is None else self.number
        count = len(self.files)
        return f"series {number} ({self.description}): {count} image{'s' if count > 1 else ''}"


def study_series(folder: str | Path) -> tuple[list[StudySeries], int]:
    """Read the headers of all DICOM files of a folder, at any depth.

    Args:
        folder: a study, or one series.

    Returns:
        The series in the order of their numbers, and the count of files without a readable header.
    """
    groups: dict[tuple[object, ...], list[ImageFile]] = {}
    unreadable = 0
    for path in dicom_files(folder):
        image = readable_image(path)
        if image is None:
            unreadable += 1
        elif image.kind != MEDIA_STORAGE_DIRECTORY:
            key = (*series_key(image.header), LOCALIZER in image_type(image.header))
            groups.setdefault(key, []).append(image)
    images = [
        part
        for group in _joined(list(groups.values()))
        for part in _parted([group[number] for number in first_copies(group)])
    ]
    series = [StudySeries(tuple(group)) for group in images]
    return sorted(series, key=lambda one: (one.number is None, one.number or 0, one.uid)), unreadable


def _joined(groups: list[list[ImageFile]]) -> list[list[ImageFile]]:
    """Merge one-image series that agree in all else: their images wrongly have different UIDs."""
    alike: dict[tuple[str, ...], list[ImageFile]] = {}
    for group in groups:
        if len(group) == 1:
            alike.setdefault((*look(group[0].header)[3:], *image_type(group[0].header)), []).extend(group)
    wholes = [
        images for images in alike.values() if is_one_in_pieces([1] * len(images), [one.header for one in images])
    ]
    joined = {image for images in wholes for image in images}
    return [*(group for group in groups if group[0] not in joined), *wholes]


def _parted(images: list[ImageFile]) -> list[list[ImageFile]]:
    """Separate series that share a UID and slice positions, by their other attributes."""
    places = {str(image.header.get("ImagePositionPatient")) for image in images}
    if len(places) == len(images):
        return [images]
    parts: dict[tuple[str, ...], list[ImageFile]] = {}
    for image in images:
        parts.setdefault(look(image.header), []).append(image)
    return list(parts.values())


def dicom_files(folder: str | Path) -> Iterator[Path]:
    """DICOM files of a folder and its subfolders, without hidden files, sorted by name."""
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for path in (Path(root, name) for name in sorted(names) if not name.startswith(".")):
            if path.suffix.lower() == ".dcm" or _begins_as_dicom(path):
                yield path


def readable_image(path: Path) -> ImageFile | None:
    """A DICOM file with its header; None when it cannot be read."""
    from pydicom.multival import MultiValue

    with quiet_pydicom():
        try:
            image = read_image_file(path)
            for tag in IDENTITY:
                image.header.get(tag)  # decoded here, where logs are suppressed
        except Exception:  # pydicom raises many types of errors
            return None
    several = any(isinstance(image.header.get(tag), MultiValue) for tag in SINGLE)
    return None if several or NEEDED & image.undecodable.keys() else image


def patient_of(header: Dataset) -> str:
    """Key of a patient; for comparison only, never shown."""
    return str(header.get("PatientID") or header.get("PatientName") or "")


def image_type(header: Dataset) -> list[str]:
    """Values of ImageType, upper case."""
    value = header.get("ImageType") or []
    return [part.upper() for part in ([value] if isinstance(value, str) else [str(part) for part in value])]


def _begins_as_dicom(path: Path) -> bool:
    try:
        return is_dicom_file(path)
    except OSError:  # a broken link, a file without permission
        return False
