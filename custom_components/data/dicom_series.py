from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from custom_components.data.dicom_numbers import COUNTS, number_problem
from custom_components.data.dicom_padding import bright_padding_hu
from custom_components.data.dicom_pixels import PixelData, expected_bytes, find_pixels
from custom_components.data.header_text import plain_text, told_description, untold

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

MEDIA_STORAGE_DIRECTORY = "1.2.840.10008.1.3.10"
CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
# How many numbers each attribute holds.
REQUIRED = ("SeriesInstanceUID", *COUNTS)
IDENTITY = ("PatientName", "PatientID")
HEADER_TAGS = (
    *REQUIRED,
    "SpecificCharacterSet",
    *IDENTITY,
    "SOPClassUID",
    "Modality",
    "ImageType",
    "SeriesNumber",
    "SeriesDescription",
    "SliceThickness",
    "NumberOfFrames",
    "SamplesPerPixel",
    "PixelPaddingValue",
)

DUPLICATE_MM = 0.01
SPACING_TOLERANCE = 0.1
SHEAR_TOLERANCE_DEGREES = 1.0
# Positions are decimal strings that some scanners round to a tenth of a millimetre.
ROUNDING_MM = 0.1


@dataclass(frozen=True)
class DicomSeries:
    """One CT series that was proved to be a volume: every slice there once, evenly spaced, none sheared.

    Args:
        files: one file a slice, from the first slice to the last along the slice normal (for an axial
            series, from feet to head).
        shape: (columns, rows, slices): the volume's size indexed [x, y, z].
        spacing_mm: distance of voxel centres along x, y, z. A single slice has its SliceThickness as z spacing.
        affine: (4, 4) voxel index to patient position in RAS mm, as NIfTI has it.
        modality: DICOM Modality, "CT".
        padding_hu: HU of padding that would glare; readers make it air. None when there is none.
    """

    files: tuple[Path, ...]
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    affine: np.ndarray = field(compare=False)
    modality: str = "CT"
    padding_hu: float | None = None

    @property
    def num_slices(self) -> int:
        """Number of slices."""
        return len(self.files)


@dataclass(frozen=True)
class _Slice:
    path: Path
    header: Any
    num_bytes: int | None  # of plain pixel data

    @property
    def position_mm(self) -> np.ndarray:
        return np.asarray(self.header.ImagePositionPatient, dtype=float)


def is_dicom_file(path: Path) -> bool:
    """Tell whether a file begins with the DICOM preamble."""
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def holds_dicom(folder: str | Path) -> bool:
    """Tell whether a folder holds a DICOM file directly: one named ``.dcm`` or one with the DICOM preamble."""
    return any(path.suffix.lower() == ".dcm" or is_dicom_file(path) for path in _visible_files(Path(folder)))


def check_dicom_series(folder: str | Path) -> DicomSeries:
    """Read the headers of a folder and prove that they are one CT series that makes a volume.

    Only headers are decoded; the pixel data are checked for being there in full. Files that are not DICOM
    (text, previews, DICOMDIR) and hidden files are left aside. Oblique series are fine, sheared ones
    (gantry tilt) are not. Nothing that identifies the patient is kept or named.

    Args:
        folder: holds the files of one series, in any order and under any name.

    Returns:
        The series, its files in slice order.

    Raises:
        ValueError: when there is no DICOM file or more than one series, when it is not CT or a localizer, when
            a file is truncated or lacks an attribute, when slices are doubled, missing, sheared or differ in
            size, orientation or pixel spacing.
    """
    folder = Path(folder)
    case = folder.resolve().name
    slices = _read_slices(folder, case)
    _check_single_series(slices, case)
    _check_ct(slices, case)
    _check_attributes(slices, case)
    _check_same_grid(slices, case)
    normal = _normal(slices[0])
    slices.sort(key=lambda one: float(one.position_mm @ normal))
    heights_mm = np.array([one.position_mm @ normal for one in slices])
    _check_positions(slices, heights_mm, case)
    _check_shear(slices, normal, case)
    return _series(slices, heights_mm, normal)


def _visible_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))


def _read_slices(folder: Path, case: str) -> list[_Slice]:
    if not folder.is_dir():
        raise ValueError(f"Case {case}: {folder} is not a folder. Give the folder that holds one DICOM series.")
    files = _visible_files(folder)
    slices = [one for path in files if (one := _read_slice(path, case)) is not None]
    if not slices:
        raise ValueError(
            f"Case {case}: no DICOM images among the {len(files)} files of {folder}. "
            "Give the folder that holds the series' files directly, not one above it."
        )
    return slices


