from __future__ import annotations

import filecmp
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from custom_components.dicom.files import is_dicom_file
from custom_components.dicom.header_text import error_text, quiet_pydicom, safe_description, value_text
from custom_components.dicom.headers import REQUIRED, SHAPES, ImageFile, read_image_file
from custom_components.dicom.identifiers import CT_IMAGE, identifier_problems, is_uid, raw_uid
from custom_components.dicom.numbers import number_problem
from custom_components.dicom.pixels import PixelData, expected_bytes, find_pixels
from custom_components.dicom.slice_positions import distance_from_even_mm, half_last_digit_mm
from custom_components.dicom.values import StoredValues

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

MEDIA_STORAGE_DIRECTORY = "1.2.840.10008.1.3.10"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
SUBSTITUTES = "DICOM outputs use substitute identifiers (2.25. and a hash)"
# Images that agree in these may belong to one series even if the UIDs differ.
LOOK = (
    "StudyInstanceUID",
    "PatientID",
    "SeriesNumber",
    "SeriesDescription",
    "ConvolutionKernel",
    "Rows",
    "Columns",
    "PixelSpacing",
    "ImageOrientationPatient",
)
# At least this many images that each have their own SeriesInstanceUID are one series with wrong identifiers.
LEAST_SINGLES = 5

DUPLICATE_MM = 0.01
SPACING_TOLERANCE = 0.1
SHEAR_TOLERANCE_DEGREES = 1.0
# Some scanners round positions (decimal strings) to a tenth of a millimetre.
ROUNDING_MM = 0.1


@dataclass(frozen=True)
class DicomSeries:
    """One CT series that was checked to form a volume: each slice once, evenly spaced, not sheared.

    Args:
        files: one file per slice in order along the slice normal (for an axial series, from feet to head).
        shape: (columns, rows, slices): the volume's size indexed [x, y, z].
        spacing_mm: distance of voxel centres along x, y, z; for a single slice, z is the SliceThickness.
        affine: (4, 4) voxel index to patient position in RAS mm, as in NIfTI.
        modality: DICOM Modality, "CT".
        names: file names for messages.
        values: conversion of each slice's stored values to HU.
        pixels: where each slice's stored values are in its file.
        notes: tolerated irregularities, as phrases that do not name the patient.
    """

    files: tuple[Path, ...]
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    affine: np.ndarray = field(compare=False)
    modality: str = "CT"
    names: tuple[str, ...] = field(default=(), repr=False)
    values: tuple[StoredValues, ...] = field(default=(), repr=False)
    pixels: tuple[PixelData, ...] = field(default=(), repr=False)
    notes: tuple[str, ...] = ()

    @property
    def num_slices(self) -> int:
        """Number of slices."""
        return len(self.files)


@dataclass(frozen=True)
class _Slice:
    file: ImageFile
    name: str  # in messages
    pixels: PixelData

    @property
    def header(self) -> Any:
        return self.file.header

    @property
    def position_mm(self) -> np.ndarray:
        return np.asarray(self.header.ImagePositionPatient, dtype=float)


def holds_dicom(folder: str | Path) -> bool:
    """Whether a folder directly contains a DICOM file, recognised by ``.dcm`` or by its first bytes."""
    return any(path.suffix.lower() == ".dcm" or is_dicom_file(path) for path in _visible_files(Path(folder)))


