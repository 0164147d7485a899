"""How much of which lesion: volumes in ml and infection in percent of the lung (Chen et al. 2020, Sec. I)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from custom_components.labels import IGNORE_LABEL, LESION_CLASSES
from custom_components.reports.display import Display, voxel_volume_ml

# Ground-glass and consolidation lie in the lung; pleural effusion lies outside it.
INFECTION_LABELS = (1, 2)

_PNG_NOTE = "A PNG file carries no pixel size: pixels are counted, volumes in ml are unknown."
_LUNG_NOTE = "No lung mask was given: the infected percent of the lung is unknown."
_EMPTY_LUNG_NOTE = "The lung mask is empty: the infected percent of the lung is unknown."


def lesion_volumes_ml(label: np.ndarray, affine: np.ndarray) -> dict[str, float]:
    """Volume of each lesion class.

    Args:
        label: label map, any shape (X, Y, Z).
        affine: voxel index to mm, shape (4, 4).

    Returns:
        Class name to volume in ml.

    Example:
        >>> lesion_volumes_ml(np.array([[[1, 1, 3, 0]]]), np.diag([10, 10, 10, 1]))
        {'ground_glass': 2.0, 'consolidation': 0.0, 'pleural_effusion': 1.0}
    """
    voxel_ml = voxel_volume_ml(affine)
    return {name: int(np.count_nonzero(label == value)) * voxel_ml for value, name in enumerate(LESION_CLASSES, 1)}


def infection_percent(label: np.ndarray, lung: np.ndarray) -> float:
    """Share of the lung that is ground-glass or consolidation.

    Only lesion inside the lung mask counts; pixels of label 255 (ignore) count neither as lung nor as lesion.

    Args:
        label: label map, any shape.
        lung: lung mask, not 0 in the lung, same shape.

    Returns:
        Percent, 0 to 100; NaN when the lung mask is empty.

    Raises:
        ValueError: when the shapes differ.

    Example:
        >>> infection_percent(np.array([1, 0, 2, 0, 3, 255]), np.array([1, 1, 1, 1, 0, 1]))
        50.0
    """
    if label.shape != lung.shape:
        raise ValueError(
            f"Expected label map and lung mask on one grid, got {label.shape} and {lung.shape}. Resample the lung mask."
        )
    counted = label[(lung != 0) & (label != IGNORE_LABEL)]
    return 100.0 * float(np.isin(counted, INFECTION_LABELS).mean()) if counted.size else math.nan


@dataclass(frozen=True)
class CaseLesions:
    """Arrays of one case, turned to the display: x to the patient's left, y to posterior, z to superior.

    Attributes:
        case_id: name of the case.
        image_hu: CT in HU, shape (X, Y, Z).
        label: predicted label map, shape (X, Y, Z).
        truth: true label map, shape (X, Y, Z), or None.
        lung: lung mask, shape (X, Y, Z), or None.
        file_shape: shape of the arrays in the file.
        display: how they were turned.
        has_spacing: whether the file says how large a voxel is, as PNG does not.
    """

    case_id: str
    image_hu: np.ndarray
    label: np.ndarray
    truth: np.ndarray | None
    lung: np.ndarray | None
    file_shape: tuple[int, ...]
    display: Display
    has_spacing: bool

    @classmethod
    def from_file_grid(
        cls,
        case_id: str,
        image_hu: np.ndarray,
        label: np.ndarray,
        affine: np.ndarray,
        truth: np.ndarray | None = None,
        lung: np.ndarray | None = None,
        has_spacing: bool = True,
    ) -> "CaseLesions":
        """Turn the arrays of a file, however it is stored, to the display.

        Args:
            case_id: name of the case.
            image_hu: CT in HU, shape (I, J, K) of the file.
            label: predicted label map, same shape.
            affine: voxel index to mm (RAS), shape (4, 4).
            truth: true label map, same shape.
            lung: lung mask, same shape.
            has_spacing: whether the affine's pixel size is known.

        Returns:
            The case.

        Raises:
            ValueError: when the arrays are not on one grid, or the prediction has a value that is no class.
        """
        _check_one_grid(case_id, {"CT": image_hu, "prediction": label, "label": truth, "lung mask": lung})
        label = _checked_label(case_id, label)
        display = Display(affine)
        turn, shape = display.turned, label.shape
        return cls(case_id, turn(image_hu), turn(label), turn(truth), turn(lung), shape, display, has_spacing)

    @property
    def slice_indices(self) -> range:
        """Index of each slice in the file's own order, length Z."""
        return self.display.slice_indices(self.file_shape)

    @cached_property
    def pixel_counts(self) -> np.ndarray:
        """Pixels of each slice, outside (0) and inside (1) the lung, of each label value: shape (Z, 2, 4)."""
        values = len(LESION_CLASSES) + 1
        code = self.label if self.lung is None else self.label + np.uint8(values) * (self.lung != 0)
        counts = [np.sum(code == value, axis=(0, 1)) for value in range(2 * values)]  # slice by slice is 10 x slower
        return np.stack(counts, axis=1).reshape(-1, 2, values)

    @property
    def lesion_pixels(self) -> np.ndarray:
        """Pixels of any lesion in each slice, shape (Z,)."""
        return self.pixel_counts[:, :, 1:].sum(axis=(1, 2))