def _read_slice(path: Path, case: str) -> _Slice | None:
    """One image; None for what is left aside."""
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    if path.suffix.lower() != ".dcm" and not is_dicom_file(path):
        return None
    try:
        with path.open("rb") as file:
            header = dcmread(file, stop_before_pixels=True, force=False, specific_tags=list(HEADER_TAGS))
            kind = header.file_meta.get("MediaStorageSOPClassUID")
            if kind == MEDIA_STORAGE_DIRECTORY:
                return None
            pixels = find_pixels(file, header) if kind == CT_IMAGE or "Rows" in header else PixelData()
            _decode(header)
    except InvalidDicomError as error:
        raise ValueError(_unreadable(case, path, "it has no DICOM preamble and no file meta information")) from error
    except RecursionError:
        raise ValueError(_unreadable(case, path, "its sequences are nested too deeply")) from None
    except Exception as error:  # pydicom lets through whatever its parsing stumbled on
        raise ValueError(_unreadable(case, path, plain_text(error) or type(error).__name__)) from error
    if pixels.problem:
        raise ValueError(_unreadable(case, path, pixels.problem))
    return _Slice(path, header, pixels.num_bytes)


def _decode(header: Dataset) -> None:
    """Decode the values that are needed, here where what is wrong with one is the file's fault."""
    with untold():
        for tag in HEADER_TAGS:
            if tag not in IDENTITY:
                header.get(tag)


def _unreadable(case: str, path: Path, reason: str) -> str:
    return f"Case {case}: {path.name} is truncated or not a DICOM file: {reason}. Copy or export the series again."


def _check_single_series(slices: list[_Slice], case: str) -> None:
    counts = Counter(str(one.header.get("SeriesInstanceUID", "")) for one in slices)
    if len(counts) == 1:
        return
    firsts: dict[str, _Slice] = {}
    for one in slices:
        firsts.setdefault(str(one.header.get("SeriesInstanceUID", "")), one)
    lines = [_describe(firsts[uid].header, count) for uid, count in counts.most_common(10)]
    listing = "\n".join(f"  - {line}" for line in lines)
    raise ValueError(
        f"Case {case}: the folder holds {len(counts)} series, expected one:\n{listing}\n"
        "Move the files of one axial series into a folder of their own and give that folder."
    )


def _describe(header: Dataset, count: int) -> str:
    number, kind = plain_text(header.get("SeriesNumber")) or "?", plain_text(_image_type(header)[-1])
    return f"series {number} ({told_description(header)}): {count} images, {kind}"


def _image_type(header: Dataset) -> list[str]:
    value = header.get("ImageType") or ["no ImageType"]
    return [value] if isinstance(value, str) else [str(part) for part in value]


def _check_ct(slices: list[_Slice], case: str) -> None:
    for one in slices:
        modality = plain_text(one.header.get("Modality"))
        if str(one.header.get("SOPClassUID", "")).startswith(SECONDARY_CAPTURE):
            found = "a secondary capture (a screenshot, without HU)"
        elif modality != "CT":
            found = f"of modality {modality}" if modality else "without modality"
        elif "LOCALIZER" in _image_type(one.header):
            found = "a localizer (scout view)"
        else:
            continue
        raise ValueError(f"Case {case}: {one.path.name} is {found}. Expected one axial CT series: give its folder.")


def _check_attributes(slices: list[_Slice], case: str) -> None:
    for one in slices:
        frames = plain_text(one.header.get("NumberOfFrames"))
        if frames not in ("", "0", "1"):
            raise ValueError(
                f"Case {case}: {one.path.name} is a multi-frame (enhanced) CT. "
                "Expected one file a slice: export the series as classic CT, or convert it to NIfTI."
            )
        missing = [name for name in REQUIRED if one.header.get(name) in (None, "")]
        if missing:
            raise ValueError(
                f"Case {case}: {one.path.name} lacks {', '.join(missing)}. Without them its place or its HU are "
                "unknown. Export the series again, with whole headers."
            )
        problem = number_problem(one.header) or _length_problem(one)
        if problem:
            raise ValueError(f"Case {case}: {one.path.name} {problem}. Export the series again.")


def _length_problem(one: _Slice) -> str:
    expected = expected_bytes(one.header)
    if one.num_bytes in (None, expected):
        return ""
    return f"has {one.num_bytes:,} bytes of pixel data where its rows and columns make {expected:,}"