def check_dicom_series(
    files: str | Path | Sequence[Path | ImageFile], case: str = "", names: Sequence[str] | None = None
) -> DicomSeries:
    """Check that the headers of a series form one CT volume; each file's header is read once.

    Only headers are decoded; pixel data are only checked for completeness. Files that are not DICOM (text, previews,
    DICOMDIR), hidden files and duplicate images are ignored. Oblique series are accepted, sheared ones (gantry tilt)
    are not. Rounded positions are accepted when all lie within half of their last digit of an even grid. Invalid
    identifiers are accepted. Nothing that identifies the patient is stored or shown.

    Args:
        files: folder with the files of one series, in any order and with any names; or the files; or their headers,
            which are then not read again.
        case: name of the case in messages; default: the folder's name.
        names: file names in messages; default: their own, or for headers SOPInstanceUIDs, which name no patient.

    Returns:
        The series with its files in slice order; ``notes`` lists irregularities.

    Raises:
        ValueError: when there is no DICOM file or more than one series; when it is a localizer or not CT; when a file
            is truncated or lacks an attribute; when slices are duplicated, missing, sheared or differ in size,
            orientation or pixel spacing.
    """
    if isinstance(files, str | Path):
        case = case or Path(files).resolve().name
        slices = _read_folder(Path(files), case)
    else:
        slices = _read_files(files, names or [_name(file, number) for number, file in enumerate(files, start=1)], case)
    slices, notes = _without_copies(slices)
    _check_single_series(slices, case)
    notes += _check_ct(slices, case)
    if bare := sum(one.header.preamble is None for one in slices):
        notes.append(f"{bare} of {len(slices)} files have no DICOM preamble")
    _check_attributes(slices, case)
    _check_same_grid(slices, case)
    problems = identifier_problems([one.header for one in slices])
    notes += [*problems, SUBSTITUTES] if problems else []
    normal = _normal(slices[0])
    slices.sort(key=lambda one: float(one.position_mm @ normal))
    heights_mm = np.array([one.position_mm @ normal for one in slices])
    rounding_mm = np.array([half_last_digit_mm(along) for along in np.stack([one.position_mm for one in slices]).T])
    is_rounded = _check_positions(slices, heights_mm, float(rounding_mm @ np.abs(normal)), case)
    if is_rounded:
        heights_mm = np.polyval(np.polyfit(range(len(slices)), heights_mm, 1), range(len(slices)))
        notes.append(f"slice positions are rounded; a spacing of {np.diff(heights_mm)[0]:.4g} mm is used")
    _check_shear(slices, normal, max(ROUNDING_MM, 2 * float(np.linalg.norm(rounding_mm)) if is_rounded else 0.0), case)
    return _series(slices, heights_mm, normal, notes)


def first_copies(images: Sequence[ImageFile]) -> list[int]:
    """Indices of the images without duplicates: of files with the same identifier, position and content, the first."""
    alike: dict[tuple[str, str], list[int]] = {}
    kept = []
    for number, image in enumerate(images):
        place = raw_uid(image.header, "SOPInstanceUID"), str(image.header.get("ImagePositionPatient"))
        others = alike.setdefault(place, [])
        if not any(filecmp.cmp(image.path, images[other].path, shallow=False) for other in others):
            others.append(number)
            kept.append(number)
    return kept


def series_key(header: Any) -> tuple[str, ...]:
    """Key shared by the images of a series: its UID, or the attributes of ``LOOK`` if it has none."""
    uid = raw_uid(header, "SeriesInstanceUID")
    return (uid,) if uid else look(header)


def look(header: Any) -> tuple[str, ...]:
    """Values of the attributes of ``LOOK``; for comparison only, never shown."""
    with quiet_pydicom():
        return ("", *(str(header.get(name) or "") for name in LOOK))


def _visible_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))


def _read_folder(folder: Path, case: str) -> list[_Slice]:
    if not folder.is_dir():
        raise ValueError(f"Case {case}: {folder} is not a folder. Give the folder that holds one DICOM series.")
    files = _visible_files(folder)
    slices = _read_files(files, [path.name for path in files], case)
    if not slices:
        raise ValueError(
            f"Case {case}: no DICOM images among the {len(files)} files of {folder}. "
            "Give the folder that holds the series' files directly, not one above it."
        )
    return slices


def _read_files(files: Sequence[Path | ImageFile], names: Sequence[str], case: str) -> list[_Slice]:
    return [one for file, name in zip(files, names, strict=True) if (one := _read_slice(file, name, case)) is not None]


def _name(file: Path | ImageFile, number: int) -> str:
    if isinstance(file, Path):
        return file.name
    uid = raw_uid(file.header, "SOPInstanceUID")
    return uid if is_uid(uid) else f"image {number}"


def _read_slice(file: Path | ImageFile, name: str, case: str) -> _Slice | None:
    """Read one image, or only look at its pixel data if its header was read; None for a file to ignore."""
    from pydicom.errors import InvalidDicomError

    if isinstance(file, Path) and file.suffix.lower() != ".dcm" and not is_dicom_file(file):
        return None
    try:
        image = file if isinstance(file, ImageFile) else read_image_file(file)
        if image.kind == MEDIA_STORAGE_DIRECTORY:
            return None
        pixels = find_pixels(image) if image.kind == CT_IMAGE or "Rows" in image.header else PixelData()
    except InvalidDicomError as error:
        raise ValueError(_unreadable(case, name, "it has no DICOM preamble and no file meta information")) from error
    except RecursionError:
        raise ValueError(_unreadable(case, name, "its sequences are nested too deeply")) from None
    except Exception as error:  # pydicom raises many types of errors
        raise ValueError(_unreadable(case, name, error_text(error))) from error
    reasons = [image.undecodable[tag] for tag in (*REQUIRED, *SHAPES) if tag in image.undecodable]
    if reasons or pixels.problem:
        raise ValueError(_unreadable(case, name, [*reasons, pixels.problem][0]))
    return _Slice(image, name, pixels)


