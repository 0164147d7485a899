"""Lesion volumes in ml and infection in percent of the lung (Chen et al. 2020, Sec. I)."""

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from custom_components.labels import IGNORE_LABEL, LESION_CLASSES
from custom_components.reports.display import Display, voxel_volume_ml

# Ground-glass and consolidation lie in the lung; pleural effusion lies outside it.
INFECTION_LABELS = (1, 2)

_PNG_NOTE = "PNG files have no pixel size: pixels are counted, volumes in ml are unknown."
_LUNG_NOTE = "No lung mask was given: the infected percentage of the lung is unknown."
_EMPTY_LUNG_NOTE = "The lung mask is empty: the infected percentage of the lung is unknown."


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
    """Percentage of the lung with ground-glass or consolidation.

    Only lesion inside the lung mask counts; pixels of label 255 (ignore) count neither as lung nor as lesion.

    Args:
        label: label map, any shape.
        lung: lung mask, not 0 in the lung, same shape.

    Returns:
        Percent, 0 to 100; NaN if the lung mask is empty.

    Raises:
        ValueError: if the shapes differ.

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


class CaseLesions:
    """Arrays of one case in display orientation: x to the patient's left, y to posterior, z to superior.

    Arguments have the file orientation, shape (I, J, K); attributes have the display orientation, shape (X, Y, Z).

    Args:
        case_id: name of the case.
        image_hu: CT in HU.
        label: predicted label map.
        affine: voxel index to mm (RAS), shape (4, 4).
        truth: true label map, or None.
        lung: lung mask, or None.
        has_spacing: whether the file stores a voxel size (PNG does not).

    Attributes:
        file_shape: (I, J, K).
        display: reorientation of the arrays.

    Raises:
        ValueError: if the arrays are not on one grid, or the prediction has a value that is not a class.
    """

    def __init__(
        self,
        case_id: str,
        image_hu: np.ndarray,
        label: np.ndarray,
        affine: np.ndarray,
        truth: np.ndarray | None = None,
        lung: np.ndarray | None = None,
        has_spacing: bool = True,
    ) -> None:
        _check_one_grid(case_id, {"CT": image_hu, "prediction": label, "label": truth, "lung mask": lung})
        self.case_id, self.file_shape, self.has_spacing = case_id, label.shape, has_spacing
        self.display = display = Display(affine)
        self.image_hu: np.ndarray = display.turned(image_hu)
        self.label: np.ndarray = display.turned(_checked_label(case_id, label))
        self.truth: np.ndarray | None = display.turned(truth)
        self.lung: np.ndarray | None = display.turned(lung)

    @property
    def slice_indices(self) -> range:
        """File index of each slice, length Z."""
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
    """Report of a case as plain numbers and strings.

    Volumes are in ml, slice indices count from 0 along ``slice_axis`` in the order of the file. Infection is
    ground-glass and consolidation inside the lung; effusion lies outside the lung and has no percentage.

    Args:
        case: the case.

    Returns:
        Content of ``<case>_lesions.json`` without its header; unknown values are None.
    """
    counts = case.pixel_counts.sum(axis=0)
    by_slice = [_slice(case, z) for z in np.argsort(case.slice_indices).tolist()]
    return {
        "geometry": {
            "shape": list(case.file_shape),
            "spacing_mm": case.display.file_spacing_mm if case.has_spacing else None,
            "slice_axis": case.display.slice_axis,
        },
        "lesions": {
            name: _amount(case, int(counts[:, value].sum()))
            | ({"percent_of_lung": _infected_percent(counts, (value,))} if value in INFECTION_LABELS else {})
            for value, name in enumerate(LESION_CLASSES, 1)
        },
        "lung": None if case.lung is None else _amount(case, int(counts[1].sum())),
        "infection_percent_of_lung": _infected_percent(counts),
        "slices_with_lesions": [entry["index"] for entry in by_slice if any(entry["pixels"].values())],
        "slices": by_slice,
        "notes": _notes(case, counts),
    }


def _check_one_grid(case_id: str, arrays: dict[str, np.ndarray | None]) -> None:
    shapes = {name: array.shape for name, array in arrays.items() if array is not None}
    if len(set(shapes.values())) > 1:
        found = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ValueError(
            f"Case {case_id}: expected all arrays on the grid of the CT file, got {found}. "
            "Invert the resampling of the prediction (Invertd) and do not resample the others."
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


def _amount(case: CaseLesions, pixels: int) -> dict[str, Any]:
    return {"pixels": pixels, "volume_ml": pixels * case.display.voxel_ml if case.has_spacing else None}


def _slice(case: CaseLesions, z: int) -> dict[str, Any]:
    counts = case.pixel_counts[z]
    amounts = {name: _amount(case, int(counts[:, value].sum())) for value, name in enumerate(LESION_CLASSES, 1)}
    return {
        "index": case.slice_indices[z],
        **{key: {name: amount[key] for name, amount in amounts.items()} for key in ("pixels", "volume_ml")},
        "infection_percent_of_lung": _infected_percent(counts),
    }


def _infected_percent(counts: np.ndarray, values: Sequence[int] = INFECTION_LABELS) -> float | None:
    """Percentage of the lung with these label values, from counts (2, 4); None without lung."""
    lung = int(counts[1].sum())
    return 100.0 * int(counts[1, list(values)].sum()) / lung if lung else None


def _notes(case: CaseLesions, counts: np.ndarray) -> list[str]:
    notes = [] if case.has_spacing else [_PNG_NOTE]
    outside = int(counts[0, list(INFECTION_LABELS)].sum())
    if case.lung is None:
        notes.append(_LUNG_NOTE)
    elif not counts[1].any():
        notes.append(_EMPTY_LUNG_NOTE)
    elif outside:
        notes.append(f"{outside} infected pixels are outside the lung mask and not included in the percentages.")
    return notes