def _check_same_grid(slices: list[_Slice], case: str) -> None:
    grids = {
        "size": (("Columns", "Rows", "SamplesPerPixel"), 0.0),
        "orientation": (("ImageOrientationPatient",), 1e-3),
        "pixel spacing": (("PixelSpacing",), 1e-4),
    }
    for what, (names, tolerance) in grids.items():
        of_slices = [_numbers(one.header, names) for one in slices]
        usual, _ = Counter(of_slices).most_common(1)[0]
        others = [(one, own) for one, own in zip(slices, of_slices, strict=True) if not _same(own, usual, tolerance)]
        if others:
            odd, own = others[0]
            raise ValueError(
                f"Case {case}: {len(others)} of {len(slices)} images differ in {what}, e.g. {odd.path.name} has "
                f"{list(own)} where most have {list(usual)}. "
                "Expected one axial series: move the other images away."
            )


def _numbers(header: Dataset, names: tuple[str, ...]) -> tuple[float, ...]:
    values = [np.atleast_1d(np.asarray(header.get(name, 1), dtype=float)) for name in names]
    return tuple(np.concatenate(values).tolist())


def _same(first: tuple[float, ...], second: tuple[float, ...], tolerance: float) -> bool:
    return len(first) == len(second) and bool(np.allclose(first, second, rtol=0, atol=tolerance))


def _normal(one: _Slice) -> np.ndarray:
    row, column = np.asarray(one.header.ImageOrientationPatient, dtype=float).reshape(2, 3)
    return np.cross(row, column)


def _check_positions(slices: list[_Slice], heights_mm: np.ndarray, case: str) -> None:
    steps_mm = np.diff(heights_mm)
    doubled = np.flatnonzero(steps_mm < DUPLICATE_MM)
    if doubled.size:
        one, other = slices[doubled[0]].path.name, slices[doubled[0] + 1].path.name
        raise ValueError(
            f"Case {case}: {doubled.size} slice positions occur twice, e.g. {one} and {other} at "
            f"{heights_mm[doubled[0]]:.2f} mm. Keep one reconstruction (or one phase) in the folder."
        )
    if not steps_mm.size:
        return
    usual_mm = float(np.median(steps_mm))
    uneven = np.flatnonzero(np.abs(steps_mm - usual_mm) > SPACING_TOLERANCE * usual_mm + 1e-6)
    if uneven.size:
        k = int(uneven[0])
        raise ValueError(
            f"Case {case}: slice spacing is uneven at {uneven.size} places, first between {slices[k].path.name} "
            f"({heights_mm[k]:.2f} mm) and {slices[k + 1].path.name} ({heights_mm[k + 1]:.2f} mm): "
            f"{steps_mm[k]:.2f} mm where {usual_mm:.2f} mm is usual. Slices are missing, or two series are mixed: "
            "export the series again."
        )


def _check_shear(slices: list[_Slice], normal: np.ndarray, case: str) -> None:
    """Compare each slice's sideways shift with its way along the normal."""
    offsets_mm = np.stack([one.position_mm - slices[0].position_mm for one in slices])
    along_mm = offsets_mm @ normal
    sideways_mm = np.linalg.norm(offsets_mm - np.outer(along_mm, normal), axis=1)
    allowed_mm = np.tan(np.deg2rad(SHEAR_TOLERANCE_DEGREES)) * along_mm + ROUNDING_MM
    if np.any(sideways_mm > allowed_mm):
        k = int(np.argmax(sideways_mm - allowed_mm))
        degrees = np.rad2deg(np.arctan2(sideways_mm[k], along_mm[k]))
        raise ValueError(
            f"Case {case}: the slices are sheared by {degrees:.1f} degrees (gantry tilt), up to "
            f"{SHEAR_TOLERANCE_DEGREES:g} is allowed. Resample the series to an upright volume first "
            "(e.g. dcm2niix) and give its NIfTI file."
        )


def _series(slices: list[_Slice], heights_mm: np.ndarray, normal: np.ndarray) -> DicomSeries:
    header = slices[0].header
    between_rows_mm, between_columns_mm = (float(value) for value in header.PixelSpacing)
    row, column = np.asarray(header.ImageOrientationPatient, dtype=float).reshape(2, 3)
    if len(slices) > 1:
        between_slices_mm = float(heights_mm[-1] - heights_mm[0]) / (len(slices) - 1)
    else:
        between_slices_mm = float(header.get("SliceThickness") or 1.0)
    affine = np.eye(4)
    affine[:3, :3] = np.stack([row * between_columns_mm, column * between_rows_mm, normal * between_slices_mm], axis=1)
    affine[:3, 3] = slices[0].position_mm
    return DicomSeries(
        files=tuple(one.path for one in slices),
        shape=(int(header.Columns), int(header.Rows), len(slices)),
        spacing_mm=(between_columns_mm, between_rows_mm, between_slices_mm),
        affine=np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine,
        modality=str(header.Modality),
        padding_hu=bright_padding_hu(header),
    )