def _without_copies(slices: list[_Slice]) -> tuple[list[_Slice], list[str]]:
    """Remove duplicate images; the second value is a note on them."""
    once = [slices[number] for number in first_copies([one.file for one in slices])]
    copies = len(slices) - len(once)
    return once, [f"{copies} files are copies of other files and are ignored"] if copies else []


def _unreadable(case: str, name: str, reason: str) -> str:
    return f"Case {case}: {name} is truncated or not a DICOM file: {reason}. Copy or export the series again."


def _check_single_series(slices: list[_Slice], case: str) -> None:
    counts = Counter(series_key(one.header) for one in slices)
    if len(counts) == 1 or is_one_in_pieces(counts.values(), [one.header for one in slices]):
        return
    firsts: dict[tuple[str, ...], _Slice] = {}
    for one in slices:
        firsts.setdefault(series_key(one.header), one)
    lines = [_describe(firsts[uid].header, count) for uid, count in counts.most_common(10)]
    listing = "\n".join(f"  - {line}" for line in lines)
    raise ValueError(
        f"Case {case}: the folder holds {len(counts)} series, expected one:\n{listing}\n"
        "Move the files of one axial series into a folder of their own and give that folder."
    )


def is_one_in_pieces(sizes: Iterable[int], headers: Sequence[Any]) -> bool:
    """Whether series with one image each are really one series whose images wrongly have different UIDs."""
    looks = {look(header)[3:] for header in headers}  # study and patient may be wrong too
    return len(headers) >= LEAST_SINGLES and set(sizes) == {1} and len(looks) == 1


def _describe(header: Dataset, count: int) -> str:
    number, kind = value_text(header.get("SeriesNumber")) or "?", value_text(_image_type(header)[-1])
    return f"series {number} ({safe_description(header)}): {count} images, {kind}"


def _image_type(header: Dataset) -> list[str]:
    value = header.get("ImageType") or ["no ImageType"]
    return [value] if isinstance(value, str) else [str(part) for part in value]


def _check_ct(slices: list[_Slice], case: str) -> list[str]:
    """Check that all images are CT; the notes list images that are CT only by their SOP class."""
    unnamed = 0
    for one in slices:
        modality = modality_of(one.header)
        unnamed += not one.header.get("Modality")
        if str(one.header.get("SOPClassUID", "")).startswith(SECONDARY_CAPTURE):
            found = "a secondary capture (a screenshot, without HU)"
        elif modality != "CT":
            found = f"of modality {modality}" if modality else "without modality"
        elif "LOCALIZER" in _image_type(one.header):
            found = "a localizer (scout view)"
        else:
            continue
        raise ValueError(f"Case {case}: {one.name} is {found}. Expected one axial CT series: give its folder.")
    return [f"{unnamed} images lack Modality; their SOP class is CT"] if unnamed else []


def modality_of(header: Any) -> str:
    """Modality of an image; CT if only the SOP class says so."""
    named = value_text(header.get("Modality"))
    return named or ("CT" if str(header.get("SOPClassUID", "")) == CT_IMAGE else "")


def _check_attributes(slices: list[_Slice], case: str) -> None:
    for one in slices:
        frames = value_text(one.header.get("NumberOfFrames"))
        if frames not in ("", "0", "1"):
            raise ValueError(
                f"Case {case}: {one.name} is a multi-frame (enhanced) CT. "
                "Expected one file per slice: export the series as classic CT, or convert it to NIfTI."
            )
        missing = [name for name in REQUIRED if one.header.get(name) in (None, "")]
        if missing:
            raise ValueError(
                f"Case {case}: {one.name} lacks {', '.join(missing)}. Without them its position or HU values "
                "are unknown. Export the series again, with complete headers."
            )
        problem = number_problem(one.header) or _length_problem(one)
        if problem:
            raise ValueError(f"Case {case}: {one.name} {problem}. Export the series again.")


def _length_problem(one: _Slice) -> str:
    expected = expected_bytes(one.header)
    if one.pixels.num_bytes in (None, expected):
        return ""
    return f"has {one.pixels.num_bytes:,} bytes of pixel data, its rows and columns need {expected:,}"


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
                f"Case {case}: {len(others)} of {len(slices)} images differ in {what}, e.g. {odd.name} has "
                f"{list(own)}, most have {list(usual)}. "
                "Expected one axial series: remove the other images."
            )