def describe_lesions(case: CaseLesions) -> dict[str, Any]:
    """The report of a case as plain numbers and strings.

    Volumes are in ml, slice indices count from 0 along ``slice_axis`` in the order of the file. Infection is
    ground-glass and consolidation inside the lung; effusion lies outside the lung and has no percentage.

    Args:
        case: the case.

    Returns:
        What ``<case>_lesions.json`` holds below its head; None for what cannot be known.
    """
    by_slice = [_slice(case, z) for z in np.argsort(case.slice_indices).tolist()]
    return {
        "geometry": _geometry(case),
        "lesions": {name: _lesion(case, value) for value, name in enumerate(LESION_CLASSES, 1)},
        "lung": _lung(case),
        "infection_percent_of_lung": _infected_percent(case.pixel_counts.sum(axis=0)),
        "slices_with_lesions": [entry["index"] for entry in by_slice if any(entry["pixels"].values())],
        "slices": by_slice,
        "notes": _notes(case),
    }


def _check_one_grid(case_id: str, arrays: dict[str, np.ndarray | None]) -> None:
    shapes = {name: array.shape for name, array in arrays.items() if array is not None}
    if len(set(shapes.values())) > 1:
        found = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ValueError(
            f"Case {case_id}: expected all arrays on the grid of the CT file, got {found}. "
            "Invert the resampling of the prediction (Invertd) and leave the others as they are loaded."
        )


def _checked_label(case_id: str, label: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        small = label.astype(np.uint8)
    wrong = (small != label) | (small > len(LESION_CLASSES))
    if wrong.any():
        raise ValueError(
            f"Case {case_id}: prediction has value {label[wrong][0]:g} at {np.count_nonzero(wrong)} pixels. Expected 0 "
            "(background), 1 (ground-glass), 2 (consolidation) or 3 (pleural effusion). Turn class scores into a label "
            "map with AsDiscreted(argmax=True), and resample it with nearest neighbours."
        )
    return small


def _geometry(case: CaseLesions) -> dict[str, Any]:
    spacing_mm = case.display.file_spacing_mm if case.has_spacing else None
    return {"shape": list(case.file_shape), "spacing_mm": spacing_mm, "slice_axis": case.display.slice_axis}


def _volume_ml(case: CaseLesions, pixels: int) -> float | None:
    return pixels * case.display.voxel_ml if case.has_spacing else None


def _lesion(case: CaseLesions, value: int) -> dict[str, Any]:
    counts = case.pixel_counts.sum(axis=0)
    pixels = int(counts[:, value].sum())
    amount = {"pixels": pixels, "volume_ml": _volume_ml(case, pixels)}
    return {**amount, "percent_of_lung": _infected_percent(counts, (value,))} if value in INFECTION_LABELS else amount


def _lung(case: CaseLesions) -> dict[str, Any] | None:
    pixels = int(case.pixel_counts[:, 1].sum())
    return None if case.lung is None else {"pixels": pixels, "volume_ml": _volume_ml(case, pixels)}


def _slice(case: CaseLesions, z: int) -> dict[str, Any]:
    counts = case.pixel_counts[z]
    pixels = {name: int(counts[:, value].sum()) for value, name in enumerate(LESION_CLASSES, 1)}
    return {
        "index": case.slice_indices[z],
        "pixels": pixels,
        "volume_ml": {name: _volume_ml(case, number) for name, number in pixels.items()},
        "infection_percent_of_lung": _infected_percent(counts),
    }


def _infected_percent(counts: np.ndarray, values: Sequence[int] = INFECTION_LABELS) -> float | None:
    """Share of the lung that has these label values, from counts (2, 4); None without lung."""
    lung = int(counts[1].sum())
    return 100.0 * int(counts[1, list(values)].sum()) / lung if lung else None


def _notes(case: CaseLesions) -> list[str]:
    notes = [] if case.has_spacing else [_PNG_NOTE]
    if case.lung is None:
        return [*notes, _LUNG_NOTE]
    if not case.pixel_counts[:, 1].any():
        return [*notes, _EMPTY_LUNG_NOTE]
    outside = int(case.pixel_counts[:, 0, list(INFECTION_LABELS)].sum())
    if outside:
        notes.append(f"{outside} infected pixels lie outside the lung mask and are not part of the percentages.")
    return notes