def _numbers(header: Dataset, names: tuple[str, ...]) -> tuple[float, ...]:
    values = [np.atleast_1d(np.asarray(header.get(name, 1), dtype=float)) for name in names]
    return tuple(np.concatenate(values).tolist())


def _same(first: tuple[float, ...], second: tuple[float, ...], tolerance: float) -> bool:
    return len(first) == len(second) and bool(np.allclose(first, second, rtol=0, atol=tolerance))


def _normal(one: _Slice) -> np.ndarray:
    row, column = np.asarray(one.header.ImageOrientationPatient, dtype=float).reshape(2, 3)
    return np.cross(row, column)


def _check_positions(slices: list[_Slice], heights_mm: np.ndarray, rounding_mm: float, case: str) -> bool:
    """Check that positions are evenly spaced; whether they are so only within rounding."""
    steps_mm = np.diff(heights_mm)
    doubled = np.flatnonzero(steps_mm < DUPLICATE_MM)
    if doubled.size:
        one, other = slices[doubled[0]].name, slices[doubled[0] + 1].name
        raise ValueError(
            f"Case {case}: {doubled.size} slice positions occur twice, e.g. {one} and {other} at "
            f"{heights_mm[doubled[0]]:.2f} mm. Keep one reconstruction (or one phase) in the folder."
        )
    if not steps_mm.size:
        return False
    usual_mm = float(np.median(steps_mm))
    uneven = np.flatnonzero(np.abs(steps_mm - usual_mm) > SPACING_TOLERANCE * usual_mm + 1e-6)
    if not uneven.size:
        return False
    if distance_from_even_mm(heights_mm) <= rounding_mm + 1e-6:
        return True
    k = int(uneven[0])
    raise ValueError(
        f"Case {case}: slice spacing is uneven at {uneven.size} places, first between {slices[k].name} "
        f"({heights_mm[k]:.2f} mm) and {slices[k + 1].name} ({heights_mm[k + 1]:.2f} mm): "
        f"{steps_mm[k]:.2f} mm, elsewhere {usual_mm:.2f} mm. Slices are missing, or two series are mixed: "
        "export the series again."
    )


def _check_shear(slices: list[_Slice], normal: np.ndarray, rounding_mm: float, case: str) -> None:
    """Compare each slice's in-plane shift with its distance along the normal."""
    offsets_mm = np.stack([one.position_mm - slices[0].position_mm for one in slices])
    along_mm = offsets_mm @ normal
    sideways_mm = np.linalg.norm(offsets_mm - np.outer(along_mm, normal), axis=1)
    allowed_mm = np.tan(np.deg2rad(SHEAR_TOLERANCE_DEGREES)) * along_mm + rounding_mm
    if np.any(sideways_mm > allowed_mm):
        k = int(np.argmax(sideways_mm - allowed_mm))
        degrees = np.rad2deg(np.arctan2(sideways_mm[k], along_mm[k]))
        raise ValueError(
            f"Case {case}: the slices are sheared by {degrees:.1f} degrees (gantry tilt), at most "
            f"{SHEAR_TOLERANCE_DEGREES:g} is allowed. Resample the series to an upright volume first "
            "(e.g. dcm2niix) and give its NIfTI file."
        )


def _series(slices: list[_Slice], heights_mm: np.ndarray, normal: np.ndarray, notes: Sequence[str]) -> DicomSeries:
    header = slices[0].header
    between_rows_mm, between_columns_mm = (float(value) for value in header.PixelSpacing)
    row, column = np.asarray(header.ImageOrientationPatient, dtype=float).reshape(2, 3)
    if len(slices) > 1:
        between_slices_mm = float(heights_mm[-1] - heights_mm[0]) / (len(slices) - 1)
    else:
        between_slices_mm = float(header.get("SliceThickness") or 1.0)
    affine = np.eye(4)
    affine[:3, :3] = np.stack([row * between_columns_mm, column * between_rows_mm, normal * between_slices_mm], axis=1)
    first_mm = slices[0].position_mm
    affine[:3, 3] = first_mm + (heights_mm[0] - first_mm @ normal) * normal
    return DicomSeries(
        files=tuple(one.file.path for one in slices),
        shape=(int(header.Columns), int(header.Rows), len(slices)),
        spacing_mm=(between_columns_mm, between_rows_mm, between_slices_mm),
        affine=np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine,
        modality="CT",
        names=tuple(one.name for one in slices),
        values=tuple(StoredValues.of(one.header) for one in slices),
        pixels=tuple(one.pixels for one in slices),
        notes=tuple(notes),
    )
